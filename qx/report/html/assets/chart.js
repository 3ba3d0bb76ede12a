// Axes and marks that all plots share. Colours come from the style sheet, so plots follow light and dark.

// An empty plot with margins. It is drawn in its own units and scaled by the page.
function plot(width, height, label, margin) {
  const svg = d3.create("svg").attr("viewBox", `0 0 ${width} ${height}`).attr("class", "plot").attr("role", "group")
    .attr("aria-label", label).attr("width", width).attr("height", height);
  return { svg, width, height, margin, inner: { left: margin.left, right: width - margin.right, top: margin.top, bottom: height - margin.bottom } };
}

// A linear or logarithmic scale with some room at its ends.
function makeScale(values, range, isLog) {
  let [low, high] = d3.extent(values.filter(Number.isFinite));
  if (low === undefined) [low, high] = isLog ? [1, 10] : [0, 1];
  if (isLog) {
    const room = Math.max((high / low) ** 0.06, 1.01);
    return d3.scaleLog([low / room, high * room], range);
  }
  const room = (high - low || Math.abs(high) || 1) * 0.06;
  return d3.scaleLinear([low - room, high + room], range);
}

// Values at which an axis has lines: of a logarithmic one that spans little those of a linear one.
function ticksOf(scale, count) {
  const [low, high] = scale.domain();
  if (!scale.base) return scale.ticks(count);
  if (high / low < 8) return d3.ticks(low, high, count);
  const powers = [1, 2, 5];
  const all = scale.ticks(count).filter((tick) => powers.includes(Number(tick.toExponential()[0])));
  return all.length > count * 2 ? all.filter((tick) => tick.toExponential()[0] === "1") : all;
}

function tickText(value) {
  return significant(value, 4);
}

function drawAxes(chart, x, y, labels) {
  const { svg, inner } = chart;
  const wide = inner.right - inner.left;
  const axis = svg.append("g").attr("class", "axis").attr("aria-hidden", "true");
  for (const tick of ticksOf(x, Math.max(3, Math.floor(wide / 90)))) {
    axis.append("line").attr("class", "grid").attr("x1", x(tick)).attr("x2", x(tick)).attr("y1", inner.top).attr("y2", inner.bottom);
    axis.append("text").attr("x", x(tick)).attr("y", inner.bottom + 16).attr("text-anchor", "middle").text(tickText(tick));
  }
  if (y) {
    for (const tick of ticksOf(y, Math.max(3, Math.floor((inner.bottom - inner.top) / 55)))) {
      axis.append("line").attr("class", "grid").attr("x1", inner.left).attr("x2", inner.right).attr("y1", y(tick)).attr("y2", y(tick));
      axis.append("text").attr("x", inner.left - 8).attr("y", y(tick)).attr("dy", "0.32em").attr("text-anchor", "end").text(tickText(tick));
    }
  }
  axis.append("text").attr("class", "label").attr("x", inner.right).attr("y", inner.bottom + 36).attr("text-anchor", "end").text(shorten(labels[0], Math.floor(inner.right / 6.4)));
  if (labels[1]) axis.append("text").attr("class", "label").attr("x", 2).attr("y", 13).text(shorten(labels[1], Math.floor(inner.right / 6.4)));
}

// Names down the left side, one for each row of a plot.
function drawRowNames(chart, names, y, action) {
  const group = chart.svg.append("g").attr("class", "rows");
  names.forEach((name, index) => {
    const text = group.append("text").attr("x", chart.inner.left - 10).attr("y", y(index)).attr("dy", "0.32em")
      .attr("text-anchor", "end").text(shorten(name, Math.floor((chart.inner.left - 14) / 6.7)));
    text.append("title").text(name);
    if (action) action(text, index);
  });
}

// The value of a row, at its right end.
function drawRowValue(chart, text, y) {
  chart.svg.append("text").attr("class", "tick").attr("x", chart.width - 4).attr("y", y).attr("dy", "0.32em").attr("text-anchor", "end").text(text);
}

// Cut a name in its middle, since names of one family differ at their ends.
function shorten(name, length) {
  if (name.length <= length) return name;
  const half = Math.floor((length - 1) / 2);
  return `${name.slice(0, length - 1 - half)}…${name.slice(-half)}`;
}

function longestName(names, most, width) {
  return Math.min(Math.max(60, 6.9 * d3.max(names, (name) => name.length) + 18), most, width * 0.42);
}

// Draw a view now, whenever its width changes, and when what it depends on has changed: soon after where it
// is in sight, else when it comes into sight or is printed, so that the table answers at once.
function keepDrawn(board, place, events, draw) {
  let width = place.clientWidth;
  let isInSight = false;
  let isStale = false;
  const redraw = () => {
    isStale = false;
    if (place.clientWidth) draw(Math.max(280, place.clientWidth));
  };
  const redrawSoon = later(() => {
    if (isInSight) redraw();
    else isStale = true;
  });
  for (const event of events) board.on(event, redrawSoon);
  new ResizeObserver(later(() => {
    if (place.clientWidth !== width) {
      width = place.clientWidth;
      redraw();
    }
  })).observe(place);
  new IntersectionObserver(([entry]) => {
    isInSight = entry.isIntersecting;
    if (isInSight && isStale) redraw();
  }, { rootMargin: "200px" }).observe(place);
  addEventListener("beforeprint", () => {
    if (isStale) redraw();
  });
  redraw();
}

// Show the box beside marks that the pointer or the focus is on.
function tipOn(selection, heading, lines) {
  selection.on("pointerenter pointermove", function (event, datum) {
    showTip(event.clientX, event.clientY, heading.call(this, datum), lines.call(this, datum));
  }).on("pointerleave", hideTip);
}

// The rows of a plot with a row for each config: those of the table, at most so many.
const MOST_ROWS = 40;
function rowsOf(board, hasData, everything) {
  const rows = board.present.filter(hasData);
  return everything ? rows : rows.slice(0, MOST_ROWS);
}
