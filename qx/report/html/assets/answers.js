// What configs answer: quality by group, and which answers moved from one class to another.

// The row that plots of one config are about: the marked one, else the first of the table that has data.
function subjectOf(board, hasData) {
  if (board.marked !== null && hasData(board.marked)) return board.marked;
  return board.present.find(hasData) ?? board.workload.cells.findIndex((_, cell) => hasData(cell));
}

// A choice of a config that follows the marked row.
function configChoice(board, cells, chosen, action) {
  return choice("Config", cells.map((cell) => board.workload.cells[cell].name), Math.max(0, cells.indexOf(chosen)), (index) => action(cells[index]));
}

function drawGroups(board) {
  const place = board.view("groups");
  const { groups, columns, cells, baseline } = board.workload;
  if (!place) return;
  const state = { metric: 0, subject: null };
  const controls = element("div", { class: "controls" });
  const canvas = element("div", { class: "canvas" });
  place.append(controls, canvas);
  const hasData = (cell) => groups[state.metric].cells[cell] !== null && cell !== baseline;
  const redraw = () => {
    const candidates = cells.map((_, cell) => cell).filter(hasData);
    if (state.subject === null || !hasData(state.subject)) state.subject = subjectOf(board, hasData);
    controls.replaceChildren(
      choice("Metric", groups.map((plot) => columns[plot.column].title), state.metric, (value) => {
        state.metric = value;
        redraw();
      }),
      candidates.length ? configChoice(board, candidates, state.subject, (cell) => {
        state.subject = cell;
        redraw();
      }) : null);
    canvas.replaceChildren(...groupPlots(board, groups[state.metric], state.subject, place.clientWidth));
  };
  board.on("mark", () => {
    state.subject = board.marked;
  });
  keepDrawn(board, place, ["mark", "shown"], redraw);
}

function groupPlots(board, plotData, subject, width) {
  const nodes = [];
  const own = plotData.cells[subject];
  const neutral = board.workload.columns[plotData.column].compare === "difference" ? 0 : 1;
  if (own) nodes.push(groupChart(board, plotData, subject, Math.max(280, width)));
  if (!plotData.isWhole) nodes.push(element("p", { class: "quiet" }, "There are too many groups to show all: those that differ most from the baseline are shown."));
  const rows = rowsOf(board, (cell) => plotData.cells[cell] && cell !== board.workload.baseline, false);
  const differs = (cell) => plotData.cells[cell].change.middle.some((value) => value !== null && value !== neutral);
  if (rows.length > 1 && plotData.isWhole && plotData.names.length <= 60 && rows.some(differs)) nodes.push(groupHeatmap(board, plotData, rows, Math.max(280, width)));
  return nodes;
}

// One config: the value of each group beside the baseline's, and the paired difference with its interval.
function groupChart(board, plotData, subject, width) {
  const column = board.workload.columns[plotData.column];
  const own = plotData.cells[subject];
  const base = plotData.cells[board.workload.baseline];
  const { factor, unit } = changeScaleOf(column);
  const names = own.group.map((group) => plotData.names[group]);
  const chart = plot(width, names.length * ROW + 70, `${column.title} by group, ${board.workload.cells[subject].name} less the baseline`, { left: longestName(names, 220, width), right: 70, top: 10, bottom: 56 });
  const { inner } = chart;
  const scaled = (values) => values.map((value) => (value === null ? null : value * factor));
  const [middle, low, high] = [own.change.middle, own.change.low, own.change.high].map(scaled);
  const neutral = column.compare === "difference" ? 0 : 1;
  const x = makeScale([...middle, ...low, ...high, neutral].filter((value) => value !== null), [inner.left, inner.right], false);
  const y = (index) => inner.top + ROW / 2 + index * ROW;
  drawAxes(chart, x, null, [`${column.compare} from the baseline [${unit}], intervals corrected for all groups`]);
  const group = chart.svg.append("g");
  group.append("line").attr("class", "neutral").attr("x1", x(neutral)).attr("x2", x(neutral)).attr("y1", inner.top).attr("y2", inner.bottom);
  const valueScale = scaleOf(column);
  names.forEach((name, index) => {
    if (middle[index] === null) return;
    const isClear = own.p[index] !== null && own.p[index] <= 0.05;
    const mark = group.append("g").datum(index).attr("class", isClear ? "clear" : "");
    if (low[index] !== null) mark.append("line").attr("class", `bar ${board.colour(subject)}`).attr("x1", x(low[index])).attr("x2", x(high[index])).attr("y1", y(index)).attr("y2", y(index));
    mark.append("circle").attr("class", `point ${board.colour(subject)} ${isClear ? "full" : "hollow"}`).attr("cx", x(middle[index])).attr("cy", y(index)).attr("r", 5);
    drawRowValue(chart, `${significant(own.value.middle[index] * valueScale.factor)} ${valueScale.unit}`, y(index));
  });
  drawRowNames(chart, names, y);
  tipOn(group.selectAll("g"), (index) => names[index], (index) => {
    const place = base ? base.group.indexOf(own.group[index]) : -1;
    return [
      ["config", `${significant(own.value.middle[index] * valueScale.factor)} ${valueScale.unit}`],
      ["baseline", place < 0 ? "-" : `${significant(base.value.middle[place] * valueScale.factor)} ${valueScale.unit}`],
      [column.compare, `${signed(middle[index])} [${signed(low[index])}, ${signed(high[index])}] ${unit}`],
      ["p, corrected", own.p[index] === null ? "-" : significant(own.p[index], 2)],
      ["items", own.items[index] === null ? "-" : plural(own.items[index], "item")],
    ];
  });
  return element("figure", {}, element("figcaption", {}, `${board.workload.cells[subject].name}. Filled: different from the baseline beyond chance (p ≤ 0.05, corrected for all groups). On the right: the config's own value.`), chart.svg.node());
}

