// Limits that a reader sets on figures: which configs meet them surely, and which may.

// Metrics that are compared by difference are limited against the baseline (at most 0.5 points worse), all
// others by their value (at most 2 ms).
function limitsOf(workload) {
  const axes = workload.axes.map((index) => workload.columns[index]);
  const others = workload.columns.filter((column) => !axes.includes(column) && !column.isDerived);
  return [...axes, ...others].filter((column) => column.better !== "neither").map((column) => {
    const isChange = column.compare === "difference" && column.change.middle.some((value) => value !== null);
    const quantity = new Quantity(workload, column, isChange);
    return { quantity, isAxis: axes.includes(column), bound: null, domain: domainOf(workload, quantity) };
  }).filter((limit) => limit.domain);
}

function domainOf(workload, quantity) {
  const cells = workload.cells.map((_, cell) => cell).filter((cell) => quantity.has(cell));
  const values = cells.flatMap((cell) => quantity.ends(cell));
  if (!values.length) return null;
  const [low, high] = d3.extent(values);
  return quantity.isChange ? [Math.min(low, 0), Math.max(high, 0)] : [low, high];
}

// How a row stands to a limit. `bound` is a loss against the baseline where the metric is compared by
// difference, else a value.
function verdictOf(limit, cell) {
  const { quantity, bound } = limit;
  if (bound === null) return "surely";
  if (!quantity.has(cell)) return "no";
  const edge = quantity.isChange ? -quantity.direction * bound : bound;
  const holds = (value) => (quantity.direction > 0 ? value >= edge : value <= edge);
  const ends = quantity.ends(cell);
  if (quantity.low[cell] === null) return holds(quantity.middle[cell]) ? "perhaps" : "no";
  if (ends.every(holds)) return "surely";
  return ends.some(holds) ? "perhaps" : "no";
}

function judgeAll(limits, cell) {
  const verdicts = limits.map((limit) => verdictOf(limit, cell));
  if (verdicts.includes("no")) return "no";
  return verdicts.includes("perhaps") ? "perhaps" : "surely";
}

function drawLimits(board) {
  const place = board.view("limits");
  if (!place) return;
  const limits = limitsOf(board.workload);
  const result = element("div", { class: "verdicts" });
  const update = () => {
    const isLimited = limits.some((limit) => limit.bound !== null);
    const { cells } = board.workload;
    board.judge(isLimited ? cells.map((cell, index) => (cell.outcome === "ok" ? judgeAll(limits, index) : "no")) : null);
    result.replaceChildren(...verdictLists(board, limits));
  };
  const sliders = limits.map((limit) => ({ limit, ...sliderOf(limit, update) }));
  const list = (chosen) => element("div", { class: "sliders" }, ...chosen.map((slider) => slider.node));
  const others = sliders.filter((slider) => !slider.limit.isAxis);
  place.append(...[
    list(sliders.filter((slider) => slider.limit.isAxis)),
    others.length ? element("details", {}, element("summary", {}, "More limits"), list(others)) : null,
    element("p", { class: "controls" }, button("No limits", () => {
      sliders.forEach((slider) => slider.clear());
      update();
    })),
    result,
  ].filter(Boolean));
  result.replaceChildren(...verdictLists(board, limits));
}

const STEPS = 200;

// A slider and a field for one limit. The end of the slider that allows everything is no limit.
function sliderOf(limit, update) {
  const { quantity, domain } = limit;
  const isLoss = quantity.isChange;
  const most = isLoss ? Math.max(...domain.map(Math.abs), 1e-9) : null;
  const isLog = !isLoss && quantity.isRatio && domain[0] > 0;
  const scale = isLoss ? d3.scalePow([0, STEPS], [0, most * 1.05]).exponent(0.5)
    : (isLog ? d3.scaleLog(domain.map((end, index) => end * (index ? 1.02 : 0.98)), [0, STEPS]) : d3.scaleLinear(domain, [0, STEPS]));
  const valueAt = (step) => (isLoss ? most * 1.05 * (step / STEPS) ** 2 : scale.invert(step));
  const stepAt = (value) => (isLoss ? STEPS * Math.sqrt(Math.max(0, value) / (most * 1.05)) : scale(value));
  const isUpper = isLoss || quantity.direction < 0;
  const open = isUpper ? STEPS : 0;
  const words = isLoss ? `${quantity.column.title}: a loss of at most` : `${quantity.column.title}: at ${isUpper ? "most" : "least"}`;
  const unit = isLoss ? `${quantity.unit} against the baseline` : quantity.unit;
  const id = newId("limit");
  const range = element("input", { type: "range", min: 0, max: STEPS, value: open, "aria-label": `${words} (${unit})` });
  const field = element("input", { type: "number", step: "any", id, placeholder: "any" });
  const set = (value) => {
    limit.bound = value;
    range.setAttribute("aria-valuetext", value === null ? "no limit" : `${significant(value)} ${unit}`);
    update();
  };
  range.addEventListener("input", () => {
    const value = Number(range.value) === open ? null : Number(valueAt(Number(range.value)).toPrecision(3));
    field.value = value === null ? "" : String(value);
    set(value);
  });
  field.addEventListener("input", () => {
    const value = field.value === "" || !Number.isFinite(Number(field.value)) ? null : Number(field.value);
    range.value = String(value === null ? open : stepAt(value));
    set(value);
  });
  const clear = () => {
    limit.bound = null;
    field.value = "";
    range.value = String(open);
  };
  range.setAttribute("aria-valuetext", "no limit");
  const node = element("div", { class: "slider" }, element("label", { for: id }, words), range, element("span", { class: "bound" }, field, " " + unit));
  return { node, clear };
}

// What meets the limits, the front first, and what may.
function verdictLists(board, limits) {
  const { cells } = board.workload;
  if (!board.verdicts) return [element("p", { class: "quiet" }, "No limit is set.")];
  const active = limits.filter((limit) => limit.bound !== null);
  const order = orderOf(board.workload);
  const lists = [["surely", "Surely within the limits"], ["perhaps", "Perhaps: an interval reaches beyond a limit"]];
  const blocks = lists.map(([verdict, heading]) => {
    const members = order.filter((cell) => board.verdicts[cell] === verdict);
    const list = element("ul");
    for (const cell of members.slice(0, 12)) {
      const doubtful = active.filter((limit) => verdictOf(limit, cell) === "perhaps").map((limit) => limit.quantity.column.title);
      const figures = active.map(({ quantity }) => `${quantity.column.title} ${quantity.isChange ? quantity.column.changeText[cell] || quantity.column.text[cell] : quantity.column.text[cell]}`);
      const front = cells[cell].front === "yes" ? ", on the front" : "";
      list.append(element("li", {}, button(cells[cell].name, () => board.mark(cell), { class: "row" }), ` ${figures.join("; ")}${front}`, doubtful.length ? ` (in doubt: ${doubtful.join(", ")})` : ""));
    }
    if (members.length > 12) list.append(element("li", {}, `and ${members.length - 12} more: see the table`));
    return element("div", { "data-verdict": verdict }, element("h3", {}, `${heading} (${members.length})`), members.length ? list : element("p", { class: "quiet" }, "None."));
  });
  say(`${board.verdicts.filter((verdict) => verdict === "surely").length} surely within the limits.`);
  return blocks;
}
