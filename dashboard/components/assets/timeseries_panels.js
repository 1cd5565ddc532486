// Views of the panels: legend and canvas of lines, and rows of marks with their names.

function lineView(chart, panel) {
  const head = element("div", { className: "head" });
  const canvas = element("canvas", { ariaHidden: "true" });
  const view = { canvas, node: element("div", { className: "panel" }, [head, canvas]), buttons: [] };
  head.append(panelTitle(panel));
  panel.lines.forEach((line, index) => {
    view.buttons.push(legendButton(chart, view, head, index, line.name, ""));
    if (line.low) view.buttons.push(legendButton(chart, view, head, index, line.rangeName, "range"));
  });
  const log = element("button", { className: "log", textContent: "log", type: "button", title: "Logarithmic axis" });
  log.addEventListener("click", () => {
    chart.logs.set(panel.key, !chart.logs.get(panel.key));
    chart.draw();
  });
  head.append(log);
  view.draw = (current) => {
    view.panel = current;
    log.hidden = Boolean(current.domain) || !hasPositive(current);
    const isLog = !log.hidden && chart.logs.get(current.key);
    log.ariaPressed = String(isLog);
    const isHidden = (line, part) => chart.isHidden(current, line, part);
    const range = valueRange(current, chart.scaleX, isLog, isHidden);
    view.area = { ...chart.area, height: current.height };
    view.y = makeScaleY(range, current.height, isLog);
    const options = { theme: chart.theme, log: isLog, range, isHidden, smoothing: chart.smoothing };
    drawLinePanel(canvas, current, chart.scaleX, view.area, options);
    for (const { node, index, part } of view.buttons) {
      node.ariaPressed = String(!isHidden(current.lines[index], part));
    }
  };
  view.cursor = (current, x) => lineValues(chart, view, current, x);
  return view;
}

function panelTitle(panel) {
  const unit = panel.unit ? [element("span", { className: "unit", textContent: `, ${panel.unit}` })] : [];
  return element("span", { className: "title" }, [panel.title, ...unit]);
}

function hasPositive(panel) {
  return panel.lines.some((line) => line.y.some((value) => value > 0));
}

function legendButton(chart, view, head, index, name, part) {
  const line = () => view.panel.lines[index];
  const value = element("span", { className: "value" });
  const label = element("span", { className: "name", textContent: name });
  const node = element("button", { type: "button" }, [label, value]);
  node.title = `Show or hide ${name}`;
  node.addEventListener("click", () => chart.toggle(view.panel, line(), part));
  requestAnimationFrame(() => node.prepend(swatch(line(), part)));
  head.append(node);
  return { node, value, index, part, name };
}

// Values at the crosshair; without it, the last visible values.
function lineValues(chart, view, panel, x) {
  const texts = [];
  for (const { value, index, part, name } of view.buttons) {
    const line = panel.lines[index];
    const hidden = chart.isHidden(panel, line, part);
    const at = x === null ? Math.min(line.xs.length, visibleIndices(line.xs, chart.scaleX)[1]) - 1 : indexAt(line, x);
    const values = chart.smoothing && line.smooth ? line.smoothed : line.y;
    const number = at >= 0 ? values[at] : null;
    if (part) {
      value.textContent = at >= 0 ? `${formatNumber(line.low[at], panel.format)} – ${formatNumber(line.high[at], panel.format)}` : "–";
    } else {
      value.textContent = formatNumber(number, panel.format);
      if (x !== null && !hidden && number !== null && at >= 0 && chart.scaleX(line.xs[at]) >= chart.area.left) {
        chart.addDot(view, chart.scaleX(line.xs[at]), view.y(number), line.colour);
      }
    }
    if (!hidden && x !== null) texts.push(`${name} ${value.textContent}`);
  }
  return texts;
}

// A line has no value before its first and after its last point.
function indexAt(line, x) {
  if (!line.xs.length || x < line.xs[0]) return -1;
  const last = line.xs.length - 1;
  const step = last > 0 ? line.xs[last] - line.xs[last - 1] : 0;
  if (x > line.xs[last] + step) return -1;
  return line.step ? lowerBound(line.xs, x + 1e-9) - 1 : nearestIndex(line.xs, x);
}

function rowView(chart, panel) {
  const head = element("div", { className: "head" }, [panelTitle(panel)]);
  const canvas = element("canvas", { ariaHidden: "true" });
  const rows = element("div", { className: "rows" });
  const plot = element("div", { style: "position:relative" }, [canvas, rows]);
  const view = { canvas, node: element("div", { className: "panel" }, [head, plot]) };
  view.buttons = panel.rows.map((row, index) => {
    const node = element("button", { type: "button", title: row.name, textContent: row.name });
    node.addEventListener("click", (event) => {
      event.stopPropagation();
      const [low, high] = chart.range();
      chart.pick({ panel: panel.key, row: view.panel.rows[index].key, low: Math.floor(low), high: Math.ceil(high) }, null);
    });
    rows.append(node);
    return { node };
  });
  view.draw = (current, small) => {
    view.panel = current;
    view.pitch = small ? 36 : 22;
    const labelHeight = small ? 16 : 0;
    view.area = { ...chart.area, height: current.rows.length * view.pitch + 2 };
    drawRowPanel(canvas, current, chart.scaleX, view.area, { theme: chart.theme, pitch: view.pitch, labelHeight });
    view.buttons.forEach(({ node }, index) => {
      node.style.top = `${index * view.pitch + (small ? 0 : 2)}px`;
      node.style.width = small ? "auto" : `${chart.area.left - 6}px`;
    });
  };
  view.cursor = (current, x) => rowValues(chart, view, current, x);
  view.pickAt = (x, y) => pickCell(chart, view, x, y);
  return view;
}

function rowValues(chart, view, panel, x) {
  const texts = [];
  panel.rows.forEach((row, index) => {
    const at = x === null ? -1 : binIndex(row.xs, Math.max(1, row.width), x);
    if (at < 0) return;
    const text = formatNumber(row.n ? row.n[at] : 1, "integer");
    chart.addCount(view, chart.scaleX(x), (index + 1) * view.pitch - 20, text);
    texts.push(`${row.name} ${text}`);
  });
  return texts;
}

// A mark within five pixels is picked, because a single event is narrow.
function pickCell(chart, view, x, y) {
  const index = Math.floor(y / view.pitch);
  const row = view.panel.rows[index];
  if (!row || !row.xs.length || x < chart.area.left) return false;
  const at = chart.invert(x);
  let found = binIndex(row.xs, row.width, at);
  if (found < 0) {
    const near = nearestIndex(row.xs, at);
    if (Math.abs(chart.scaleX(row.xs[near]) - x) > 5) return false;
    found = near;
  }
  const left = Math.max(chart.area.left, chart.scaleX(row.xs[found])) - 2;
  const right = Math.min(chart.area.right, chart.scaleX(row.xs[found] + row.width));
  const top = view.node.offsetTop + view.canvas.parentElement.offsetTop + index * view.pitch;
  const box = { left, top, width: Math.max(6, right - left + 2), height: view.pitch };
  const last = row.xs[found] + Math.max(1, row.width) - 1;
  chart.pick({ panel: view.panel.key, row: row.key, low: row.xs[found], high: last }, box);
  return true;
}
