// Strip of metrics: label, value, note and a small curve with its lowest and highest value.

function drawCurve(canvas, values, colour) {
  const ratio = window.devicePixelRatio || 1;
  const [width, height] = [72, 30];
  [canvas.width, canvas.height] = [width * ratio, height * ratio];
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  const low = Math.min(...values);
  const span = Math.max(...values) - low || 1;
  context.strokeStyle = colour;
  context.lineWidth = 1.5;
  context.beginPath();
  values.forEach((value, i) => {
    context.lineTo((i / Math.max(1, values.length - 1)) * (width - 2) + 1, height - 2 - ((value - low) / span) * (height - 4));
  });
  context.stroke();
}

function textNode(tag, name, text) {
  const node = document.createElement(tag);
  node.className = name;
  node.textContent = text;
  return node;
}

function metricNode({ label, value, note, low, high, series, warn, help }) {
  const node = textNode("div", warn ? "metric warn" : "metric", "");
  node.title = help;
  const texts = textNode("div", "texts", "");
  texts.append(textNode("div", "label", label), textNode("div", "value", value), textNode("div", "note", note ?? ""));
  node.append(texts);
  if (series && series.length > 1) {
    const curve = textNode("div", "curve", "");
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${label}: from ${low} to ${high}`);
    curve.append(textNode("div", "limit", high), canvas, textNode("div", "limit", low));
    node.append(curve);
    drawCurve(canvas, series, "#1C83CC");
  }
  return node;
}

export default function mount({ parentElement, data }) {
  let strip = parentElement.querySelector(".strip");
  if (!strip) {
    strip = textNode("div", "strip", "");
    parentElement.append(strip);
  }
  strip.replaceChildren(...data.metrics.map(metricNode));
}
