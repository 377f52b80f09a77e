// Each response for itself: 1 to 7, and flags.
import { card, focusCard, neighbour, offerAll } from "./card.js";
import { element } from "./dom.js";
import { digitOf } from "./rank.js";
import { ratings } from "./ratings.js";

export function open(task, session, desk) {
  let current = 0;
  const past = [];
  const rated = ratings(session, task.cards, task.draft, (before) => {
    past.push({ before, slot: current });
    show();
    desk.changed();
  });
  const made = task.cards.map((shown, slot) => card(shown, slot, { head: [rated.flag(slot)], foot: [rated.scale(slot)] }));
  const count = element("p", { class: "order count" });
  desk.cards.replaceChildren(...made);
  desk.strip.replaceChildren(count, element("div", { class: "actions" }, desk.submitButton));
  made.forEach((one, slot) => {
    one.addEventListener("focusin", () => setCurrent(slot));
    one.addEventListener("pointerdown", () => setCurrent(slot));
  });
  show();
  offerAll(made);

  function setCurrent(slot) {
    current = slot;
    show();
  }

  function missing() {
    const { likert } = rated.snapshot();
    return task.cards.filter((_, slot) => likert[slot] === null).map((shown) => shown.letter);
  }

  function show() {
    made.forEach((one, slot) => one.classList.toggle("current", slot === current));
    const left = missing();
    count.textContent = left.length ? `To be rated: ${left.join(", ")}` : "All are rated.";
    desk.ready(!left.length, past.length > 0);
  }

  function rate(digit) {
    const slot = current;
    rated.rate(slot, digit);
    desk.say(`${task.cards[slot].letter} is rated ${digit}.`);
    const next = rated.next(slot);
    if (next >= 0) focusCard(made[next]);
  }

  const judged = () => ({ ranks: null, likert: rated.likert(), flags: rated.flags(), none_acceptable: false });

  return {
    draft: () => ({ judged: judged() }),
    problem: () => (missing().length ? `Not rated yet: ${missing().join(", ")}. Press 1 to 7.` : null),
    answer: () => ({ path: "/api/rank", body: { judged: judged() } }),
    undo: () => {
      if (!past.length) return false;
      const { before, slot } = past.pop();
      rated.restore(before);
      focusCard(made[slot]);
      show();
      desk.changed();
      return true;
    },
    key: (event) => {
      const digit = digitOf(event);
      if (digit && digit <= 7) rate(digit);
      else if (event.key === "f") rated.openFlags(current);
      else if (event.key.startsWith("Arrow") && event.target.type !== "radio") {
        focusCard(made[neighbour(made, current, event.key)]);
      } else return false;
      return true;
    },
  };
}
