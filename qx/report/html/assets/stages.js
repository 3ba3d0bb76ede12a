// Details of metrics stage by stage (start-up, memory) and layer by layer (bits of weights).

function drawStages(board) {
  const place = board.view("stages");
  const { stages, columns } = board.workload;
  if (!place) return;
  const plots = stages.map((data) => {
    const state = { field: data.best };
    const canvas = element("div", { class: "canvas" });
    const redraw = () => drawStageRows(board, canvas, data, state);
    const fields = data.fields.map((field) => field.name || "value");
    const controls = fields.length > 1 ? element("div", { class: "controls" }, choice("Part", fields, state.field, (value) => {
      state.field = value;
      redraw();
    })) : null;
    place.append(element("h3", {}, columns[data.column].title), element("p", { class: "quiet" }, columns[data.column].summary), ...[controls, canvas].filter(Boolean));
    return { canvas, redraw };
  });
  for (const { canvas, redraw } of plots) keepDrawn(board, canvas, ["shown", "mark"], redraw);
}

// Stages that add up are stacked; others are levels, a dot for each.
function drawStageRows(board, canvas, data, state) {
  const field = data.fields[state.field];
  const column = board.workload.columns[data.column];
  const rows = rowsOf(board, (cell) => field.values[cell], false);
  const width = Math.max(280, canvas.clientWidth);
  const names = rows.map((cell) => board.workload.cells[cell].name);
  const isValue = state.field === data.best || field.isSum;
  const unit = isValue || data.fields.length < 2 ? column.unit : "";
  const chart = plot(width, rows.length * ROW + 66, `${column.title} by stage`, { left: longestName(names, 250, width), right: isValue ? 96 : 14, top: 6, bottom: 56 });
  const { inner } = chart;
  const totals = rows.map((cell) => (field.isSum ? d3.sum(field.values[cell]) : d3.max(field.values[cell])));
  const x = d3.scaleLinear([0, (d3.max(totals) || 1) * 1.03], [inner.left, inner.right]);
  const y = (index) => inner.top + ROW / 2 + index * ROW;
  drawAxes(chart, x, null, [unit ? `[${unit}]` : field.name]);
  const group = chart.svg.append("g");
  const stageClass = (stage) => `stage s${stage % 8}`;
  rows.forEach((cell, index) => {
    let start = 0;
    const values = field.values[cell];
    if (isValue) drawRowValue(chart, column.text[cell], y(index));
    if (cell === board.marked) group.append("rect").attr("class", "stripe").attr("x", 0).attr("width", width).attr("y", y(index) - ROW / 2).attr("height", ROW);
    if (!field.isSum) group.append("line").attr("class", "neutral").attr("x1", x(0)).attr("x2", x(d3.max(values))).attr("y1", y(index)).attr("y2", y(index));
    values.forEach((value, stage) => {
      if (value === null) return;
      const mark = field.isSum
        ? group.append("rect").attr("x", x(start)).attr("width", Math.max(0, x(start + value) - x(start))).attr("y", y(index) - 7).attr("height", 14)
        : group.append("circle").attr("cx", x(value)).attr("cy", y(index)).attr("r", 5);
      mark.datum([cell, stage]).attr("class", stageClass(stage));
      start += value;
    });
  });
  tipOn(group.selectAll(".stage"), ([cell]) => board.workload.cells[cell].name, ([cell]) => [
    ...data.stages.map((name, stage) => [name, field.values[cell][stage] === null ? "-" : `${significant(field.values[cell][stage])} ${unit}`]),
    [column.title, column.text[cell]],
  ]);
  drawRowNames(chart, names, y);
  const legend = element("ul", { class: "legend" }, ...data.stages.map((name, stage) => element("li", {}, symbolIcon(field.isSum ? d3.symbolSquare : d3.symbolCircle, stageClass(stage)), " " + name)));
  canvas.replaceChildren(legend, chart.svg.node(), moreRows(board, rows.length, (cell) => field.values[cell]));
}

