// Two figures of each config against each other, with their intervals and the front between them.

// Every axis that a plot can have: the values of each metric, and their comparisons with the baseline.
function quantitiesOf(workload) {
  const quantities = [];
  for (const isChange of [true, false]) {
    for (const column of workload.columns) {
      const quantity = new Quantity(workload, column, isChange);
      if (workload.cells.some((_, cell) => quantity.has(cell))) quantities.push(quantity);
    }
  }
  return quantities;
}

// The axes to begin with: what the front judges by difference (quality) against a speedup, or another cost.
function firstAxes(workload, quantities) {
  const onAxes = workload.axes.map((index) => workload.columns[index]);
  const columns = onAxes.length > 1 ? onAxes : [...onAxes, ...workload.columns.filter((column) => !onAxes.includes(column))];
  const vertical = columns.find((column) => column.compare === "difference") || columns[0];
  const rest = columns.filter((column) => column !== vertical);
  const horizontal = rest.find((column) => column.compare === "speedup") || rest[0] || vertical;
  const find = (column) => {
    const change = quantities.findIndex((quantity) => quantity.column === column && quantity.isChange);
    return change >= 0 ? change : Math.max(0, quantities.findIndex((quantity) => quantity.column === column));
  };
  return [find(horizontal), find(vertical)];
}

// Corners of the line between what some points dominate on two axes and what they do not. `corner` gives for
// a point the values that count: its middle, or the ends of its intervals. The line begins and ends at the
// worse ends of the plot.
function frontLine(points, signs, worst) {
  const sorted = points.map(([x, y]) => [x * signs[0], y * signs[1]]).sort((a, b) => b[0] - a[0] || b[1] - a[1]);
  const line = [];
  let best = worst[1] * signs[1];
  for (const [x, y] of sorted) {
    if (y <= best && line.length) continue;
    line.push([x, best], [x, Math.max(y, best)]);
    best = Math.max(y, best);
  }
  if (line.length) line.push([worst[0] * signs[0], best]);
  return line.map(([x, y]) => [x * signs[0], y * signs[1]]);
}

function drawScatter(board) {
  const place = board.view("scatter");
  const workload = board.workload;
  const quantities = quantitiesOf(workload);
  if (!place || quantities.length < 2) return;
  const [firstX, firstY] = firstAxes(workload, quantities);
  const state = { x: firstX, y: firstY, logX: null, logY: null, names: workload.cells.length <= 40, range: 0 };
  const controls = element("div", { class: "controls" });
  const canvas = element("div", { class: "canvas" });
  place.append(controls, legendOf(board), canvas);
  const redraw = () => drawPoints(board, canvas, quantities, state, place.clientWidth);

  const drawControls = () => {
    const x = quantities[state.x];
    const y = quantities[state.y];
    const names = quantities.map((quantity) => quantity.name);
    const set = (change) => (value) => {
      Object.assign(state, change(value));
      drawControls();
      redraw();
    };
    const focused = [...controls.querySelectorAll("select, input")].indexOf(document.activeElement);
    controls.replaceChildren(
      choice("Across", names, state.x, set((value) => ({ x: value, logX: null }))),
      choice("Up", names, state.y, set((value) => ({ y: value, logY: null }))),
      checkbox("log across", state.logX ?? x.isRatio, set((value) => ({ logX: value }))),
      checkbox("log up", state.logY ?? y.isRatio, set((value) => ({ logY: value }))),
      choice("Show", ["all configs", "the front and the baseline", "what the table shows"], state.range, set((value) => ({ range: value }))),
      checkbox("names", state.names, set((value) => ({ names: value }))),
    );
    if (focused >= 0) controls.querySelectorAll("select, input")[focused].focus();
  };
  drawControls();
  keepDrawn(board, place, [], redraw);
  board.on("mark", redraw);
  board.on("limits", redraw);
  board.on("shown", () => {
    if (state.range === 2) redraw();
  });
}

function legendOf(board) {
  const list = element("ul", { class: "legend" });
  for (const runtime of board.runtimes) {
    const cell = board.workload.cells.findIndex((row) => row.runtime === runtime);
    list.append(element("li", {}, symbolIcon(board.shape(cell), `${board.colour(cell)} full`), " " + runtime));
  }
  for (const [kind, text] of [["full", "on the front"], ["half", "perhaps"], ["hollow", "not on it"]]) {
    list.append(element("li", {}, symbolIcon(d3.symbolCircle, `rx ${kind}`), " " + text));
  }
  list.append(element("li", {}, lineIcon(), " front of these two axes, with its uncertainty"));
  return list;
}

function symbolIcon(shape, kind) {
  const svg = d3.create("svg").attr("class", "icon").attr("viewBox", "-8 -8 16 16").attr("aria-hidden", "true");
  svg.append("path").attr("class", `point ${kind}`).attr("d", d3.symbol(shape, 80)());
  return svg.node();
}

