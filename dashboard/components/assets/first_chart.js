// Shows the chart of a page while Streamlit starts, and removes it when Streamlit has drawn the same chart.

const LIMIT_MILLISECONDS = 20_000;
// Colours of Streamlit without a theme of the user.
const COLOURS = {
  light: { background: "#FFFFFF", text: "#2F2D2B", border: "rgba(47, 45, 43, 0.2)" },
  dark: { background: "#171614", text: "#EDEBE8", border: "rgba(237, 235, 232, 0.2)" },
};
let host = null;
let isOver = false;

function end() {
  isOver = true;
  host?.remove();
}

// The page can have ended without a chart, such as with an error.
function endWithThePage(observer) {
  const app = document.querySelector("[data-test-script-state]");
  if (app?.dataset.testScriptState === "notRunning") {
    observer.disconnect();
    end();
  }
}

function draw({ page, run, title, log, isBroken, chart }, file) {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  host = document.createElement("div");
  host.id = "first-chart";
  host.inert = true;
  for (const [name, value] of Object.entries(COLOURS[dark ? "dark" : "light"])) host.style.setProperty(`--st-${name}-color`, value);
  host.style.setProperty("--st-font", '"Source Sans", sans-serif');
  const root = host.attachShadow({ mode: "open" });
  const add = (parent, name, text = "") => {
    const node = Object.assign(document.createElement("div"), { className: name, textContent: text });
    parent.append(node);
    return node;
  };
  for (const css of [style, file.style]) root.append(Object.assign(document.createElement("style"), { textContent: css }));
  const box = add(add(root, isBroken ? "box broken" : "box"), `page ${page}`);
  add(box, "path", `Runs / ${run}`);
  add(box, "state", isBroken ? `Do not rely on this page. The ${log}` : log);
  add(box, "heading", title);
  const parent = add(box, "chart");
  document.body.append(host);
  file.default({ parentElement: parent, data: chart, isFirst: true });
}

async function start() {
  const data = document.getElementById("first-chart-data");
  if (!data) return;
  const file = await import(document.querySelector('link[href*="/ockham_timeseries."]').href);
  if (isOver) return;
  draw(JSON.parse(data.textContent), file);
  new MutationObserver((_, observer) => endWithThePage(observer)).observe(document.body, {
    subtree: true, childList: true, attributeFilter: ["data-test-script-state"],
  });
  setTimeout(end, LIMIT_MILLISECONDS);
}

document.addEventListener("ockham-chart", end, { once: true });
window.addEventListener("popstate", end);
document.addEventListener("click", (event) => event.target.closest("a, button") && end());
if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
else start();
