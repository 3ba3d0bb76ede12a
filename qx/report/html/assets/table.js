// A table that can be sorted and filtered, whose columns can be chosen, and which can be copied.

const FRONT_ORDER = { yes: 0, perhaps: 1, no: 2, "": 3 };
const VERDICT_ORDER = { surely: 0, perhaps: 1, no: 2 };

// Compare two values for sorting; what is not there comes last either way.
function compareValues(a, b, direction) {
  if (a === null || b === null) return (a === null) - (b === null);
  if (typeof a === "string") return direction * a.localeCompare(b, "en", { numeric: true });
  return direction * (a - b);
}

// Rows that are drawn at first, so that a table of hundreds is sorted at once.
const FIRST_ROWS = 100;

// A column: `title`, `key(row)` to sort by, `lines(row)` to show, and whether larger values come first.
// `rows` are positions. `options` may have `action(row)` for the button in the first column.
class Table {
  constructor(label, columns, rows, options = {}) {
    this.columns = columns;
    this.rows = rows;
    this.shown = [...rows];
    this.sorted = null;
    this.isDescending = false;
    this.onChange = options.onChange || (() => {});
    this.body = element("tbody");
    this.drawsAll = rows.length <= FIRST_ROWS * 1.2;
    this.rest = button("", () => this.drawAll(), { class: "rest" });
    this.lines = new Map(rows.map((row) => [row, this.makeLine(row, options.action)]));
    this.heads = columns.map((column, index) => this.makeHead(column, index));
    this.box = element("div", { class: "scrolls", tabindex: "0", role: "region", "aria-label": label },
      element("table", { class: "figures" },
        element("caption", { class: "unseen" }, label),
        element("thead", {}, element("tr", {}, ...this.heads)), this.body));
    this.node = element("div", {}, this.box, this.rest);
    addEventListener("beforeprint", () => this.drawAll());
    columns.forEach((column, index) => {
      if (column.isHidden) this.toggle(index, false);
    });
    this.fill();
  }

  makeHead(column, index) {
    const head = element("th", { scope: "col", class: column.isNumber ? "number" : null, title: column.summary });
    head.append(button(column.title, () => this.sort(index), { class: "sort" }));
    return head;
  }

  makeLine(row, action) {
    const cells = this.columns.map((column, index) => {
      const lines = column.lines(row);
      const cell = element(index ? "td" : "th", { scope: index ? null : "row", class: [column.isNumber ? "number" : "", column.kind ? column.kind(row) : ""].join(" ").trim() || null });
      if (!index && action) cell.append(button(lines[0], () => action(row), { class: "row", "aria-pressed": "false" }));
      else cell.append(lines[0] ?? "");
      for (const line of lines.slice(1)) if (line) cell.append(element("small", {}, line));
      return cell;
    });
    return element("tr", { "data-row": row }, ...cells);
  }

  // Replace what a column shows of every row, as when limits have changed.
  refresh(index) {
    for (const [row, line] of this.lines) {
      const [first, ...rest] = this.columns[index].lines(row);
      line.cells[index].replaceChildren(first ?? "", ...rest.filter(Boolean).map((text) => element("small", {}, text)));
    }
  }

