// Elements without HTML: what a model or a person wrote is only ever put into text nodes.

// element("p", { class: "note", hidden: true, onclick: act }, "text", child)
export function element(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function fill(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

export const key = (name) => element("kbd", { "aria-hidden": "true" }, name);

// A button that shows its key. `keys` is what a screen reader is told.
export function button(label, { shown = null, keys = null, ...attributes }) {
  const made = element("button", { type: "button", "aria-keyshortcuts": keys ?? shown, ...attributes });
  made.append(element("span", { class: "label" }, label));
  if (shown) made.append(key(shown));
  return made;
}

// Stretches of text; a marked one stands for a character that cannot be seen.
export function written(pieces) {
  const made = document.createDocumentFragment();
  for (const piece of pieces) {
    made.append(
      piece.mark
        ? element("span", { class: "mark", title: piece.mark, role: "img", "aria-label": piece.mark }, piece.text)
        : document.createTextNode(piece.text),
    );
  }
  return made;
}

export const plural = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;
