// Launches by wave and rounds over time, with the control beside, so that a reader can judge the timings.

const ROW = 22;

function drawWaves(board) {
  const place = board.view("waves");
  const { waves, columns, baselineName } = board.workload;
  if (!place) return;
  const state = { metric: 0, isAround: true, everything: false };
  const canvas = element("div", { class: "canvas" });
  const controls = element("div", { class: "controls" },
    choice("Metric", waves.map((plot) => columns[plot.column].title), 0, (value) => {
      state.metric = value;
      redraw();
    }),
    choice("Show", ["deviations from the row's mean", "comparisons with the baseline"], 0, (value) => {
      state.isAround = value === 0;
      redraw();
    }),
    checkbox(`all rows of the table (else ${MOST_ROWS} at most)`, false, (value) => {
      state.everything = value;
      redraw();
    }));
  const redraw = () => drawStrips(board, canvas, state);
  place.append(
    element("p", { class: "quiet" }, `Each dot is one wave: how a launch compares with the launch of ${baselineName} in the same wave, earlier waves paler. The bar is the 95 % interval over waves, the mean is on the right. The control is the baseline itself, so the band across all rows is what noise alone does.`),
    controls, canvas);
  keepDrawn(board, canvas, ["shown", "mark"], redraw);
}

// The rows of a plot of waves, in the unit of the comparison, or in percent around the mean of each row.
function waveLines(board, plotData, state) {
  const column = board.workload.columns[plotData.column];
  const { factor, unit } = changeScaleOf(column);
  const isRatio = plotData.kind !== "difference";
  const rows = rowsOf(board, (cell) => plotData.cells[cell], state.everything);
  const line = (name, kind, values, cell, ends) => {
    const present = values.filter((value) => value !== null);
    const mean = isRatio ? Math.exp(d3.mean(present, Math.log)) : d3.mean(present);
    const moved = (value) => {
      if (value === null) return null;
      if (!state.isAround) return value * factor;
      return isRatio ? 100 * (value / mean - 1) : (value - mean) * factor;
    };
    const text = `${significant(mean * factor, 4)}${isRatio ? "" : " "}${unit}`;
    return { name, kind, cell, text, values: values.map(moved), ends: ends.map(moved) };
  };
  return [
    ...(plotData.control ? [line("control", "rx", plotData.control, undefined, [null, null])] : []),
    ...rows.map((cell) => line(board.workload.cells[cell].name, board.colour(cell), plotData.cells[cell], cell, [column.change.low[cell], column.change.high[cell]])),
  ];
}

function drawStrips(board, canvas, state) {
  const plotData = board.workload.waves[state.metric];
  const column = board.workload.columns[plotData.column];
  const lines = waveLines(board, plotData, state);
  const isRatio = plotData.kind !== "difference";
  const unit = state.isAround && isRatio ? "%" : changeScaleOf(column).unit;
  const width = Math.max(280, canvas.clientWidth);
  const chart = plot(width, lines.length * ROW + 70, `${column.title} by wave, ${plural(lines.length, "row")}`, { left: longestName(lines.map((line) => line.name), 250, width), right: 70, top: 10, bottom: 56 });
  const { inner } = chart;
  const neutral = isRatio && !state.isAround ? 1 : 0;
  const x = makeScale([...lines.flatMap((line) => [...line.values, ...line.ends]).filter((value) => value !== null), neutral], [inner.left, inner.right], isRatio && !state.isAround);
  const y = (index) => inner.top + ROW / 2 + index * ROW;
  drawAxes(chart, x, null, [state.isAround ? `deviation of a wave's ${plotData.kind} from the mean over waves [${unit}]` : `${plotData.kind} against the baseline [${unit}]`]);
  const group = chart.svg.append("g");
  if (plotData.control) drawNoiseBand(group, lines[0].values.filter((value) => value !== null), x, inner);
  group.append("line").attr("class", "neutral").attr("x1", x(neutral)).attr("x2", x(neutral)).attr("y1", inner.top).attr("y2", inner.bottom);
  lines.forEach((line, index) => {
    if (line.cell !== undefined && line.cell === board.marked) group.append("rect").attr("class", "stripe").attr("x", 0).attr("width", width).attr("y", y(index) - ROW / 2).attr("height", ROW);
    if (line.ends[0] !== null) group.append("line").attr("class", `bar ${line.kind}`).attr("x1", x(line.ends[0])).attr("x2", x(line.ends[1])).attr("y1", y(index)).attr("y2", y(index));
    line.values.forEach((value, wave) => {
      if (value === null) return;
      group.append("circle").datum([line, wave, value]).attr("class", `wave ${line.kind}`).attr("cx", x(value)).attr("cy", y(index)).attr("r", 4)
        .attr("fill-opacity", 0.25 + (0.75 * (wave + 1)) / line.values.length);
    });
    drawRowValue(chart, line.text, y(index));
  });
  drawRowNames(chart, lines.map((line) => line.name), y);
  tipOn(group.selectAll("circle"), ([line]) => line.name, ([line, wave, value]) => [["wave", String(wave + 1)], [state.isAround ? "deviation" : plotData.kind, `${state.isAround ? signed(value, 3) : significant(value, 4)} ${unit}`], ["mean", line.text]]);
  const hasWaves = (cell) => plotData.cells[cell];
  canvas.replaceChildren(chart.svg.node(), moreRows(board, lines.filter((line) => line.cell !== undefined).length, hasWaves));
}