// All configs: the difference of each group as a colour, a dot where it is beyond chance.
function groupHeatmap(board, plotData, rows, width) {
  const column = board.workload.columns[plotData.column];
  const { factor, unit } = changeScaleOf(column);
  const { names } = plotData;
  const labels = rows.map((cell) => board.workload.cells[cell].name);
  const chart = plot(width, rows.length * ROW + 104, `${column.title} by group and config`, { left: longestName(labels, 250, width), right: 44, top: 94, bottom: 6 });
  const { inner } = chart;
  const step = (inner.right - inner.left) / names.length;
  const neutral = column.compare === "difference" ? 0 : 1;
  const differences = rows.flatMap((cell) => plotData.cells[cell].change.middle).filter((value) => value !== null).map((value) => Math.abs(value - neutral));
  const largest = d3.max(differences) || 1;
  const sign = directionOf(column, true) || 1;
  const y = (index) => inner.top + ROW / 2 + index * ROW;
  const group = chart.svg.append("g");
  const heads = chart.svg.append("g").attr("class", "axis").attr("aria-hidden", "true");
  names.forEach((name, index) => {
    if (step < 11 && index % Math.ceil(11 / step)) return;
    heads.append("text").attr("transform", `translate(${inner.left + (index + 0.5) * step},${inner.top - 6}) rotate(-50)`).text(shorten(name, 18));
  });
  rows.forEach((cell, row) => {
    const own = plotData.cells[cell];
    own.group.forEach((position, index) => {
      const value = own.change.middle[index];
      if (value === null) return;
      const isBetter = (value - neutral) * sign >= 0;
      const box = group.append("g").datum([cell, position, index]);
      box.append("rect").attr("class", isBetter ? "heat better" : "heat worse").attr("x", inner.left + position * step).attr("y", y(row) - ROW / 2 + 1).attr("width", Math.max(1, step - 1)).attr("height", ROW - 2)
        .attr("fill-opacity", Math.abs(value - neutral) / largest);
      if (own.p[index] !== null && own.p[index] <= 0.05) box.append("circle").attr("class", "dot").attr("cx", inner.left + (position + 0.5) * step).attr("cy", y(row)).attr("r", Math.min(3.5, step / 3));
    });
  });
  drawRowNames(chart, labels, y);
  tipOn(group.selectAll("g"), ([cell, position]) => `${board.workload.cells[cell].name}, ${names[position]}`, ([cell, , index]) => {
    const { change, p } = plotData.cells[cell];
    return [[column.compare, `${signed(change.middle[index] * factor)} [${signed(change.low[index] * factor)}, ${signed(change.high[index] * factor)}] ${unit}`], ["p, corrected", p[index] === null ? "-" : significant(p[index], 2)]];
  });
  return element("figure", {}, element("figcaption", {}, "All configs of the table. Blue: better than the baseline, orange: worse, the stronger the further. A dot: beyond chance. Rows are corrected by themselves."), chart.svg.node());
}

