// Shows the first view of a page while Streamlit starts, and removes it when Streamlit has drawn the same.

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

// The table of runs sends no event when it is drawn. The page can also end without it, such as with an error.
function endWithThePage(observer) {
  const app = document.querySelector("[data-test-script-state]");
  if (app?.dataset.testScriptState === "notRunning" || document.querySelector("[data-testid=stDataFrame] canvas")) {
    observer.disconnect();
    end();
  }
}

function add(parent, tag, name, text = "") {
  const node = Object.assign(document.createElement(tag), { className: name, textContent: text });
  parent.append(node);
  return node;
}

function makeRoot() {
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  host = document.createElement("div");
  host.id = "first-view";
  host.inert = true;
  for (const [name, value] of Object.entries(COLOURS[dark ? "dark" : "light"])) host.style.setProperty(`--st-${name}-color`, value);
  host.style.setProperty("--st-font", '"Source Sans", sans-serif');
  return host.attachShadow({ mode: "open" });
}

function addTable(parent, columns, rows) {
  const table = add(parent, "table", "rows");
  const head = add(table, "tr", "");
  for (const column of ["", ...columns]) add(head, "th", "", column);
  for (const cells of rows) {
    const row = add(table, "tr", "");
    for (const cell of ["☐", ...cells]) add(row, "td", "", cell);
  }
}

function draw(view, file) {
  const root = makeRoot();
  for (const css of [style, file?.style ?? ""]) root.append(Object.assign(document.createElement("style"), { textContent: css }));
  const box = add(add(root, "div", view.isBroken ? "box broken" : "box"), "div", `page ${view.page}`);
  for (const name of ["path", "state", "heading"]) add(box, "div", name, view[name]);
  const parent = add(box, "div", "content");
  document.body.append(host);
  if (view.chart) file.default({ parentElement: parent, data: view.chart, isFirst: true });
  else addTable(parent, view.columns, view.rows);
}

async function start() {
  const data = document.getElementById("first-view-data");
  if (!data) return;
  const view = JSON.parse(data.textContent);
  // The style is defined at the end of this module, which runs until the first await.
  const file = await (view.chart && import(document.querySelector('link[href*="/ockham_timeseries."]').href));
  if (isOver) return;
  draw(view, file);
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