  sort(index, isDescending) {
    const column = this.columns[index];
    const wasSorted = this.sorted === index;
    this.isDescending = isDescending ?? (wasSorted ? !this.isDescending : Boolean(column.isLargestFirst));
    this.sorted = index;
    this.heads.forEach((head, position) => {
      if (position === index) head.setAttribute("aria-sort", this.isDescending ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    this.fill();
  }

  // Show only the rows for which `keeps` is true.
  filter(keeps) {
    this.keeps = keeps;
    this.fill();
  }

  fill() {
    let rows = this.rows.filter((row) => !this.keeps || this.keeps(row));
    if (this.sorted !== null) {
      const { key } = this.columns[this.sorted];
      const keys = new Map(rows.map((row) => [row, key(row)]));
      const direction = this.isDescending ? -1 : 1;
      rows = rows.sort((a, b) => compareValues(keys.get(a), keys.get(b), direction));
    }
    this.shown = rows;
    this.draw();
    this.onChange(rows);
  }

  draw() {
    const drawn = this.drawsAll ? this.shown : this.shown.slice(0, FIRST_ROWS);
    this.body.replaceChildren(...drawn.map((row) => this.lines.get(row)));
    this.rest.hidden = drawn.length === this.shown.length;
    this.rest.textContent = `Show all ${this.shown.length} rows`;
  }

  drawAll() {
    if (this.drawsAll) return;
    this.drawsAll = true;
    this.draw();
  }

  toggle(index, isShown) {
    this.columns[index].isHidden = !isShown;
    this.heads[index].hidden = !isShown;
    for (const line of this.lines.values()) line.cells[index].hidden = !isShown;
  }

  mark(row) {
    for (const [other, line] of this.lines) {
      const isMarked = other === row;
      line.classList.toggle("marked", isMarked);
      line.querySelector("button.row")?.setAttribute("aria-pressed", String(isMarked));
    }
    // Only the table's own box is scrolled: the reader may be looking at a plot.
    const line = this.lines.get(row);
    if (line && !line.isConnected && this.shown.includes(row)) this.drawAll();
    if (line?.isConnected) this.box.scrollTop = line.offsetTop - this.box.clientHeight / 2;
  }

  // Header and rows as texts, for copying.
  texts() {
    const columns = this.columns.filter((column) => !column.isHidden);
    return [columns.map((column) => column.title), ...this.shown.map((row) => columns.map((column) => column.lines(row).filter(Boolean).join(", ")))];
  }

  chooser() {
    const boxes = this.columns.map((column, index) => (index ? checkbox(column.title, !column.isHidden, (isShown) => this.toggle(index, isShown)) : null));
    return element("details", { class: "chooser" }, element("summary", {}, "Columns"), element("div", { class: "controls" }, ...boxes));
  }
}

function drawTable(board) {
  const place = board.view("table");
  if (!place) return;
  const { cells } = board.workload;
  const columns = [
    { title: "config", lines: (row) => [cells[row].name, cells[row].options, ...cells[row].remarks], key: (row) => cells[row].name },
    { title: "front", lines: (row) => [cells[row].front || "-"], key: (row) => FRONT_ORDER[cells[row].front] - (cells[row].probability || 0) / 2, kind: (row) => `front-${cells[row].front}` },
    ...board.workload.columns.map(figureColumn),
    { title: "runtime", lines: (row) => [cells[row].runtime || "-"], key: (row) => cells[row].runtime || null },
    { title: "outcome", lines: (row) => [cells[row].outcome], key: (row) => cells[row].outcome, kind: (row) => (cells[row].outcome === "ok" ? "" : "bad") },
    { title: "build", lines: (row) => [cells[row].build], key: (row) => parseFloat(cells[row].build) || null, isHidden: true },
    { title: "limits", lines: (row) => [board.verdicts ? board.verdicts[row] : "-"], key: (row) => (board.verdicts ? VERDICT_ORDER[board.verdicts[row]] : null), isHidden: true },
  ];
  const count = element("span", { class: "count", role: "status" });
  const table = new Table("All figures", columns, orderOf(board.workload), {
    action: (row) => board.mark(row),
    onChange: (rows) => {
      count.textContent = `${rows.length} of ${plural(cells.length, "row")}`;
      board.show(rows);
    },
  });
  const limits = columns.length - 1;
  const filters = filtersOf(board, table);
  board.on("mark", () => table.mark(board.marked));
  board.on("limits", () => {
    table.toggle(limits, board.verdicts !== null);
    table.refresh(limits);
    filters.apply();
  });
  place.append(
    filters.node,
    element("div", { class: "controls" }, count, button("Copy as Markdown", () => copy(toMarkdown(table.texts()), "The table")),
      button("Copy as CSV", () => copy(toCsv(numbersOf(board.workload, table, columns)), "The table"))),
    table.chooser(),
    table.node,
  );
}

function figureColumn(column) {
  const direction = directionOf(column, false);
  return {
    column,
    title: column.title,
    summary: column.summary,
    isNumber: true,
    isHidden: column.isDerived,
    isLargestFirst: direction > 0,
    key: (row) => column.value.middle[row],
    lines: (row) => [column.text[row], column.changeText[row], column.runtimeText[row], column.buildsText[row]],
    kind: (row) => (column.isClear[row] === false ? "unclear" : ""),
  };
}

// The rows to begin with: the front first, then by speed, then what has no figures.
function orderOf(workload) {
  const speed = workload.axes.map((index) => workload.columns[index]).find((column) => column.compare === "speedup")
    || workload.columns[workload.axes[0]] || workload.columns[0];
  const direction = speed ? -directionOf(speed, false) || 1 : 1;
  const rank = (cell) => FRONT_ORDER[workload.cells[cell].front];
  return workload.cells.map((_, cell) => cell).sort((a, b) => rank(a) - rank(b)
    || (speed ? compareValues(speed.value.middle[a], speed.value.middle[b], direction) : 0));
}

function filtersOf(board, table) {
  const { cells } = board.workload;
  const wanted = { text: "", runtime: "", outcome: "", front: "", limits: "" };
  const values = (key) => [...new Set(cells.map((cell) => cell[key]))].filter(Boolean).sort();
  const apply = () => table.filter((row) => {
    const cell = cells[row];
    return (!wanted.text || cell.name.toLowerCase().includes(wanted.text))
      && (!wanted.runtime || cell.runtime === wanted.runtime)
      && (!wanted.outcome || cell.outcome === wanted.outcome)
      && (!wanted.front || (wanted.front === "not judged" ? !cell.isJudged : cell.isJudged && cell.front === wanted.front))
      && (!wanted.limits || !board.verdicts || (wanted.limits === "surely" ? board.verdicts[row] === "surely" : board.verdicts[row] !== "no"));
  });
  const filter = (label, key, options) => choice(label, ["all", ...options], 0, (index) => {
    wanted[key] = index ? options[index - 1] : "";
    apply();
  });
  const search = searchField((text) => {
    wanted.text = text;
    apply();
  });
  const node = element("div", { class: "controls" },
    search,
    filter("Runtime", "runtime", values("runtime")),
    filter("Outcome", "outcome", values("outcome")),
    filter("Front", "front", ["yes", "perhaps", "no", "not judged"]),
    filter("Limits", "limits", ["surely", "perhaps"]));
  return { node, apply };
}