function lineIcon() {
  const svg = d3.create("svg").attr("class", "icon").attr("viewBox", "-8 -8 16 16").attr("aria-hidden", "true");
  svg.append("rect").attr("class", "band").attr("x", -8).attr("y", -5).attr("width", 16).attr("height", 10);
  svg.append("line").attr("class", "front").attr("x1", -8).attr("x2", 8);
  return svg.node();
}

function pointKind(board, cell) {
  const row = board.workload.cells[cell];
  const front = { yes: "full", perhaps: "half" }[row.front] || "hollow";
  const verdict = board.verdicts ? ` limit-${board.verdicts[cell]}` : "";
  return `point ${board.colour(cell)} ${front}${verdict}${board.marked === cell ? " marked" : ""}`;
}

function cellsOfScatter(board, state, x, y) {
  const cells = board.workload.cells.map((_, cell) => cell).filter((cell) => x.has(cell) && y.has(cell));
  if (state.range === 1) {
    return cells.filter((cell) => cell === board.workload.baseline || ["yes", "perhaps"].includes(board.workload.cells[cell].front));
  }
  return state.range === 2 ? cells.filter((cell) => board.shown.includes(cell)) : cells;
}

function drawPoints(board, canvas, quantities, state, width) {
  const x = quantities[state.x];
  const y = quantities[state.y];
  const cells = cellsOfScatter(board, state, x, y);
  const isLog = [
    (state.logX ?? x.isRatio) && x.isPositive(cells),
    (state.logY ?? y.isRatio) && y.isPositive(cells),
  ];
  const height = Math.round(Math.min(520, Math.max(320, width * 0.62)));
  const chart = plot(width, height, `${y.name} against ${x.name}, ${plural(cells.length, "config")}`, { left: 56, right: 18, top: 26, bottom: 46 });
  const { inner } = chart;
  const scales = [
    makeScale(cells.flatMap((cell) => [x.middle[cell], ...x.ends(cell)]), [inner.left, inner.right], isLog[0]),
    makeScale(cells.flatMap((cell) => [y.middle[cell], ...y.ends(cell)]), [inner.bottom, inner.top], isLog[1]),
  ];
  drawAxes(chart, ...scales, [x.label, y.label]);
  const line = x.direction && y.direction ? drawFront(chart, board, cells, x, y, scales) : [];
  drawIntervals(chart, board, cells, x, y, scales);
  drawSymbols(chart, board, cells, x, y, scales);
  if (state.names || board.marked !== null) drawNames(chart, board, cells, x, y, scales, state.names, line);
  const focused = canvas.contains(document.activeElement) ? document.activeElement.getAttribute("data-cell") : null;
  canvas.replaceChildren(chart.svg.node());
  if (focused !== null) canvas.querySelector(`[data-cell="${focused}"]`)?.focus();
}

// The front of these two axes: a line through the middles, and a band between where the intervals at their
// worst and at their best would put it. Returns the corners of the line.
function drawFront(chart, board, cells, x, y, scales) {
  const judged = cells.filter((cell) => board.workload.cells[cell].isJudged);
  const signs = [x.direction, y.direction];
  const worst = scales.map((scale, axis) => scale.domain()[signs[axis] > 0 ? 0 : 1]);
  const toPixels = (line) => line.map(([u, v]) => [scales[0](u), scales[1](v)]);
  const end = (quantity, cell, better) => quantity.ends(cell)[(quantity.direction > 0) === better ? 1 : 0];
  const at = (better) => toPixels(frontLine(judged.map((cell) => [end(x, cell, better), end(y, cell, better)]), signs, worst));
  const middle = toPixels(frontLine(judged.map((cell) => [x.middle[cell], y.middle[cell]]), signs, worst));
  const group = chart.svg.append("g").attr("aria-hidden", "true");
  const best = at(true);
  const least = at(false);
  if (best.length) group.append("path").attr("class", "band").attr("d", `${d3.line()([...best, ...least.reverse()])}Z`);
  if (middle.length) group.append("path").attr("class", "front").attr("d", d3.line()(middle));
  return middle;
}

function drawIntervals(chart, board, cells, x, y, scales) {
  const group = chart.svg.append("g").attr("aria-hidden", "true");
  for (const cell of cells) {
    const [left, right] = x.ends(cell).map(scales[0]);
    const [bottom, top] = y.ends(cell).map(scales[1]);
    const [middleX, middleY] = [scales[0](x.middle[cell]), scales[1](y.middle[cell])];
    const verdict = board.verdicts ? ` limit-${board.verdicts[cell]}` : "";
    group.append("path").attr("class", `interval ${board.colour(cell)}${verdict}`)
      .attr("d", `M${left},${middleY}H${right}M${middleX},${bottom}V${top}`);
  }
}

