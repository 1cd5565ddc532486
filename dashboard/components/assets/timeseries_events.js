// Pointer, wheel and keys of the time-series component.

// A drag with a mouse or a pen zooms, and with Shift it pans. A finger scrolls the page and moves the crosshair.
function addPointerEvents(chart) {
  const { plots } = chart;
  let start = null;
  const position = (event) => {
    const box = plots.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  };
  plots.addEventListener("pointerdown", (event) => {
    if (event.button > 1 || event.target.closest("button") || event.pointerType === "touch") return;
    const [x] = position(event);
    if (x < chart.area.left - 8) return;
    start = { x, view: chart.range(), pan: event.shiftKey || event.button === 1, moved: false };
    plots.setPointerCapture(event.pointerId);
    plots.focus({ preventScroll: true });
    event.preventDefault();
  });
  plots.addEventListener("pointermove", (event) => {
    const [x] = position(event);
    if (start) dragTo(chart, start, x);
    if (event.pointerType !== "touch") chart.setCursor(chart.invert(x));
  });
  plots.addEventListener("pointerup", (event) => {
    const [x, y] = position(event);
    const ended = start;
    start = null;
    chart.brush.hidden = true;
    plots.classList.remove("panning");
    if (ended?.moved) {
      if (ended.pan) endPan(chart, ended);
      else chart.setView([chart.invert(ended.x), chart.invert(x)].sort((a, b) => a - b));
    } else if (ended || event.pointerType === "touch") clickAt(chart, event, x, y);
  });
  plots.addEventListener("pointercancel", () => {
    start = null;
    chart.brush.hidden = true;
  });
  plots.addEventListener("pointerleave", (event) => {
    if (!start && event.pointerType !== "touch") chart.setCursor(null);
  });
  plots.addEventListener("dblclick", (event) => {
    if (!event.target.closest("button")) chart.setView(null);
  });
  plots.addEventListener("wheel", (event) => wheel(chart, event, position(event)[0]), { passive: false });
}

function dragTo(chart, start, x) {
  start.moved ||= Math.abs(x - start.x) > DRAG_PIXELS;
  if (!start.moved) return;
  if (start.pan) {
    chart.plots.classList.add("panning");
    const [low, high] = start.view;
    const shift = ((start.x - x) / (chart.area.right - chart.area.left)) * (high - low);
    chart.setView([low + shift, high + shift], false);
    return;
  }
  const clamp = (value) => Math.min(chart.area.right, Math.max(chart.area.left, value));
  const [left, right] = [clamp(start.x), clamp(x)].sort((a, b) => a - b);
  Object.assign(chart.brush.style, { left: `${left}px`, width: `${right - left}px` });
  chart.brush.hidden = false;
}

// One pan is one step of the history.
function endPan(chart, start) {
  const { low, high } = chart.data.axis;
  const [first, last] = start.view;
  chart.history.push(first <= low && last >= high ? null : start.view);
  chart.draw();
}

function clickAt(chart, event, x, y) {
  if (event.target.closest("button, .head")) return;
  chart.setCursor(chart.invert(x));
  for (const view of chart.views) {
    const top = view.node.offsetTop + (view.canvas.parentElement === view.node ? 0 : view.canvas.parentElement.offsetTop);
    if (view.pickAt && y >= top && y < top + view.area.height) {
      view.pickAt(x, y - top);
      return;
    }
  }
  pickCursor(chart);
}

function pickCursor(chart) {
  if (chart.cursor === null) return;
  const { width } = chart.data.axis;
  chart.pick({ panel: "", row: "", low: chart.cursor, high: chart.cursor + Math.max(1, width ?? 1) - 1 }, null);
}

// The page scrolls until the chart has been clicked, or Ctrl is pressed.
function wheel(chart, event, x) {
  const active = event.ctrlKey || event.metaKey || chart.parent.activeElement === chart.plots
    || document.activeElement === chart.plots;
  if (!active) return;
  event.preventDefault();
  const horizontal = event.shiftKey ? event.deltaY : event.deltaX;
  const first = !chart.wheelTimer;
  clearTimeout(chart.wheelTimer);
  chart.wheelTimer = setTimeout(() => { chart.wheelTimer = null; }, 600);
  if (Math.abs(horizontal) > Math.abs(event.shiftKey ? 0 : event.deltaY)) chart.panBy(horizontal / 1000, first);
  else chart.zoomBy(Math.exp(Math.max(-1, Math.min(1, event.deltaY / 300))), chart.invert(x), first);
}

function addKeyEvents(chart) {
  chart.plots.setAttribute("role", "slider");
  chart.plots.addEventListener("keydown", (event) => {
    if (event.target !== chart.plots || event.ctrlKey || event.metaKey || event.altKey) return;
    const actions = {
      ArrowLeft: () => (event.shiftKey ? chart.panBy(-0.25) : stepCursor(chart, -1)),
      ArrowRight: () => (event.shiftKey ? chart.panBy(0.25) : stepCursor(chart, 1)),
      PageUp: () => stepCursor(chart, 25),
      PageDown: () => stepCursor(chart, -25),
      Home: () => chart.setCursor(chart.range()[0]),
      End: () => chart.setCursor(chart.range()[1]),
      "+": () => chart.zoomBy(0.5),
      "-": () => chart.zoomBy(2),
      0: () => chart.setView(null),
      Backspace: () => chart.zoomBack(),
      Enter: () => pickCursor(chart),
      Escape: () => chart.setCursor(null),
    };
    const act = actions[event.key];
    if (!act) return;
    event.preventDefault();
    // Streamlit has keys of its own.
    event.stopPropagation();
    act();
  });
}

function stepCursor(chart, count) {
  const line = chart.panels.flatMap((panel) => panel.lines ?? [])[0];
  const [low, high] = chart.range();
  if (!line || chart.cursor === null) {
    chart.setCursor(count > 0 ? low : high);
    return;
  }
  const at = nearestIndex(line.xs, chart.cursor) + count;
  const x = line.xs[Math.min(line.xs.length - 1, Math.max(0, at))];
  chart.setCursor(Math.min(high, Math.max(low, x)));
}
