// The page of `qx compare`: what changed from the base to each other run.

const VERDICTS = ["worse", "better", "changed", "gone", "new", "not comparable", "same?", "same"];

function drawComparison(data) {
  const root = document.getElementById("main");
  const changes = root.querySelector('[data-view="changes"]');
  const board = new Board({ cells: data.rows.map(() => ({})), columns: [] }, root);
  const state = { run: 0, keeps: () => true };
  const columns = [
    { title: "config", lines: (row) => [data.rows[row].name], key: (row) => data.rows[row].name },
    { title: "metric", lines: (row) => data.rows[row].subject, key: (row) => data.rows[row].subject.join(" ") },
    { title: `${data.labels[0]} (base)`, isNumber: true, lines: (row) => [data.rows[row].base], key: (row) => parseFloat(data.rows[row].base) || null },
    ...data.labels.slice(1).map((label, run) => ({
      title: label,
      isNumber: true,
      lines: (row) => data.rows[row].runs[run]?.lines || ["-"],
      key: (row) => (data.rows[row].runs[run] ? VERDICTS.indexOf(data.rows[row].runs[run].verdict) : null),
      kind: (row) => `verdict-${(data.rows[row].runs[run]?.verdict || "none").replace(/\W+/g, "-")}`,
    })),
  ];
  const count = element("span", { class: "count", role: "status" });
  const table = new Table("All changes", columns, data.rows.map((_, index) => index), {
    action: (row) => {
      board.mark(row);
      table.mark(board.marked);
    },
    onChange: (rows) => {
      count.textContent = `${rows.length} of ${plural(data.rows.length, "row")}`;
      board.show(rows);
    },
  });
  changes.append(comparisonFilters(data, table), element("div", { class: "controls" }, count, button("Copy as Markdown", () => copy(toMarkdown(table.texts()), "The table")), button("Copy as CSV", () => copy(toCsv(table.texts()), "The table"))), table.node);
  drawForest(board, data, state);
}

function comparisonFilters(data, table) {
  const wanted = { verdict: "", metric: "", text: "" };
  const metrics = [...new Set(data.rows.map((row) => row.subject[0]))];
  const apply = () => table.filter((index) => {
    const row = data.rows[index];
    return (!wanted.verdict || row.runs.some((run) => run?.verdict === wanted.verdict))
      && (!wanted.metric || row.subject[0] === wanted.metric)
      && (!wanted.text || row.name.toLowerCase().includes(wanted.text));
  });
  const filter = (label, key, options) => choice(label, ["all", ...options], 0, (index) => {
    wanted[key] = index ? options[index - 1] : "";
    apply();
  });
  const search = searchField((text) => {
    wanted.text = text;
    apply();
  });
  const present = VERDICTS.filter((verdict) => data.rows.some((row) => row.runs.some((run) => run?.verdict === verdict)));
  return element("div", { class: "controls" }, search, filter("Metric", "metric", metrics), filter("Verdict", "verdict", present));
}

// Changes with their intervals, of one run and one unit at a time.
function drawForest(board, data, state) {
  const place = board.root.querySelector('[data-view="forest"]');
  const order = ["speedup", "ratio", "difference", "agreeing"];
  const kinds = [...new Set(data.rows.flatMap((row) => row.runs.filter((run) => run?.kind).map((run) => `${run.kind}\n${run.unit}`)))]
    .sort((a, b) => order.indexOf(a.split("\n")[0]) - order.indexOf(b.split("\n")[0]));
  if (!place || !kinds.length) return;
  state.kind = 0;
  const canvas = element("div", { class: "canvas" });
  const redraw = () => drawForestRows(board, canvas, data, state, kinds[state.kind].split("\n"));
  const runs = data.labels.slice(1);
  place.append(element("div", { class: "controls" },
    runs.length > 1 ? choice("Run", runs, 0, (value) => {
      state.run = value;
      redraw();
    }) : null,
    choice("Changes by", kinds.map((kind) => kind.replace("agreeing", "equal answers").replace("\n", " in ")), 0, (value) => {
      state.kind = value;
      redraw();
    })), canvas);
  keepDrawn(board, canvas, ["shown", "mark"], redraw);
}

function drawForestRows(board, canvas, data, state, [kind, unit]) {
  const has = (row) => data.rows[row].runs[state.run]?.kind === kind && data.rows[row].runs[state.run].unit === unit;
  const all = board.shown.filter(has);
  const rows = all.slice(0, 60);
  const width = Math.max(280, canvas.clientWidth);
  const names = rows.map((row) => `${data.rows[row].name}, ${data.rows[row].subject.join(" ")}`);
  if (!rows.length) return canvas.replaceChildren(element("p", { class: "quiet" }, "No row of the table has such a change."));
  const chart = plot(width, rows.length * ROW + 66, `Changes by ${kind}`, { left: longestName(names, 380, width), right: 14, top: 6, bottom: 56 });
  const { inner } = chart;
  const changes = rows.map((row) => data.rows[row].runs[state.run]);
  // The value of no change.
  const neutral = { difference: 0, agreeing: 100 }[kind] ?? 1;
  const isRatio = kind === "ratio" || kind === "speedup";
  const values = changes.flatMap((change) => [change.value, change.low, change.high]).filter((value) => value !== null);
  const x = makeScale([...values, neutral], [inner.left, inner.right], isRatio && Math.min(...values) > 0);
  const y = (index) => inner.top + ROW / 2 + index * ROW;
  drawAxes(chart, x, null, [`${kind.replace("agreeing", "equal answers")} from ${data.labels[0]} to ${data.labels[state.run + 1]} [${unit}]`]);
  const group = chart.svg.append("g");
  group.append("line").attr("class", "neutral").attr("x1", x(neutral)).attr("x2", x(neutral)).attr("y1", inner.top).attr("y2", inner.bottom);
  changes.forEach((change, index) => {
    const mark = group.append("g").datum(index).attr("class", `verdict-${change.verdict.replace(/\W+/g, "-")}`);
    if (rows[index] === board.marked) mark.append("rect").attr("class", "stripe").attr("x", 0).attr("width", width).attr("y", y(index) - ROW / 2).attr("height", ROW);
    if (change.low !== null) mark.append("line").attr("class", "bar").attr("x1", x(change.low)).attr("x2", x(change.high)).attr("y1", y(index)).attr("y2", y(index));
    mark.append("circle").attr("class", "point full").attr("cx", x(change.value)).attr("cy", y(index)).attr("r", 5);
  });
  tipOn(group.selectAll("g"), (index) => names[index], (index) => [["base", data.rows[rows[index]].base], ...changes[index].lines.map((line) => ["", line])]);
  drawRowNames(chart, names, y);
  return canvas.replaceChildren(chart.svg.node(), element("p", { class: "quiet" }, all.length > rows.length ? `${rows.length} of ${all.length} rows are shown.` : ""));
}
