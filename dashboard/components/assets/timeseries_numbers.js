// Numbers of the time-series component: formats, ticks, smoothing and search.

const MIN_LOG = 1e-12;

function formatNumber(value, format) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (format === "percent") return `${(100 * value).toFixed(1)}%`;
  if (format === "integer") return Math.round(value).toLocaleString("en-US");
  if (format === "duration") return formatDuration(value);
  const size = Math.abs(value);
  if (size === 0) return "0";
  if (size >= 1e6 || size < 1e-4) {
    return value.toExponential(2).replace(/\.?0+e/, "e").replace("e+", "e");
  }
  return Number(value.toPrecision(5)).toLocaleString("en-US", { maximumFractionDigits: 9 });
}

function formatDuration(seconds) {
  if (seconds < 60) return `${Number(seconds.toPrecision(3))} s`;
  if (seconds < 3600) return `${Number((seconds / 60).toPrecision(3))} min`;
  return `${Number((seconds / 3600).toPrecision(3))} h`;
}

// Labels of an axis are short: 306,800 is 306.8k.
function formatTick(value, format) {
  if (format === "percent") return `${Number((100 * value).toPrecision(6))}%`;
  if (format === "duration") return formatDuration(value);
  const size = Math.abs(value);
  const units = [[1e18, "E"], [1e15, "P"], [1e12, "T"], [1e9, "G"], [1e6, "M"], [1e4, "k"]];
  for (const [unit, letter] of units) {
    if (size >= unit) return `${Number((value / (letter === "k" ? 1e3 : unit)).toPrecision(6))}${letter}`;
  }
  if (size !== 0 && size < 1e-3) return value.toExponential(3).replace(/\.?0+e/, "e");
  return String(Number(value.toPrecision(6)));
}

// Two ticks at least, because one tick shows no scale. An axis of integers can have one integer only.
function linearTicks(low, high, count, integers) {
  const raw = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(raw));
  let step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw * 0.999);
  if (integers) step = Math.max(1, Math.round(step));
  const ticks = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) ticks.push(i * step);
  return ticks.length < 2 && !integers ? linearTicks(low, high, count + 1) : ticks;
}

function logTicks(low, high) {
  const ticks = [];
  const decades = Math.log10(high / low);
  const parts = decades > 3 ? [1] : decades > 1 ? [1, 3] : [1, 2, 3, 4, 5, 7];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const part of parts) {
      const value = part * 10 ** power;
      if (value >= low && value <= high) ticks.push(value);
    }
  }
  return ticks.length > 1 ? ticks : linearTicks(low, high, 4);
}

// Exponential moving average, corrected for its start. A gap stays a gap.
function smooth(values, weight) {
  if (!weight) return values;
  let mean = 0;
  let total = 0;
  return values.map((value) => {
    if (value === null) return null;
    mean = weight * mean + (1 - weight) * value;
    total = weight * total + (1 - weight);
    return mean / total;
  });
}

// Index of the first element that is at least `value`.
function lowerBound(values, value) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

function nearestIndex(values, value) {
  const at = lowerBound(values, value);
  if (at === 0) return values.length ? 0 : -1;
  if (at === values.length) return at - 1;
  return value - values[at - 1] <= values[at] - value ? at - 1 : at;
}

// Index of the bin that contains `value`, or -1. Bins begin at `values` and have a width.
function binIndex(values, width, value) {
  const at = lowerBound(values, value + 1e-9) - 1;
  return at >= 0 && value < values[at] + width ? at : -1;
}
