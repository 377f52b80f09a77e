// One response: its letter, its text in an area of its own, and a place for what a mode adds.
import { element, plural, written } from "./dom.js";

// head: controls beside the letter. foot: controls under the text.
export function card(shown, slot, { head = [], foot = [] } = {}) {
  const text = element(
    "div",
    { class: "text", tabindex: "0", role: "group", "aria-label": `Response ${shown.letter}`, dir: "auto" },
    written(shown.pieces),
  );
  if (!shown.finished) {
    text.append(element("span", { class: "cut" }, "[cut off here: it did not come to an end]"));
  }
  if (!shown.pieces.some((piece) => piece.text.trim())) {
    text.append(element("span", { class: "cut" }, "[an empty response]"));
  }
  const size = element("span", { class: "size" }, plural(shown.words, "word", "words"));
  const letter = element("h2", { class: "letter", "data-slot": String(slot) }, shown.letter);
  const all = element("button", { type: "button", class: "all quiet", hidden: true, onclick: () => unfold(made, all) });
  const made = element(
    "article",
    { class: "card", "data-slot": String(slot), "aria-label": `Response ${shown.letter}` },
    element("header", { class: "head" }, letter, ...head),
    text,
    element("footer", { class: "foot" }, size, all, ...foot),
  );
  return made;
}

// Whether a text has more than its area shows is known once it is on the page.
export function offerAll(cards) {
  for (const made of cards) {
    const [text, all] = [made.querySelector(".text"), made.querySelector(".all")];
    const more = text.scrollHeight > text.clientHeight + 2;
    made.classList.toggle("more", more);
    all.hidden = !more && !made.classList.contains("unfolded");
    all.textContent = made.classList.contains("unfolded") ? "Show less" : "Show all";
  }
}

function unfold(made, all) {
  all.textContent = made.classList.toggle("unfolded") ? "Show less" : "Show all";
}

export function focusCard(made, { scroll = true } = {}) {
  made.querySelector(".text").focus({ preventScroll: true });
  if (scroll) made.scrollIntoView({ block: "nearest" });
}

// The card that an arrow leads to, by where the cards stand on the screen.
export function neighbour(cards, from, key) {
  const here = cards[from].getBoundingClientRect();
  const [x, y] = [here.left + here.width / 2, here.top + here.height / 2];
  if (key === "ArrowLeft") return Math.max(0, from - 1);
  if (key === "ArrowRight") return Math.min(cards.length - 1, from + 1);
  let [best, distance] = [from, Infinity];
  cards.forEach((other, slot) => {
    const box = other.getBoundingClientRect();
    const [dx, dy] = [box.left + box.width / 2 - x, box.top + box.height / 2 - y];
    const ahead = key === "ArrowDown" ? dy : -dy;
    if (ahead > here.height / 2 && ahead + 2 * Math.abs(dx) < distance) {
      [best, distance] = [slot, ahead + 2 * Math.abs(dx)];
    }
  });
  return best;
}
