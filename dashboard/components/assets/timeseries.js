// Time-series component: panels on one axis, one crosshair, zoom with history, smoothing and legends.

const DRAG_PIXELS = 5;
const NOTIFY_MILLISECONDS = 250;
const SMALL_WIDTH = 560;
const instances = new WeakMap();

function element(tag, properties = {}, children = []) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

class Timeseries {
  constructor(parent) {
    this.parent = parent;
    this.hidden = new Set();
    this.logs = new Map();
    this.smoothing = null;
    this.history = [];
    this.view = null;
    this.serverView = undefined;
    this.cursor = null;
    this.root = element("div", { className: "root" });
    this.tools = element("div", { className: "tools", role: "toolbar" });
    this.plots = element("div", { className: "plots", tabIndex: 0 });
    this.root.append(this.tools, this.plots);
    parent.append(this.root);
    this.buildTools();
    addPointerEvents(this);
    addKeyEvents(this);
    this.observer = new ResizeObserver(() => {
      if (this.root.clientWidth !== this.area?.width) this.draw();
    });
    this.observer.observe(this.root);
  }

  // New data are drawn in place. Zoom, legend, smoothing and crosshair stay.
  update({ data, setStateValue, setTriggerValue }) {
    this.send = { setStateValue, setTriggerValue };
    const style = getComputedStyle(this.root);
    const text = style.getPropertyValue("--st-text-color").trim() || "#31333F";
    this.theme = { text, label: mixed(text, 0.78), grid: mixed(text, 0.13), font: style.fontFamily };
    if (data !== this.data) this.setData(data);
    this.draw();
    this.root.dataset.drawn = String(Number(this.root.dataset.drawn || 0) + 1);
  }

  setData(data) {
    this.data = data;
    this.panels = data.panels;
    const xs = data.xs.map(expand);
    for (const panel of this.panels) {
      panel.bands ??= [];
      for (const item of panel.lines ?? panel.rows) {
        item.xs = xs[item.x];
        for (const name of ["y", "low", "high", "n"]) if (item[name]) item[name] = expand(item[name]);
        item.dash ??= [];
        if (!this.logs.has(panel.key)) this.logs.set(panel.key, Boolean(panel.log));
      }
    }
    this.joinWholeRange(data.view);
    this.smoothing ??= data.smoothing ?? 0;
    const view = data.view ? [...data.view] : null;
    if (String(view) !== String(this.serverView)) {
      this.serverView = view;
      // The browser is ahead of the server while a zoom has not been sent.
      if (!this.timer) this.view = view;
    }
    this.plots.setAttribute("aria-label", data.description);
    this.nameWidth = measureNames(this.panels, this.theme.font);
    this.applySmoothing();
    this.buildPanels();
  }

  // A zoomed message contains the visible range only. The rest is filled from the last message with the whole
  // range, so that a pan or a zoom shows values at once, until the server has sent finer ones.
  joinWholeRange(view) {
    const lines = this.panels.flatMap((panel) => (panel.lines ?? []).map((line) => [`${panel.key}/${line.name}`, line]));
    if (!view) {
      this.whole = new Map(lines.map(([name, line]) => [name, { ...line }]));
      return;
    }
    for (const [name, line] of lines) {
      const whole = this.whole?.get(name);
      if (whole) Object.assign(line, joinLines(whole, line, view));
    }
  }

  // The DOM of the panels stays while their structure is the same, so that the focus is not lost.
  buildPanels() {
    const structure = JSON.stringify(
      this.panels.map((p) => [p.key, p.title, p.unit, (p.lines ?? p.rows).map((l) => [l.name, l.colour, l.dash])]),
    );
    if (structure === this.structure) return;
    this.structure = structure;
    this.line = element("div", { className: "line", hidden: true });
    this.brush = element("div", { className: "brush", hidden: true });
    this.pickedBox = element("div", { className: "picked", hidden: true });
    this.axisCanvas = element("canvas", { ariaHidden: "true" });
    this.views = this.panels.map((panel) => (panel.lines ? lineView(this, panel) : rowView(this, panel)));
    this.plots.replaceChildren(
      ...this.views.map((view) => view.node), this.axisCanvas, this.line, this.brush, this.pickedBox,
    );
    this.dots = [];
  }