function drawLayers(board) {
  const place = board.view("layers");
  const { layers, columns } = board.workload;
  if (!place) return;
  const plots = layers.map((data) => {
    const canvas = element("div", { class: "canvas" });
    place.append(element("h3", {}, columns[data.column].title), element("p", { class: "quiet" }, "Each row is what one config stores, each box a layer, as wide as its share of the weights. The stronger its colour, the fewer its bits."), canvas);
    return { canvas, redraw: () => drawLayerRows(board, canvas, data) };
  });
  for (const { canvas, redraw } of plots) keepDrawn(board, canvas, ["shown", "mark"], redraw);
}

// Class of a kind of weight by its bits, so that fewer bits have a stronger colour whatever runtime stores them.
function bitsClass(bits) {
  if (bits <= 4) return "b4";
  if (bits <= 8) return "b8";
  return bits <= 16 ? "b16" : "b32";
}

function drawLayerRows(board, canvas, data) {
  const rows = rowsOf(board, (cell) => data.cells[cell] !== null, false);
  const width = Math.max(280, canvas.clientWidth);
  const names = rows.map((cell) => board.workload.cells[cell].name);
  const column = board.workload.columns[data.column];
  const chart = plot(width, rows.length * ROW + 60, `${column.title} by layer`, { left: longestName(names, 250, width), right: 14, top: 6, bottom: 50 });
  const { inner } = chart;
  const x = d3.scaleLinear([0, 100], [inner.left, inner.right]);
  const y = (index) => inner.top + ROW / 2 + index * ROW;
  drawAxes(chart, x, null, ["share of the weights that are stored [%]"]);
  const group = chart.svg.append("g");
  rows.forEach((cell, index) => {
    const list = data.lists[data.cells[cell]];
    const total = d3.sum(list, (layer) => layer[1]) || 1;
    let start = 0;
    if (cell === board.marked) group.append("rect").attr("class", "stripe").attr("x", 0).attr("width", width).attr("y", y(index) - ROW / 2).attr("height", ROW);
    for (const layer of list) {
      const share = (100 * layer[1]) / total;
      const [bits] = data.kinds[layer[2]];
      group.append("rect").datum([cell, layer, share]).attr("class", `layer ${bitsClass(bits)}`).attr("x", x(start)).attr("width", Math.max(0.4, x(start + share) - x(start) - 0.8)).attr("y", y(index) - 8).attr("height", 16);
      start += share;
    }
  });
  tipOn(group.selectAll(".layer"), ([, layer]) => layer[0], ([cell, layer, share]) => {
    const [bits, type] = data.kinds[layer[2]];
    return [["config", board.workload.cells[cell].name], ["bits", `${bits} (${type || "type not known"})`], ["elements", layer[1].toLocaleString("en-US")], ["share of the weights", `${significant(share)} %`]];
  });
  drawRowNames(chart, names, y);
  const present = [...new Set(data.kinds.map(([bits]) => bits))].sort((a, b) => a - b);
  const legend = element("ul", { class: "legend" }, ...present.map((bits) => element("li", {}, symbolIcon(d3.symbolSquare, `layer ${bitsClass(bits)}`), ` ${bits} bits`)));
  canvas.replaceChildren(legend, chart.svg.node(), layerTable(board, data, rows), moreRows(board, rows.length, (cell) => data.cells[cell] !== null));
}

// The layers of one config as a table: of the marked one, else of the first.
function layerTable(board, data, rows) {
  const subject = rows.includes(board.marked) ? board.marked : rows[0];
  if (subject === undefined) return element("p");
  const list = data.lists[data.cells[subject]];
  const texts = (row) => [list[row][0], String(data.kinds[list[row][2]][0]), data.kinds[list[row][2]][1], list[row][1].toLocaleString("en-US")];
  const columns = ["layer", "bits", "type", "elements"].map((title, index) => ({
    title,
    isNumber: index === 1 || index === 3,
    lines: (row) => [texts(row)[index]],
    key: (row) => [list[row][0], data.kinds[list[row][2]][0], data.kinds[list[row][2]][1], list[row][1]][index],
  }));
  const table = new Table("Layers", columns, list.map((_, index) => index));
  return element("details", {}, element("summary", {}, `Layers of ${board.workload.cells[subject].name}`), table.node);
}
