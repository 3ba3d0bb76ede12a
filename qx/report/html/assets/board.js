// What the parts of a page about one workload share: which row is marked, which rows the table shows, and
// which of them meet the reader's limits. Parts call `on` to hear of changes and never call each other.

class Board {
  constructor(workload, root) {
    this.workload = workload;
    this.root = root;
    this.marked = null;
    this.shown = workload.cells.map((_, cell) => cell);
    // For each cell "surely", "perhaps" or "no"; null without limits.
    this.verdicts = null;
    this.listeners = new Map();
    this.runtimes = [...new Set(workload.cells.map((cell) => cell.runtime))].filter(Boolean);
  }

  on(event, listener) {
    this.listeners.set(event, [...(this.listeners.get(event) || []), listener]);
  }

  emit(event) {
    for (const listener of this.listeners.get(event) || []) listener();
  }

  // Mark a row everywhere, or unmark it where it is marked already.
  mark(cell) {
    this.marked = this.marked === cell ? null : cell;
    this.emit("mark");
    if (this.marked !== null) say(`${this.workload.cells[cell].name} is marked.`);
  }

  show(cells) {
    this.shown = cells;
    this.emit("shown");
  }

  judge(verdicts) {
    this.verdicts = verdicts;
    this.emit("limits");
  }

  view(name) {
    return this.root.querySelector(`[data-view="${name}"]`);
  }

  // The class that gives a runtime its colour.
  colour(cell) {
    const index = this.runtimes.indexOf(this.workload.cells[cell].runtime);
    return `r${index < 0 ? "x" : index % 8}`;
  }

  // The shape of a runtime: colour alone would not tell them apart for everybody.
  shape(cell) {
    const index = this.runtimes.indexOf(this.workload.cells[cell].runtime);
    return index < 0 ? d3.symbolCross : SHAPES[index % SHAPES.length];
  }

  // The rows that ended well, in the order of the table.
  get present() {
    return this.shown.filter((cell) => this.workload.cells[cell].outcome === "ok");
  }

  // The lines of the box beside a row: its figures, and its place.
  lines(cell) {
    const row = this.workload.cells[cell];
    const lines = [];
    if (row.runtime) lines.push(["runtime", row.runtime]);
    if (row.options) lines.push(["options", row.options]);
    for (const column of this.workload.columns) lines.push([column.title, figureText(column, cell)]);
    lines.push(["on the front", frontText(row)], ["why", row.why]);
    return lines;
  }
}

const SHAPES = [
  d3.symbolCircle, d3.symbolSquare, d3.symbolTriangle, d3.symbolDiamond,
  d3.symbolStar, d3.symbolWye, d3.symbolCross, d3.symbolDiamond2,
].filter(Boolean);

function frontText(row) {
  if (!row.isJudged) return "not judged";
  const share = row.probability === null ? "" : ` (${significant(100 * row.probability, 3)} of 100 resampled runs)`;
  return row.front + share;
}
