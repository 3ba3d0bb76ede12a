// Copy tables as Markdown or CSV. Names are foreign text: in Markdown they are escaped, and in CSV no cell
// begins with what a spreadsheet would take for a formula.

// The same characters that qx escapes in pareto.md; what would become a link by itself becomes code.
const MARKDOWN = /[\\`*[\]<>|~&$_]/g;
const LIVE = /:\/\/|www\.|@|#\d/i;

function escapeMarkdown(text) {
  return text.split(" ").map((word) => (LIVE.test(word) ? codeOf(word) : word.replace(MARKDOWN, "\\$&"))).join(" ");
}

function codeOf(text) {
  const longest = Math.max(0, ...[...text.matchAll(/`+/g)].map((run) => run[0].length));
  const fence = "`".repeat(longest + 1);
  const space = longest ? " " : "";
  return `${fence}${space}${text || " "}${space}${fence}`.replaceAll("|", "\\|");
}

function toMarkdown([header, ...rows]) {
  const line = (cells) => `| ${cells.join(" | ")} |`;
  return [
    line(header.map(escapeMarkdown)),
    line(header.map(() => "---")),
    ...rows.map((cells) => line(cells.map((text, index) => (index ? escapeMarkdown(text) : codeOf(text))))),
  ].join("\n") + "\n";
}

// Header and rows with a column for each number: value, low and high, and the same of the comparison.
function numbersOf(workload, table, columns) {
  const shown = columns.filter((column) => !column.isHidden);
  const header = shown.flatMap(({ title, column }) => (column
    ? [`${title} [${column.unit}]`, `${title} low`, `${title} high`, `${title} ${column.compare}`, `${title} ${column.compare} low`, `${title} ${column.compare} high`]
    : [title]));
  const rows = table.shown.map((row) => shown.flatMap(({ column, lines }) => (column
    ? [column.value, column.change].flatMap((own) => [own.middle[row], own.low[row], own.high[row]])
    : [lines(row)[0]])));
  return [header, ...rows];
}

function toCsv(rows) {
  return rows.map((cells) => cells.map(csvCell).join(",")).join("\r\n") + "\r\n";
}

function csvCell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const text = /^[=+\-@\t\r]./.test(value) ? `'${value}` : value;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

// Copy a text, in browsers that keep the clipboard from pages on a disk as well.
async function copy(text, what) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { class: "unseen", "aria-label": what });
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  say(`${what} is copied.`);
  showDone();
}

// Say beside the button that was pressed that it has worked.
function showDone() {
  const pressed = document.activeElement;
  if (pressed?.tagName !== "BUTTON" || pressed.dataset.text) return;
  pressed.dataset.text = pressed.textContent;
  pressed.textContent = "Copied";
  setTimeout(() => {
    pressed.textContent = pressed.dataset.text;
    delete pressed.dataset.text;
  }, 1200);
}