function drawAnswers(board) {
  const place = board.view("answers");
  const { answers, cells } = board.workload;
  if (!place) return;
  const state = { subject: null };
  const controls = element("div", { class: "controls" });
  const canvas = element("div", { class: "canvas" });
  place.append(controls, canvas);
  const hasData = (cell) => answers.cells[cell] !== null;
  const redraw = () => {
    if (state.subject === null || !hasData(state.subject)) state.subject = subjectOf(board, hasData);
    const candidates = cells.map((_, cell) => cell).filter(hasData);
    if (!candidates.length) return canvas.replaceChildren(element("p", { class: "quiet" }, "No other config has answers to compare."));
    controls.replaceChildren(configChoice(board, candidates, state.subject, (cell) => {
      state.subject = cell;
      redraw();
    }));
    return canvas.replaceChildren(...answerPlots(board, state.subject, place.clientWidth));
  };
  board.on("mark", () => {
    state.subject = board.marked;
  });
  keepDrawn(board, place, ["mark"], redraw);
}

function answerPlots(board, subject, width) {
  const { answers, cells } = board.workload;
  const own = answers.cells[subject];
  const judged = own.gained === null || !own.changed ? "" : ` By ${answers.judge}, ${own.gained.toLocaleString("en-US")} of them became right and ${own.lost.toLocaleString("en-US")} became wrong.`;
  const sentence = element("p", {}, `${cells[subject].name} answers ${plural(own.changed, "item")} of ${answers.items.toLocaleString("en-US")} differently (${percent(own.changed / answers.items)}).${judged}`);
  if (!own.changed) return [sentence];
  return [sentence, answers.classes.length <= 30 ? moveMatrix(board, own, width) : null, moveTable(answers, own)].filter(Boolean);
}

// From which class (rows, the baseline's answer) to which (columns, the config's) answers moved.
function moveMatrix(board, own, width) {
  const { classes } = board.workload.answers;
  const left = longestName(classes, 150, width);
  const step = Math.min(44, (width - left - 8) / classes.length);
  const chart = plot(left + step * classes.length + 8, step * classes.length + 104, "Answers by the baseline's class and the config's", { left, right: 8, top: 96, bottom: 8 });
  const { inner } = chart;
  const largest = d3.max(own.moves, (move) => move[2]) || 1;
  const place = (index) => (index + 0.5) * step;
  const group = chart.svg.append("g");
  classes.forEach((_, row) => classes.forEach((__, column) => {
    group.append("rect").attr("class", row === column ? "cell same" : "cell").attr("x", inner.left + column * step + 0.5).attr("y", inner.top + row * step + 0.5).attr("width", step - 1).attr("height", step - 1);
  }));
  const boxes = group.selectAll("g").data(own.moves).join("g");
  boxes.append("rect").attr("class", "heat worse").attr("x", ([, to]) => inner.left + to * step + 0.5).attr("y", ([from]) => inner.top + from * step + 0.5).attr("width", step - 1).attr("height", step - 1)
    .attr("fill-opacity", ([, , items]) => 0.15 + (0.7 * items) / largest);
  if (step >= 18) boxes.append("text").attr("class", "count").attr("x", ([, to]) => inner.left + place(to)).attr("y", ([from]) => inner.top + place(from)).attr("dy", "0.35em").attr("text-anchor", "middle").text(([, , items]) => items);
  const heads = chart.svg.append("g").attr("class", "axis").attr("aria-hidden", "true");
  classes.forEach((name, index) => heads.append("text").attr("transform", `translate(${inner.left + place(index)},${inner.top - 6}) rotate(-50)`).text(shorten(name, 14)));
  drawRowNames(chart, classes, (index) => inner.top + place(index));
  tipOn(boxes, ([from, to]) => `${classes[from]} → ${classes[to]}`, (move) => moveLines(own, move));
  return element("figure", {}, element("figcaption", {}, "Rows: what the baseline answers. Columns: what the config answers instead."), chart.svg.node());
}

function moveLines(own, [, , items, gained, lost]) {
  const lines = [["items", String(items)]];
  if (own.gained !== null) lines.push(["became right", String(gained)], ["became wrong", String(lost)], ["wrong before and after", String(items - gained - lost)]);
  return lines;
}

function moveTable(answers, own) {
  const columns = [
    { title: "baseline answers", lines: (row) => [answers.classes[own.moves[row][0]]], key: (row) => answers.classes[own.moves[row][0]] },
    { title: "config answers", lines: (row) => [answers.classes[own.moves[row][1]]], key: (row) => answers.classes[own.moves[row][1]] },
    ...["items", "became right", "became wrong"].map((title, index) => ({ title, isNumber: true, isLargestFirst: true, isHidden: index > 0 && own.gained === null, lines: (row) => [String(own.moves[row][index + 2])], key: (row) => own.moves[row][index + 2] })),
  ];
  const table = new Table("Answers that differ", columns, own.moves.map((_, index) => index));
  return element("details", {}, element("summary", {}, "As a table"), table.node);
}
