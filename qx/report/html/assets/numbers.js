// Numbers with as many digits as a person reads, in the unit that fits a column.

// Factor and unit that a column's values are shown in.
function scaleOf(column) {
  if (column.unit === "fraction") return { factor: 100, unit: "%" };
  if (column.unit === "bytes") {
    const largest = d3.max(column.value.middle) || 0;
    for (const [size, unit] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]]) {
      if (largest >= size) return { factor: 1 / size, unit };
    }
  }
  return { factor: 1, unit: column.unit };
}

// Factor and unit that a comparison with the baseline is shown in.
function changeScaleOf(column) {
  if (column.compare !== "difference") return { factor: 1, unit: "x" };
  if (column.unit === "fraction") return { factor: 100, unit: "pt" };
  return scaleOf(column);
}

// Whether a larger value is better: 1 yes, -1 no, 0 neither.
function directionOf(column, isChange) {
  const own = { higher: 1, lower: -1, neither: 0 }[column.better];
  return isChange && column.compare === "speedup" ? -own : own;
}

function significant(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "-";
  if (value === 0) return "0";
  const places = Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value)) + 1e-9));
  return value.toLocaleString("en-US", { minimumFractionDigits: 0, maximumFractionDigits: Math.min(places, 9) });
}

function signed(value, digits = 3) {
  return (value > 0 ? "+" : "") + significant(value, digits);
}

function percent(share, digits = 2) {
  return `${significant(100 * share, digits)} %`;
}

function plural(count, word) {
  return `${count.toLocaleString("en-US")} ${word}${count === 1 ? "" : "s"}`;
}

// A figure as the tables of qx print it, with its comparison.
function figureText(column, cell) {
  return [column.text[cell], column.changeText[cell], column.buildsText?.[cell]].filter((text) => text && text !== "-").join("  ") || "-";
}

// A series of values in one form: the values of a column, or their comparisons with the baseline.
class Quantity {
  constructor(workload, column, isChange) {
    this.column = column;
    this.isChange = isChange;
    const { factor, unit } = isChange ? changeScaleOf(column) : scaleOf(column);
    this.unit = unit;
    this.factor = factor;
    const own = isChange ? column.change : column.value;
    const scaled = (values) => values.map((value) => (value === null ? null : value * factor));
    this.middle = scaled(own.middle);
    this.low = scaled(own.low);
    this.high = scaled(own.high);
    this.direction = directionOf(column, isChange);
    this.isRatio = isChange ? column.compare !== "difference" : column.compare !== "difference";
    const how = { speedup: "speedup over", ratio: "ratio to", difference: "difference from" }[column.compare];
    this.name = isChange ? `${column.title}: ${how} ${workload.baselineName}` : column.title;
    const better = { 1: "more is better", "-1": "less is better", 0: "" }[this.direction];
    this.label = [`${this.name} [${unit}]`, better].filter(Boolean).join(", ");
  }

  has(cell) {
    return this.middle[cell] !== null;
  }

  // The ends of the interval; the value itself where it has none.
  ends(cell) {
    return [this.low[cell] ?? this.middle[cell], this.high[cell] ?? this.middle[cell]];
  }

  isPositive(cells) {
    return cells.every((cell) => !this.has(cell) || this.ends(cell)[0] > 0);
  }
}
