// Figures with their intervals: words, tables and charts of the quality and models pages.
import { element, svg } from "./dom.js";

export const percent = (share, digits = 0) => (share === null ? "–" : `${(100 * share).toFixed(digits)} %`);
export const decimal = (value, digits = 2) => (value === null ? "–" : value.toFixed(digits));
export const seconds = (value) => (value === null ? "–" : value < 120 ? `${Math.round(value)} s` : `${Math.round(value / 60)} min`);

// The estimate and, fainter, its 95 % interval.
export function figure(found, show = percent) {
  if (!found || found.estimate === null || !found.n) return element("span", { class: "interval" }, "–");
  return element(
    "span",
    { title: `95 % interval, from ${found.n} ${found.n === 1 ? "task" : "tasks"}` },
    show(found.estimate),
    element("span", { class: "interval" }, `${show(found.low)} – ${show(found.high)}`),
  );
}

export function tile(name, value, more) {
  return element(
    "div",
    { class: "tile" },
    element("span", { class: "name" }, name),
    element("span", { class: "value" }, value),
    element("span", { class: "more" }, more),
  );
}

export function section(title, note, ...content) {
  return element("section", {}, element("h2", {}, title), note ? element("p", { class: "note" }, note) : null, ...content);
}

// rows: lists of text, elements, or ready cells; the first of each names its row.
export function table(caption, columns, rows) {
  const head = element("tr", {}, ...columns.map((name) => element("th", { scope: "col" }, name)));
  const body = rows.map(([name, ...cells]) =>
    element("tr", {}, element("th", { scope: "row", title: name }, name), ...cells.map(cell)),
  );
  const made = element("table", {}, element("caption", {}, caption), element("thead", {}, head), element("tbody", {}, ...body));
  return element("div", { class: "wide", tabindex: "0", role: "group", "aria-label": caption }, made);
}

function cell(content) {
  return content instanceof HTMLTableCellElement ? content : element("td", {}, content);
}

// A dot and its interval for each row, over one scale. `reference`: where a dashed line stands, and its words.
export function intervals(title, rows, { from, to, show = percent, reference = null }) {
  const width = Math.min(760, Math.max(320, document.getElementById("report").clientWidth));
  const [left, right, high, top] = [Math.min(150, width * 0.28), width - 60, 30, 26];
  const x = (value) => left + ((right - left) * (Math.min(Math.max(value, from), to) - from)) / (to - from);
  const height = top + rows.length * high + 22;
  const parts = ticks(from, to).flatMap((value) => [
    svg("line", { class: "axis", x1: x(value), x2: x(value), y1: top, y2: height - 22 }),
    svg("text", { class: "faint", x: x(value), y: height - 6, "text-anchor": "middle" }, show(value)),
  ]);
  if (reference) {
    const at = x(reference.value);
    parts.push(svg("line", { class: "reference", x1: at, x2: at, y1: top - 4, y2: height - 22 }));
    parts.push(svg("text", { class: "faint", x: at, y: top - 9, "text-anchor": "middle" }, reference.words));
  }
  rows.forEach(({ name, found }, i) => {
    const y = top + i * high + high / 2;
    parts.push(svg("text", { x: left - 12, y: y + 4, "text-anchor": "end" }, clipped(name, left / 8)));
    if (found.estimate === null || !found.n) return;
    parts.push(svg("line", { class: "range", x1: x(found.low), x2: x(found.high), y1: y, y2: y }));
    parts.push(svg("circle", { class: "dot", cx: x(found.estimate), cy: y, r: 5 }));
  });
  const words = rows.map(({ name, found }) => `${name} ${show(found.estimate)}`).join(", ");
  const label = `${title}: ${words}. The table beside it has the same figures.`;
  return svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": label }, ...parts);
}

function ticks(from, to) {
  const rough = (to - from) / 6;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const first = Math.ceil(from / step - 1e-9) * step;
  return Array.from({ length: Math.floor((to - first) / step + 1e-9) + 1 }, (_, i) => first + i * step);
}

const clipped = (name, most) => (name.length > most ? `${name.slice(0, most - 1)}…` : name);

// Fills `#report`, or says why it cannot.
export async function fill(load, show) {
  const report = document.getElementById("report");
  const problem = document.getElementById("problem");
  try {
    report.setAttribute("aria-busy", "true");
    const found = await load();
    report.replaceChildren(...show(found));
    problem.textContent = "";
  } catch (error) {
    report.replaceChildren();
    problem.textContent = error.message;
  }
  report.removeAttribute("aria-busy");
}
