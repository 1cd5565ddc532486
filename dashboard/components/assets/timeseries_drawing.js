// Drawing of the time-series component on canvas, one canvas per panel.

const FONT = "12px ";
const TOP = 5;
const BOTTOM = 5;

function prepareCanvas(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  const pixels = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== pixels[0] || canvas.height !== pixels[1]) [canvas.width, canvas.height] = pixels;
  canvas.style.height = `${height}px`;
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}

// Range of the visible values of a panel. Hidden lines and bands do not count.
function valueRange(panel, scaleX, log, isHidden) {
  if (panel.domain) return panel.domain;
  let low = Infinity;
  let high = -Infinity;
  const take = (value) => {
    if (value === null || (log && value <= 0)) return;
    if (value < low) low = value;
    if (value > high) high = value;
  };
  for (const line of panel.lines) {
    if (isHidden(line)) continue;
    const [first, last] = visibleIndices(line.xs, scaleX);
    const columns = line.low && !isHidden(line, "range") ? [line.y, line.low, line.high] : [line.y];
    for (const values of columns) for (let i = first; i < last; i++) take(values[i]);
  }
  for (const band of panel.bands) [band.low, band.high].forEach(take);
  if (low > high) return log ? [0.1, 1] : [0, 1];
  if (log) return low === high ? [low / 2, high * 2] : [low / (high / low) ** 0.04, high * (high / low) ** 0.04];
  const padding = (high - low) * 0.06 || Math.abs(high) * 0.1 || 0.5;
  return [low - padding, high + padding];
}

function visibleIndices(xs, scaleX) {
  const first = Math.max(0, lowerBound(xs, scaleX.low) - 1);
  return [first, Math.min(xs.length, lowerBound(xs, scaleX.high) + 2)];
}

function makeScaleY(range, height, log) {
  const transform = log ? (value) => Math.log(Math.max(value, MIN_LOG)) : (value) => value;
  const low = transform(range[0]);
  const span = transform(range[1]) - low || 1;
  const pixels = height - TOP - BOTTOM;
  return (value) => TOP + pixels * (1 - (transform(value) - low) / span);
}

function drawAxisY(context, area, range, log, format, theme) {
  const y = makeScaleY(range, area.height, log);
  const ticks = log ? logTicks(...range) : linearTicks(...range, Math.max(2, area.height / 44));
  context.font = FONT + theme.font;
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const tick of ticks) {
    const at = Math.round(y(tick)) + 0.5;
    context.strokeStyle = theme.grid;
    context.lineWidth = 1;
    context.beginPath();
    context.moveTo(area.left, at);
    context.lineTo(area.right, at);
    context.stroke();
    context.fillStyle = theme.label;
    context.fillText(formatTick(tick, format), area.left - 6, Math.min(area.height - 7, Math.max(7, at)));
  }
}

function drawAxisX(canvas, scaleX, area, axis, theme) {
  const context = prepareCanvas(canvas, area.width, 36);
  const count = Math.max(2, Math.floor((area.right - area.left) / 90));
  context.font = FONT + theme.font;
  context.fillStyle = theme.label;
  context.strokeStyle = theme.label;
  context.textBaseline = "top";
  for (const tick of linearTicks(scaleX.low, scaleX.high, count, axis.format === "integer")) {
    const x = scaleX(tick);
    context.beginPath();
    context.moveTo(Math.round(x) + 0.5, 0);
    context.lineTo(Math.round(x) + 0.5, 4);
    context.stroke();
    context.textAlign = x > area.right - 24 ? "right" : x < area.left + 24 ? "left" : "center";
    context.fillText(formatTick(tick, axis.format), x, 6);
  }
  context.textAlign = "center";
  context.fillText(axis.title, (area.left + area.right) / 2, 21);
}

function drawLinePanel(canvas, panel, scaleX, area, options) {
  const context = prepareCanvas(canvas, area.width, area.height);
  const { theme, log, range, isHidden, smoothing } = options;
  drawAxisY(context, area, range, log, panel.format, theme);
  const y = makeScaleY(range, area.height, log);
  context.save();
  context.beginPath();
  context.rect(area.left, 0, area.right - area.left, area.height);
  context.clip();
  for (const band of panel.bands) drawBand(context, band, y, area);
  const visible = panel.lines.filter((line) => !isHidden(line));
  for (const line of visible) if (line.low && !isHidden(line, "range")) drawRange(context, line, scaleX, y, log);
  for (const line of visible) {
    if (smoothing && line.smooth) {
      context.globalAlpha = 0.3;
      strokeLine(context, line, line.y, scaleX, y, log, 1);
      context.globalAlpha = 1;
      strokeLine(context, line, line.smoothed, scaleX, y, log, 2.25);
    } else strokeLine(context, line, line.y, scaleX, y, log, 1.75);
  }
  context.restore();
}

