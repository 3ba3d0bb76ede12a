// Make and find elements. Text is only ever set as text, so nothing in it becomes markup.

function element(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(name, value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

function button(text, action, attributes = {}) {
  const node = element("button", { type: "button", ...attributes }, text);
  node.addEventListener("click", action);
  return node;
}

// A labelled choice. `options` are texts; `action` gets the position that was chosen.
function choice(label, options, chosen, action) {
  const id = newId("choice");
  const select = element("select", { id });
  options.forEach((text, index) => select.append(element("option", { value: index, selected: index === chosen }, text)));
  select.value = String(chosen);
  select.addEventListener("change", () => action(Number(select.value)));
  return labelled(label, select, id);
}

// A field with its label before it.
function labelled(label, field, id) {
  return element("span", { class: "field" }, element("label", { for: id }, label), field);
}

function searchField(action) {
  const id = newId("search");
  const field = element("input", { id, type: "search", autocomplete: "off", spellcheck: "false" });
  field.addEventListener("input", () => action(field.value.trim().toLowerCase()));
  return labelled("Name", field, id);
}

function checkbox(label, checked, action) {
  const box = element("input", { type: "checkbox" });
  box.checked = checked;
  box.addEventListener("change", () => action(box.checked));
  return element("label", { class: "check" }, box, " " + label);
}

let nextId = 0;
function newId(prefix) {
  nextId += 1;
  return `${prefix}-${nextId}`;
}

// Tell people who use a screen reader what has changed.
function say(text) {
  document.getElementById("says").textContent = text;
}

// Call a function when nothing has called it for a while, as while a window is being resized.
function later(action, milliseconds = 60) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...values), milliseconds);
  };
}

// The box beside the pointer, or beside what has the focus. `lines` are pairs of a name and a text.
function showTip(x, y, heading, lines) {
  const tip = document.getElementById("tip");
  const list = element("dl");
  for (const [name, text] of lines) list.append(element("dt", {}, name), element("dd", {}, text));
  tip.replaceChildren(element("strong", {}, heading), list);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  const left = x + 14 + box.width > innerWidth - 8 ? x - box.width - 14 : x + 14;
  const top = y + 14 + box.height > innerHeight - 8 ? y - box.height - 14 : y + 14;
  tip.style.left = `${Math.max(8, left)}px`;
  tip.style.top = `${Math.max(8, top)}px`;
}

function hideTip() {
  document.getElementById("tip").hidden = true;
}
