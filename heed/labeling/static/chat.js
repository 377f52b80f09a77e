// Chat and rate: two models answer, blind; a vote is a comparison; then it is told who wrote what.
import { post } from "./api.js";
import { card, offerAll } from "./card.js";
import { button, element, written } from "./dom.js";
import { digitOf } from "./rank.js";

const CHOICES = [
  { preferred: "first", label: "A is better", shown: "1" },
  { preferred: "tie", label: "Tie", shown: "=" },
  { preferred: "second", label: "B is better", shown: "2" },
  { preferred: "both_bad", label: "Both are bad", shown: "N" },
];
const NAMES = { user: "You", assistant: "Answer" };
const at = (id) => document.getElementById(id);

let turns = []; // {role, content, pieces}
let answers = null; // what is to be voted on
let since = 0;
let busy = false;

const text = element("textarea", { id: "message", maxlength: "100000", rows: "2", dir: "auto", onkeydown: enter });
const label = element("label", { for: "message", class: "unseen" }, "Your message");
const send = button("Send", { shown: "↵", keys: "Enter", class: "submit ready", onclick: ask });
const say = element("div", { class: "say" }, label, text, send);
const votes = CHOICES.map((choice) =>
  button(choice.label, { shown: choice.shown, keys: choice.shown.toLowerCase(), class: "choice", onclick: () => vote(choice) }),
);
const choices = element("div", { class: "choices", role: "group", "aria-label": "Which is better?" }, ...votes);

at("strip").replaceChildren(say);
at("new").addEventListener("click", begin);
document.addEventListener("keydown", pressed);
begin();

function begin() {
  turns = [];
  answers = null;
  at("cards").replaceChildren();
  at("strip").replaceChildren(say);
  at("new").disabled = true;
  tell("");
  at("said").textContent = "Write something. Two models answer; you do not know which is which.";
  showTurns();
  text.focus();
}

function showTurns() {
  const shown = turns.map(({ role, pieces }) =>
    element(
      "div",
      { class: `turn ${role}` },
      element("span", { class: "role" }, NAMES[role]),
      element("div", { class: "words", dir: "auto" }, written(pieces)),
    ),
  );
  at("turns").replaceChildren(...shown);
  at("prompt").scrollTop = at("prompt").scrollHeight;
}

async function ask() {
  const content = text.value.trim();
  if (!content || busy) return;
  const asked = [...turns, { role: "user", content, pieces: [{ text: content, mark: "" }] }];
  await attempt(async () => {
    at("said").textContent = "They are writing…";
    at("cards").replaceChildren(...["A", "B"].map((name) => element("p", { class: "card waiting" }, `${name} is writing…`)));
    answers = await post("/api/chat", { turns: asked.map(({ role, content: said }) => ({ role, content: said })) });
    turns = asked;
    since = performance.now();
    text.value = "";
    showTurns();
    const cards = answers.cards.map((shown, slot) => card(shown, slot));
    at("cards").replaceChildren(...cards);
    offerAll(cards);
    at("strip").replaceChildren(choices);
    at("new").disabled = false;
    at("said").textContent = "Which is better? 1, 2, = for a tie, N if both are bad.";
    cards[0].querySelector(".text").focus({ preventScroll: true });
  });
}

async function vote({ preferred }) {
  if (!answers || busy) return;
  const seconds = Math.round((performance.now() - since) / 100) / 10;
  await attempt(async () => {
    const receipt = await post("/api/vote", { exchange: answers.exchange, preferred, seconds });
    const kept = answers.cards[preferred === "second" ? 1 : 0];
    for (const [slot, name] of receipt.models.entries()) {
      at("cards").children[slot].querySelector(".head").append(element("span", { class: "author" }, name));
    }
    turns.push({ role: "assistant", content: kept.text, pieces: kept.pieces });
    answers = null;
    showTurns();
    at("strip").replaceChildren(say);
    at("said").textContent = `Saved. A was ${receipt.models[0]}, B was ${receipt.models[1]}. The conversation goes on with ${kept.letter}.`;
    text.focus();
  });
}

async function attempt(action) {
  busy = true;
  tell("");
  try {
    await action();
  } catch (error) {
    if (!answers) at("cards").replaceChildren();
    at("said").textContent = "";
    tell(error.message);
  }
  busy = false;
}

function tell(problem) {
  at("problem").textContent = problem;
}

function enter(event) {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
}

function pressed(event) {
  if (!answers || event.ctrlKey || event.metaKey || event.altKey || event.target === text) return;
  const index = { 1: 0, 2: 2 }[digitOf(event)] ?? { "=": 1, n: 3 }[event.key];
  if (index === undefined) return;
  event.preventDefault();
  vote(CHOICES[index]);
}
