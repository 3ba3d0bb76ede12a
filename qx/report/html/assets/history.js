// Figures over many runs: a plot of each series, with its steps and the commits that they came with.

const HISTORY_HEIGHT = 200;

function drawHistory(data) {
  const place = document.querySelector('[data-view="history"]');
  const metrics = [...new Set(data.series.map((series) => series.metric))];
  const hasSteps = data.series.some((series) => series.steps.length);
  const state = { metric: 0, withSteps: hasSteps, name: "", everything: false };
  const canvas = element("div", { class: "canvas" });
  const set = (key) => (value) => {
    state[key] = value;
    redraw();
  };
  const redraw = () => {
    if (place.clientWidth) drawSeries(data, canvas, chosenSeries(data, metrics, state), state.everything);
  };
  place.append(
    element("p", { class: "quiet" }, "Each dot is a run, in the order in which they started, with its 95 % interval. Where a step was found the line is the mean before and behind it, and the first commit behind it is named."),
    element("div", { class: "controls" },
      searchField(set("name")),
      choice("Metric", ["all", ...metrics], 0, set("metric")),
      ...(hasSteps ? [checkbox("only series with a step", true, set("withSteps"))] : []),
      checkbox(`all plots (else ${MOST_ROWS} at most)`, false, set("everything"))),
    canvas);
  new ResizeObserver(later(redraw)).observe(place);
  redraw();
}

function chosenSeries(data, metrics, state) {
  return data.series.filter((series) => (!state.withSteps || series.steps.length)
    && (state.metric === 0 || series.metric === metrics[state.metric - 1])
    && series.name.toLowerCase().includes(state.name));
}

function drawSeries(data, canvas, chosen, everything) {
  const shown = everything ? chosen : chosen.slice(0, MOST_ROWS);
  const width = Math.max(280, canvas.clientWidth);
  canvas.replaceChildren(
    ...shown.map((series) => drawOneSeries(data, series, width)),
    element("p", { class: "quiet", role: "status" }, chosen.length > shown.length ? `${shown.length} of ${chosen.length} series are shown.` : `${shown.length.toLocaleString("en-US")} series.`));
}

// The values of a series in the unit that a person reads.
function scaledSeries(series) {
  const { factor, unit } = series.isChange ? changeScaleOf(series) : scaleOf(series);
  const scaled = (values) => values.map((value) => (value === null ? null : value * factor));
  return {
    unit,
    middle: scaled(series.value.middle),
    low: scaled(series.value.low),
    high: scaled(series.value.high),
    steps: series.steps.map((step) => ({ ...step, means: scaled(step.means) })),
  };
}

function drawOneSeries(data, series, width) {
  const { unit, middle, low, high, steps } = scaledSeries(series);
  const title = `${series.name}: ${series.title} [${unit}]`;
  const chart = plot(width, HISTORY_HEIGHT, `${title}, ${plural(middle.length, "run")}`, { left: 64, right: 16, top: 48, bottom: 26 });
  const { inner } = chart;
  const x = d3.scaleLinear([-0.5, data.runs.length - 0.5], [inner.left, inner.right]);
  const y = makeScale([...middle, ...low, ...high].filter((value) => value !== null), [inner.bottom, inner.top], false);
  const empty = Object.assign((position) => x(position), { domain: () => x.domain(), ticks: () => [] });
  drawAxes(chart, empty, y, ["", title]);
  drawDates(chart, data, x);
  drawSteps(chart, series, steps, x, y);
  const group = chart.svg.append("g").attr("class", "r0");
  series.runs.forEach((run, index) => {
    if (low[index] !== null) group.append("line").attr("class", "bar").attr("x1", x(run)).attr("x2", x(run)).attr("y1", y(low[index])).attr("y2", y(high[index]));
  });
  group.selectAll("circle").data(series.runs).join("circle").attr("class", "wave r0").attr("r", 4)
    .attr("cx", (run) => x(run)).attr("cy", (_, index) => y(middle[index]));
  tipOn(group.selectAll("circle"), (run) => data.runs[run].date, (run) => {
    const index = series.runs.indexOf(run);
    const ends = low[index] === null ? [] : [["95 % interval", `${significant(low[index], 4)} to ${significant(high[index], 4)} ${unit}`]];
    return [[series.title, `${significant(middle[index], 6)} ${unit}`], ...ends, ["commit", data.runs[run].commit], ["results", data.runs[run].place]];
  });
  return chart.svg.node();
}

function drawDates(chart, data, x) {
  const { inner, svg } = chart;
  const last = data.runs.length - 1;
  svg.append("text").attr("class", "tick").attr("x", x(0)).attr("y", inner.bottom + 18).text(data.runs[0].date);
  svg.append("text").attr("class", "tick").attr("x", x(last)).attr("y", inner.bottom + 18).attr("text-anchor", "end").text(data.runs[last].date);
}

function drawSteps(chart, series, steps, x, y) {
  const { svg, inner } = chart;
  steps.forEach((step, index) => {
    const middle = (x(step.before) + x(step.run)) / 2;
    const start = index ? (x(steps[index - 1].before) + x(steps[index - 1].run)) / 2 : x(series.runs[0]);
    const end = index + 1 < steps.length ? (x(steps[index + 1].before) + x(steps[index + 1].run)) / 2 : x(series.runs[series.runs.length - 1]);
    if (index === 0) svg.append("path").attr("class", "line rx").attr("d", `M${start},${y(step.means[0])}H${middle}`);
    const group = svg.append("g").attr("class", `verdict-${step.verdict}`);
    group.append("path").attr("class", "line").attr("d", `M${middle},${y(step.means[1])}H${end}`);
    group.append("line").attr("class", "neutral").attr("x1", middle).attr("x2", middle).attr("y1", inner.top).attr("y2", inner.bottom);
    const isRight = middle > (inner.left + inner.right) / 2;
    svg.append("text").attr("class", "tick").attr("x", middle + (isRight ? -6 : 6)).attr("y", inner.top - 20 + 14 * (index % 2))
      .attr("text-anchor", isRight ? "end" : "start").text(`${step.change}, ${step.verdict}: ${step.commit.slice(0, 12)}`);
  });
}