function moreRows(board, shown, hasData) {
  const all = board.present.filter(hasData).length;
  return element("p", { class: "quiet" }, all > shown ? `${shown} of ${all} rows of the table are shown.` : "");
}

function drawNoiseBand(group, control, x, inner) {
  const [low, high] = d3.extent(control);
  group.append("rect").attr("class", "band").attr("x", x(low)).attr("width", Math.max(1, x(high) - x(low))).attr("y", inner.top).attr("height", inner.bottom - inner.top);
}

function drawRounds(board) {
  const place = board.view("rounds");
  const { rounds, columns } = board.workload;
  if (!place) return;
  const state = { metric: 0 };
  const canvas = element("div", { class: "canvas" });
  const redraw = () => drawTimeline(board, canvas, rounds[state.metric]);
  place.append(
    element("p", { class: "quiet" }, "How much longer calls took in each round than undisturbed calls of the same launch, over the whole time of measuring. Where the median of all configs rises, something slowed the machine; where only one line rises, it was that config. Speedups compare undisturbed calls, so such rounds do not move them."),
    element("div", { class: "controls" }, choice("Metric", rounds.map((plot) => columns[plot.column].title), 0, (value) => {
      state.metric = value;
      redraw();
    })), canvas);
  keepDrawn(board, canvas, ["mark"], redraw);
}

function drawTimeline(board, canvas, data) {
  const lines = [["all configs (median)", data.median, "median"], ["baseline", data.baseline, "r0"], ["control", data.control, "rx dashed"]];
  if (board.marked !== null && data.cells?.[board.marked]) lines.push([board.workload.cells[board.marked].name, data.cells[board.marked], "r1"]);
  const shown = lines.filter(([, values]) => values);
  const width = Math.max(280, canvas.clientWidth);
  const chart = plot(width, 250, "Disturbance by round", { left: 50, right: 12, top: 26, bottom: 46 });
  const { inner } = chart;
  const x = d3.scaleLinear([0, Math.max(1, data.rounds.length - 1)], [inner.left, inner.right]);
  const all = shown.flatMap(([, values]) => values).filter((value) => value !== null).map((value) => 100 * value);
  const y = makeScale([0, ...all], [inner.bottom, inner.top], false);
  const axisX = Object.assign((position) => x(position), { domain: () => x.domain(), ticks: () => [] });
  drawAxes(chart, axisX, y, ["waves, each with its rounds in order", "calls took longer by [%]"]);
  const group = chart.svg.append("g");
  const starts = data.rounds.map(([wave], index) => (index === 0 || data.rounds[index - 1][0] !== wave ? index : -1)).filter((index) => index >= 0);
  starts.forEach((start, index) => {
    const end = starts[index + 1] ?? data.rounds.length;
    const [left, right] = [Math.max(inner.left, x(start - 0.5)), Math.min(inner.right, x(end - 0.5))];
    if (index % 2) group.append("rect").attr("class", "stripe").attr("x", left).attr("width", right - left).attr("y", inner.top).attr("height", inner.bottom - inner.top);
    if (x(end) - x(start) > 14 || starts.length < 30) group.append("text").attr("class", "tick").attr("x", (x(start) + x(end - 1)) / 2).attr("y", inner.bottom + 16).attr("text-anchor", "middle").text(data.rounds[start][0] + 1);
  });
  for (const [name, values, kind] of shown) {
    const line = d3.line().defined(([, value]) => value !== null).x(([index]) => x(index)).y(([, value]) => y(100 * value));
    group.append("path").attr("class", `line ${kind}`).attr("d", line(linePoints(values, data.rounds))).append("title").text(name);
  }
  const legend = element("ul", { class: "legend" }, ...shown.map(([name, , kind]) => element("li", {}, strokeIcon(kind), " " + name)));
  canvas.replaceChildren(legend, chart.svg.node());
  chart.svg.on("pointermove", (event) => {
    const index = Math.round(x.invert(d3.pointer(event, chart.svg.node())[0]));
    if (!data.rounds[index]) return hideTip();
    const [wave, round] = data.rounds[index];
    return showTip(event.clientX, event.clientY, `wave ${wave + 1}, round ${round + 1}`, shown.map(([name, values]) => [name, values[index] === null ? "-" : `+${percent(values[index])}`]));
  }).on("pointerleave", hideTip);
}

// Where a config had fewer rounds in a wave than others, its line goes from one of them to the next; it ends where a
// whole wave is missing.
function linePoints(values, rounds) {
  const measured = new Set(rounds.filter((_, index) => values[index] !== null).map(([wave]) => wave));
  return values.map((value, index) => [index, value]).filter(([index, value]) => value !== null || !measured.has(rounds[index][0]));
}

function strokeIcon(kind) {
  const svg = d3.create("svg").attr("class", "icon").attr("viewBox", "-8 -8 16 16").attr("aria-hidden", "true");
  svg.append("path").attr("class", `line ${kind}`).attr("d", "M-8,0H8");
  return svg.node();
}