function drawBand(context, band, y, area) {
  const top = y(band.high);
  context.fillStyle = band.colour;
  context.globalAlpha = 0.14;
  context.fillRect(area.left, top, area.right - area.left, y(band.low) - top);
  context.globalAlpha = 1;
  context.strokeStyle = band.colour;
  context.lineWidth = 1.25;
  context.setLineDash([4, 3]);
  for (const value of [band.low, band.high]) {
    context.beginPath();
    context.moveTo(area.left, y(value));
    context.lineTo(area.right, y(value));
    context.stroke();
  }
  context.setLineDash([]);
}

// Area from the lowest to the highest value of each bin. A gap in the values is a gap in the area.
function drawRange(context, line, scaleX, y, log) {
  const [first, last] = visibleIndices(line.xs, scaleX);
  const usable = (i) => line.low[i] !== null && line.high[i] !== null && (!log || line.high[i] > 0);
  context.fillStyle = line.rangeColour;
  context.globalAlpha = 0.4;
  for (let start = first; start < last; start++) {
    if (!usable(start)) continue;
    let end = start;
    while (end + 1 < last && usable(end + 1)) end++;
    context.beginPath();
    for (let i = start; i <= end; i++) context.lineTo(scaleX(line.xs[i]), y(line.high[i]));
    for (let i = end; i >= start; i--) context.lineTo(scaleX(line.xs[i]), y(line.low[i]));
    context.fill();
    start = end;
  }
  context.globalAlpha = 1;
}

function strokeLine(context, line, values, scaleX, y, log, width) {
  const [first, last] = visibleIndices(line.xs, scaleX);
  const usable = (i) => i >= first && i < last && values[i] !== null && (!log || values[i] > 0);
  const gaps = [];
  let previous = null;
  context.strokeStyle = context.fillStyle = line.colour;
  context.lineWidth = width;
  context.lineJoin = "round";
  context.setLineDash(line.dash);
  context.beginPath();
  for (let i = first; i < last; i++) {
    if (!usable(i)) continue;
    const at = [scaleX(line.xs[i]), y(values[i])];
    if (line.points) {
      context.fillRect(at[0] - 2.5, at[1] - 2.5, 5, 5);
      continue;
    }
    if (usable(i - 1)) {
      if (line.step) context.lineTo(at[0], previous[1]);
      context.lineTo(...at);
    } else {
      if (previous) gaps.push([previous, at]);
      context.moveTo(...at);
    }
    previous = at;
    // A value before a gap is as wide as its bin, so that a single one is visible.
    if (!usable(i + 1) && (line.step || !usable(i - 1))) {
      previous = [Math.max(at[0] + 2, scaleX(line.xs[i] + scaleX.binWidth)), at[1]];
      context.lineTo(...previous);
    }
  }
  context.stroke();
  strokeGaps(context, gaps);
}

// A faint dotted line leads the eye over a gap. It is not a value, and the crosshair shows none there.
function strokeGaps(context, gaps) {
  context.setLineDash([1, 4]);
  context.lineWidth = 1;
  const strength = context.globalAlpha;
  context.globalAlpha = strength * 0.6;
  context.beginPath();
  for (const [start, end] of gaps) {
    context.moveTo(...start);
    context.lineTo(...end);
  }
  context.stroke();
  context.globalAlpha = strength;
  context.setLineDash([]);
}

// Rows of marks at full strength. The height of a mark shows the share, so that a rare event stays visible.
function drawRowPanel(canvas, panel, scaleX, area, options) {
  const context = prepareCanvas(canvas, area.width, area.height);
  const { theme, pitch, labelHeight } = options;
  panel.rows.forEach((row, index) => {
    const base = (index + 1) * pitch - 2;
    const full = pitch - labelHeight - 5;
    context.strokeStyle = theme.grid;
    context.beginPath();
    context.moveTo(area.left, base + 0.5);
    context.lineTo(area.right, base + 0.5);
    context.stroke();
    context.save();
    context.beginPath();
    context.rect(area.left, 0, area.right - area.left, area.height);
    context.clip();
    context.fillStyle = context.strokeStyle = row.colour;
    context.lineWidth = 1;
    const [first, last] = visibleIndices(row.xs, scaleX);
    for (let i = first; i < last; i++) {
      const x = scaleX(row.xs[i]);
      const width = Math.max(2.5, scaleX(row.xs[i] + row.width) - x - 0.5);
      const share = row.full && row.n ? Math.min(1, row.n[i] / row.full) : 1;
      const height = Math.max(6, full * share);
      const left = row.width ? x : x - width / 2;
      if (row.hollow) strokeMark(context, left, base - height, width, height);
      else context.fillRect(left, base - height, width, height);
    }
    context.restore();
  });
}

// The outline is on whole pixels, so that it is as dark as a full mark. A narrow one becomes a line.
function strokeMark(context, left, top, width, height) {
  const [x, y] = [Math.round(left) + 0.5, Math.round(top) + 0.5];
  context.strokeRect(x, y, Math.max(0, Math.round(width) - 1), Math.round(height) - 1);
}