  buildTools() {
    const button = (text, label, act) => {
      const node = element("button", { textContent: text, ariaLabel: label, title: label, type: "button" });
      node.addEventListener("click", act);
      return node;
    };
    this.at = element("span", { className: "at" });
    this.backButton = button("Back", "Back to the previous zoom", () => this.zoomBack());
    this.wholeButton = button("Whole", "Show the whole range (0)", () => this.setView(null));
    this.smoothInput = element("input", { type: "range", min: 0, max: 0.99, step: 0.01, ariaLabel: "Smoothing" });
    this.smoothOutput = element("output");
    this.smoothInput.addEventListener("input", () => {
      this.smoothing = Number(this.smoothInput.value);
      this.applySmoothing();
      this.draw();
    });
    this.smoothLabel = element("label", { className: "smooth" }, ["Smoothing", this.smoothInput, this.smoothOutput]);
    this.tools.append(
      this.at, this.smoothLabel,
      button("−", "Zoom out (-)", () => this.zoomBy(2)), button("+", "Zoom in (+)", () => this.zoomBy(0.5)),
      button("←", "Move left (Shift + left)", () => this.panBy(-0.25)),
      button("→", "Move right (Shift + right)", () => this.panBy(0.25)),
      this.backButton, this.wholeButton,
    );
  }

  applySmoothing() {
    this.smoothInput.value = this.smoothing;
    this.smoothOutput.value = this.smoothing ? this.smoothing.toFixed(2) : "off";
    for (const panel of this.panels ?? []) {
      for (const line of panel.lines ?? []) line.smoothed = line.smooth ? smooth(line.y, this.smoothing) : line.y;
    }
  }

  range() {
    return this.view ?? [this.data.axis.low, this.data.axis.high];
  }

  isHidden(panel, line, part = "") {
    return this.hidden.has(`${line.group ?? panel.key}/${line.group ? "" : line.name}/${part}`);
  }

  toggle(panel, line, part = "") {
    const name = `${line.group ?? panel.key}/${line.group ? "" : line.name}/${part}`;
    if (!this.hidden.delete(name)) this.hidden.add(name);
    this.draw();
  }

  // Without `keep` the previous view is added to the history. The server receives it after a pause.
  setView(view, keep = true) {
    const { low, high, format } = this.data.axis;
    if (view) {
      const least = format === "integer" ? 4 : (high - low) / 1e6;
      const span = Math.min(high - low, Math.max(least, view[1] - view[0]));
      const start = Math.min(Math.max(low, view[0]), high - span);
      view = span >= high - low ? null : [start, start + span];
    }
    if (String(view) === String(this.view)) return;
    if (keep) this.history.push(this.view);
    this.view = view;
    this.pickedBox.hidden = true;
    this.draw();
    clearTimeout(this.timer);
    this.timer = setTimeout(() => {
      this.timer = null;
      const integers = format === "integer";
      const sent = this.view && (integers ? [Math.floor(this.view[0]), Math.ceil(this.view[1])] : this.view);
      this.send.setStateValue("view", sent && { low: sent[0], high: sent[1] });
    }, NOTIFY_MILLISECONDS);
  }

  zoomBack() {
    if (!this.history.length) return;
    this.setView(this.history.pop(), false);
    this.draw();
  }

  zoomBy(factor, centre = null, keep = true) {
    const [low, high] = this.range();
    const at = centre ?? this.cursor ?? (low + high) / 2;
    this.setView([at - (at - low) * factor, at + (high - at) * factor], keep);
  }

  panBy(share, keep = true) {
    const [low, high] = this.range();
    this.setView([low + (high - low) * share, high + (high - low) * share], keep);
  }

  draw() {
    const width = this.root.clientWidth;
    if (!this.data || !width) return;
    const small = width < SMALL_WIDTH;
    this.area = { width, left: small ? 52 : Math.max(52, this.nameWidth), right: width - 10, height: 0 };
    this.plots.dataset.left = this.area.left;
    const [low, high] = this.range();
    const span = high - low || 1;
    this.scaleX = (x) => this.area.left + ((x - low) / span) * (this.area.right - this.area.left);
    Object.assign(this.scaleX, { low, high, binWidth: this.data.axis.width });
    this.views.forEach((view, index) => view.draw(this.panels[index], small));
    drawAxisX(this.axisCanvas, this.scaleX, this.area, this.data.axis, this.theme);
    this.backButton.disabled = !this.history.length;
    this.wholeButton.disabled = this.view === null;
    this.smoothLabel.hidden = !this.panels.some((p) => p.lines?.some((line) => line.smooth));
    this.drawCursor();
  }

  invert(pixels) {
    const [low, high] = this.range();
    const share = (pixels - this.area.left) / (this.area.right - this.area.left);
    return low + (high - low) * Math.min(1, Math.max(0, share));
  }

  // The crosshair is at the nearest value of all lines, and all panels show their value at it.
  setCursor(x) {
    this.cursor = x === null ? null : this.nearest(x);
    this.drawCursor();
  }

  nearest(x) {
    let best = x;
    let distance = Infinity;
    for (const panel of this.panels) {
      for (const line of panel.lines ?? []) {
        const at = this.isHidden(panel, line) ? -1 : nearestIndex(line.xs, x);
        if (at >= 0 && Math.abs(line.xs[at] - x) < distance) {
          best = line.xs[at];
          distance = Math.abs(best - x);
        }
      }
    }
    return distance === Infinity ? (this.data.axis.format === "integer" ? Math.round(x) : x) : best;
  }

