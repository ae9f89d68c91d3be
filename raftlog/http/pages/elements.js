// Elements made of data. Whatever is shown is set as text or as an attribute: nothing is ever read as HTML.

const SVG = "http://www.w3.org/2000/svg";
const HANDLERS = ["onclick", "onchange", "oninput", "onsubmit"];

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (HANDLERS.includes(name)) element[name] = value;
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children.flat(3).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** An HTML element; children are elements and texts. */
export function h(name, attributes, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes, ...children) {
  return fill(document.createElementNS(SVG, name), attributes, children);
}

/** Makes `old` look like `made`, and keeps what is the same: the focus, what is scrolled, what somebody types. */
export function morph(old, made) {
  if (old.nodeType !== made.nodeType || old.nodeName !== made.nodeName) {
    old.replaceWith(made);
  } else if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== made.data) old.data = made.data;
  } else {
    morphElement(old, made);
  }
}

function morphElement(old, made) {
  for (const { name } of [...old.attributes]) {
    if (!made.hasAttribute(name) && name !== "open") old.removeAttribute(name);
  }
  for (const { name, value } of made.attributes) {
    if (old.getAttribute(name) !== value && name !== "value") old.setAttribute(name, value);
  }
  for (const name of HANDLERS) old[name] = made[name];
  const before = [...old.childNodes];
  const after = [...made.childNodes];
  after.forEach((child, at) => (at < before.length ? morph(before[at], child) : old.append(child)));
  before.slice(after.length).forEach((child) => child.remove());
}

/** A labelled control. */
export function field(id, label, control) {
  control.id = id;
  return h("div", { class: "field" }, h("label", { for: id }, label), control);
}

export function facts(...pairs) {
  return h("dl", { class: "facts" }, pairs.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

/** `columns`: [title, row => child, "num" for numbers]; the first names the row. */
export function table(caption, columns, rows) {
  const cell = ([, make, kind], row, at) =>
    h(at === 0 ? "th" : "td", { class: kind || null, scope: at === 0 ? "row" : null }, make(row));
  return h(
    "div",
    { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h(
      "table",
      null,
      h("caption", null, caption),
      h("thead", null, h("tr", null, columns.map(([title, , kind]) => h("th", { scope: "col", class: kind || null }, title)))),
      h("tbody", null, rows.map((row) => h("tr", null, columns.map((column, at) => cell(column, row, at))))),
    ),
  );
}

const ROWS_MAX = 250;

/** As `table`, in parts when there are many rows. `view` keeps which part; `again` shows it. */
export function pagedTable(caption, columns, rows, view, again) {
  const last = Math.max(0, Math.ceil(rows.length / ROWS_MAX) - 1);
  const page = Math.min(view.page ?? 0, last);
  const turn = (to, text) =>
    h("button", { type: "button", disabled: to < 0 || to > last, onclick: () => { view.page = to; again(); } }, text);
  const shown = rows.slice(page * ROWS_MAX, (page + 1) * ROWS_MAX);
  const part = `${page * ROWS_MAX + 1} to ${page * ROWS_MAX + shown.length} of ${rows.length}`;
  return [
    table(last ? `${caption}: ${part}` : caption, columns, shown),
    last ? h("div", { class: "bar" }, turn(page - 1, "Previous"), turn(page + 1, "Next"), h("span", null, part)) : null,
  ];
}

export function empty(...children) {
  return h("p", { class: "empty" }, children);
}

export function link(path, text) {
  return h("a", { href: `#/${path}` }, text);
}
