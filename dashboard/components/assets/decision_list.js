// List of decisions. Each row is a link, and a plain click opens it without a reload of the page.

function textNode(tag, name, text) {
  const node = document.createElement(tag);
  node.className = name;
  node.textContent = text;
  return node;
}

function rowNode(row, address, open) {
  const link = textNode("a", row.shadow ? "row shadow" : "row", "");
  link.href = new URL(address + row.id, document.baseURI).href;
  link.addEventListener("click", (event) => {
    // With a modifier the browser opens a new tab.
    if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    open(row.id);
  });
  const first = textNode("span", "first", "");
  first.append(textNode("span", "iter", row.iter), textNode("span", "what", row.what));
  if (row.shadow) first.append(textNode("span", "tag", "in shadow"));
  const second = textNode("span", "second", row.reason);
  second.append(" ", textNode("code", "", row.code));
  link.append(first, second);
  if (row.values) link.append(textNode("span", "values", row.values));
  for (const change of row.changes) link.append(textNode("span", "values", change));
  return link;
}

export default function mount({ parentElement, data, setTriggerValue }) {
  let list = parentElement.querySelector(".list");
  if (!list) {
    list = textNode("div", "list", "");
    parentElement.append(list);
  }
  list.setAttribute("aria-label", data.description);
  list.style.maxHeight = `${data.height}px`;
  list.replaceChildren(...data.rows.map((row) => rowNode(row, data.address, (id) => setTriggerValue("open", id))));
  if (!data.rows.length) list.append(textNode("p", "empty", "No decisions."));
}
