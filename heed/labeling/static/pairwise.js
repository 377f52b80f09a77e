// Two responses: A, B, a tie, or both are bad.
import { card, focusCard, offerAll } from "./card.js";
import { button, element } from "./dom.js";
import { digitOf } from "./rank.js";

const CHOICES = [
  { name: "first", label: "A is better", shown: "1", ranks: [1, 2] },
  { name: "tie", label: "Tie", shown: "=", ranks: [1, 1] },
  { name: "second", label: "B is better", shown: "2", ranks: [2, 1] },
  { name: "bad", label: "Both are bad", shown: "N", ranks: [1, 1], none: true },
];

export function open(task, session, desk) {
  let chosen = choiceOf(task.draft);
  let past = [];
  const made = task.cards.map((shown, slot) => card(shown, slot));
  const buttons = CHOICES.map((choice) =>
    button(choice.label, { shown: choice.shown, keys: choice.shown.toLowerCase(), class: "choice", onclick: () => choose(choice) }),
  );
  const group = element("div", { class: "choices", role: "group", "aria-label": "Which is better?" }, ...buttons);
  desk.cards.replaceChildren(...made);
  desk.strip.replaceChildren(group, element("div", { class: "actions" }, desk.submitButton));
  show();
  offerAll(made);

  function choose(choice) {
    past.push(chosen);
    chosen = choice;
    show();
    desk.say(`${choice.label}.`);
    desk.changed();
  }

  function show() {
    CHOICES.forEach((choice, i) => buttons[i].setAttribute("aria-pressed", String(choice === chosen)));
    made.forEach((one, slot) => {
      one.classList.toggle("better", chosen?.name === ["first", "second"][slot]);
    });
    desk.ready(chosen !== null, past.length > 0);
  }

  const judged = () => ({
    ranks: chosen ? chosen.ranks : null,
    likert: null,
    flags: null,
    none_acceptable: chosen?.none ?? false,
  });

  return {
    draft: () => ({ judged: judged() }),
    problem: () => (chosen ? null : "Which is better? Press 1, 2, = for a tie or N if both are bad."),
    answer: () => ({ path: "/api/rank", body: { judged: judged() } }),
    undo: () => {
      if (!past.length) return false;
      chosen = past.pop();
      show();
      desk.changed();
      return true;
    },
    key: (event) => {
      const at = { 1: 0, 2: 2 }[digitOf(event)] ?? { "=": 1, n: 3 }[event.key];
      if (at !== undefined) choose(CHOICES[at]);
      else if (event.key === "ArrowLeft") focusCard(made[0]);
      else if (event.key === "ArrowRight") focusCard(made[1]);
      else return false;
      return true;
    },
  };
}

function choiceOf(draft) {
  if (!draft?.ranks && !draft?.none_acceptable) return null;
  if (draft.none_acceptable) return CHOICES[3];
  const [a, b] = draft.ranks;
  return CHOICES[a < b ? 0 : a === b ? 1 : 2];
}