  drawCursor() {
    const [low, high] = this.range();
    const shown = this.cursor !== null && this.cursor >= low && this.cursor <= high;
    this.line.hidden = !shown;
    if (shown) this.line.style.left = `${this.scaleX(this.cursor)}px`;
    const { title, format } = this.data.axis;
    const texts = [shown ? `${title} ${formatNumber(this.cursor, format)}` : `${title} ${formatNumber(low, format)} to ${formatNumber(high, format)}`];
    this.at.textContent = texts[0];
    this.dots.forEach((dot) => dot.remove());
    this.dots = [];
    this.views.forEach((view, index) => texts.push(...view.cursor(this.panels[index], shown ? this.cursor : null)));
    this.plots.setAttribute("aria-valuetext", texts.join("; "));
    this.plots.setAttribute("aria-valuemin", low);
    this.plots.setAttribute("aria-valuemax", high);
    this.plots.setAttribute("aria-valuenow", shown ? this.cursor : low);
  }

  addDot(view, x, y, colour) {
    const dot = element("div", { className: "dot" });
    dot.style.cssText = `left:${x}px;top:${view.canvas.offsetTop + view.node.offsetTop + y}px;background:${colour}`;
    this.plots.append(dot);
    this.dots.push(dot);
  }

  addCount(view, x, y, text) {
    const count = element("div", { className: "count", textContent: text });
    const top = view.node.offsetTop + view.canvas.parentElement.offsetTop + y;
    // At the right end the text is left of the crosshair.
    const side = x > this.area.right - 60 ? "translateX(calc(-100% - 4px))" : "translateX(4px)";
    count.style.cssText = `left:${x}px;top:${top}px;transform:${side}`;
    this.plots.append(count);
    this.dots.push(count);
  }

  pick(picked, box) {
    this.pickedBox.hidden = !box;
    if (box) {
      const { left, top, width, height } = box;
      this.pickedBox.style.cssText = `left:${left}px;top:${top}px;width:${width}px;height:${height}px`;
    }
    this.send.setTriggerValue("pick", picked);
  }

  destroy() {
    this.observer.disconnect();
    clearTimeout(this.timer);
    this.root.remove();
  }
}

// Equal and equidistant numbers are sent as start, step and count.
function expand(values) {
  if (Array.isArray(values)) return values;
  return Array.from({ length: values.count }, (_, i) => values.start + i * values.step);
}

// Values of `whole` outside of the range, and of `part` inside of it.
function joinLines(whole, part, [low, high]) {
  const end = lowerBound(whole.xs, low);
  const start = lowerBound(whole.xs, high + 1e-9);
  const join = (outer, inner) => [...outer.slice(0, end), ...inner, ...outer.slice(start)];
  const joined = { xs: join(whole.xs, part.xs), y: join(whole.y, part.y) };
  if (whole.low || part.low) {
    joined.low = join(whole.low ?? whole.y, part.low ?? part.y);
    joined.high = join(whole.high ?? whole.y, part.high ?? part.y);
    joined.rangeName = part.rangeName ?? whole.rangeName;
    joined.rangeColour = part.rangeColour ?? whole.rangeColour;
  }
  return joined;
}

// Width of the names of rows, at most a quarter of a small window.
function measureNames(panels, font) {
  const context = document.createElement("canvas").getContext("2d");
  context.font = FONT + font;
  const widths = panels.flatMap((panel) => (panel.rows ?? []).map((row) => context.measureText(row.name).width));
  return widths.length ? Math.min(200, Math.max(...widths) + 14) : 0;
}

function mixed(colour, share) {
  return `color-mix(in srgb, ${colour} ${Math.round(100 * share)}%, transparent)`;
}

function swatch(line, range) {
  const canvas = element("canvas", { className: "swatch", width: 36, height: 20, ariaHidden: "true" });
  const context = canvas.getContext("2d");
  context.fillStyle = context.strokeStyle = range ? line.rangeColour : line.colour;
  if (range) {
    context.globalAlpha = 0.5;
    context.fillRect(0, 4, 36, 12);
  } else {
    context.lineWidth = 4;
    context.setLineDash(line.dash.map((n) => n * 2));
    context.beginPath();
    context.moveTo(0, 10);
    context.lineTo(36, 10);
    context.stroke();
  }
  return canvas;
}

export default function mount(component) {
  const parent = component.parentElement;
  let chart = instances.get(parent);
  if (!chart || !chart.root.isConnected) {
    chart = new Timeseries(parent);
    instances.set(parent, chart);
  }
  chart.update(component);
  if (!component.isFirst) document.dispatchEvent(new Event("ockham-chart"));
  return () => {
    chart.destroy();
    instances.delete(parent);
  };
}