function drawSymbols(chart, board, cells, x, y, scales) {
  const order = [...cells].sort((a, b) => x.middle[a] - x.middle[b]);
  const rows = board.workload.cells;
  const group = chart.svg.append("g").attr("class", "points");
  const points = group.selectAll("path").data(order).join("path")
    .attr("class", (cell) => pointKind(board, cell))
    .attr("transform", (cell) => `translate(${scales[0](x.middle[cell])},${scales[1](y.middle[cell])})`)
    .attr("d", (cell) => d3.symbol(board.shape(cell), board.marked === cell ? 190 : 85)())
    .attr("data-cell", String)
    .attr("role", "button")
    .attr("tabindex", (_, index) => (index === 0 ? 0 : -1))
    .attr("aria-pressed", (cell) => String(board.marked === cell))
    .attr("aria-label", (cell) => `${rows[cell].name}: ${x.name} ${significant(x.middle[cell])} ${x.unit}, ${y.name} ${significant(y.middle[cell])} ${y.unit}, front: ${frontText(rows[cell])}`);
  const nodes = points.nodes();
  const showAt = (cell, clientX, clientY) => showTip(clientX, clientY, rows[cell].name, board.lines(cell));
  points.on("focus", function (event, cell) {
    const box = this.getBoundingClientRect();
    if (this.matches(":focus-visible")) showAt(cell, box.right, box.bottom);
  }).on("blur", hideTip).on("keydown", function (event) {
    const index = nodes.indexOf(this);
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 };
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      board.mark(order[index]);
    } else if (event.key === "Escape") hideTip();
    else if (steps[event.key] || event.key === "Home" || event.key === "End") {
      event.preventDefault();
      const target = event.key === "Home" ? 0 : event.key === "End" ? nodes.length - 1 : Math.min(nodes.length - 1, Math.max(0, index + steps[event.key]));
      nodes.forEach((node, position) => node.setAttribute("tabindex", position === target ? "0" : "-1"));
      nodes[target].focus();
    }
  });
  hoverNearest(chart, order, (cell) => scales[0](x.middle[cell]), (cell) => scales[1](y.middle[cell]), nodes, showAt, (cell) => board.mark(cell));
}

// The nearest point within reach of the pointer shows its box, and takes the click.
const REACH = 28;
function hoverNearest(chart, cells, x, y, nodes, show, choose) {
  if (!cells.length) return;
  const nearest = d3.Delaunay.from(cells, x, y);
  const svg = chart.svg;
  let lit = null;
  const find = (event) => {
    const [px, py] = d3.pointer(event, svg.node());
    const index = nearest.find(px, py);
    return Math.hypot(x(cells[index]) - px, y(cells[index]) - py) <= REACH ? index : null;
  };
  const light = (index) => {
    if (lit !== null) nodes[lit].classList.remove("lit");
    lit = index;
    if (lit !== null) nodes[lit].classList.add("lit");
  };
  svg.on("pointermove", (event) => {
    const index = find(event);
    if (index !== lit) light(index);
    if (index === null) hideTip();
    else show(cells[index], event.clientX, event.clientY);
  }).on("pointerleave", () => {
    light(null);
    hideTip();
  }).on("click", (event) => {
    const index = find(event);
    if (index !== null) choose(cells[index]);
  });
}

// Names beside points, where there is room: the marked one first, then the front, the baseline, the others.
function drawNames(chart, board, cells, x, y, scales, all, line) {
  const rows = board.workload.cells;
  const rank = (cell) => (cell === board.marked ? 0 : rows[cell].front === "yes" ? 1 : cell === board.workload.baseline ? 2 : rows[cell].front === "perhaps" ? 3 : 4);
  const { inner } = chart;
  const places = new Map(cells.map((cell) => [cell, [scales[0](x.middle[cell]), scales[1](y.middle[cell])]]));
  const boxes = [...places.values()].map(([px, py]) => [px - 6, py - 6, px + 6, py + 6]);
  for (const [[ax, ay], [bx, by]] of d3.pairs(line)) boxes.push([Math.min(ax, bx) - 2, Math.min(ay, by) - 2, Math.max(ax, bx) + 2, Math.max(ay, by) + 2]);
  const group = chart.svg.append("g").attr("class", "names").attr("aria-hidden", "true");
  for (const cell of [...cells].sort((a, b) => rank(a) - rank(b))) {
    if (!all && cell !== board.marked) continue;
    const name = shorten(rows[cell].name, 34);
    const size = 6.3 * name.length;
    const [px, py] = places.get(cell);
    const tries = [[10, 4, "start"], [-10, 4, "end"], [10, -9, "start"], [-10, -9, "end"], [10, 17, "start"], [-10, 17, "end"], [0, -13, "middle"], [0, 22, "middle"]];
    for (const [dx, dy, anchor] of tries) {
      const left = px + dx - (anchor === "end" ? size : anchor === "middle" ? size / 2 : 0);
      const box = [left, py + dy - 11, left + size, py + dy + 3];
      const isInside = box[0] > inner.left - 50 && box[2] < chart.width - 2 && box[1] > inner.top - 8 && box[3] < inner.bottom;
      const isFree = boxes.every((other) => box[2] < other[0] || box[0] > other[2] || box[3] < other[1] || box[1] > other[3]);
      if ((isInside && isFree) || (cell === board.marked && isInside)) {
        boxes.push(box);
        group.append("text").attr("class", cell === board.marked ? "marked" : "").attr("x", px + dx).attr("y", py + dy).attr("text-anchor", anchor).text(name);
        break;
      }
    }
  }
}
