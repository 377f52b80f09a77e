// Ranking into tiers with ties, and ratings and flags where they are asked for.
import { card, focusCard, neighbour, offerAll } from "./card.js";
import { button } from "./dom.js";
import { draggable } from "./drag.js";
import * as order from "./ranking.js";
import { ratings } from "./ratings.js";
import { ordinal, strip, where } from "./strip.js";

export function open(task, session, desk) {
  const letters = task.cards.map((shown) => shown.letter);
  const acts = { place, select, toggleTie, tie, move, takeOut, setNone };
  let tiers = task.draft?.ranks ? order.fromRanks(task.draft.ranks) : order.nothing;
  let none = task.draft?.none_acceptable ?? false;
  let current = 0;
  const past = []; // states to go back to

  const rated = session.likert
    ? ratings(session, task.cards, task.draft, (before) => stepped({ rated: before }), { shift: true })
    : null;
  const placers = letters.map((_, slot) =>
    button("Place next", { shown: String(slot + 1), class: "rank", onclick: () => place(slot) }),
  );
  const cards = task.cards.map((shown, slot) =>
    card(shown, slot, { head: rated ? [rated.flag(slot), placers[slot]] : [placers[slot]], foot: rated ? [rated.scale(slot)] : [] }),
  );
  const bottom = strip(letters, acts, desk.submitButton);
  desk.strip.replaceChildren(...bottom.elements);
  desk.cards.replaceChildren(...cards);
  cards.forEach((made, slot) => {
    made.addEventListener("focusin", () => select(slot));
    made.addEventListener("pointerdown", () => select(slot));
    made.querySelector(".letter").dataset.drag = "";
  });
  const stopDragging = draggable(desk.root, bottom.sentence, dropped);
  show();
  offerAll(cards);

  // ── steps, each of which can be taken back ──

  function stepped(before) {
    past.push({ tiers, none, current, rated: rated?.snapshot(), ...before });
    show();
    desk.changed();
  }

  function step(next, slot, words) {
    if (JSON.stringify(next) === JSON.stringify(tiers)) return;
    const before = { tiers, current };
    tiers = next;
    current = slot;
    stepped(before);
    desk.say(words);
  }

  function place(slot) {
    const already = order.isPlaced(tiers, slot);
    const words = already ? "is placed already:" : "is placed";
    step(order.place(tiers, slot), slot, "");
    desk.say(`${letters[slot]} ${words} ${where(letters, tiers, slot)}.`);
    focusCard(cards[slot], { scroll: false });
  }

  function tie() {
    step(order.tieWithAbove(tiers, current), current, "");
    desk.say(`${letters[current]}: ${where(letters, tiers, current)}.`);
  }

  function move(by) {
    step(order.move(tiers, current, by), current, "");
    desk.say(`${letters[current]}: ${where(letters, tiers, current)}.`);
  }

  function takeOut() {
    step(order.without(tiers, current), current, `${letters[current]} is taken out of the order.`);
  }

  function toggleTie(left, right) {
    step(order.toggleTie(tiers, left, right), right, "");
    desk.say(`${letters[right]}: ${where(letters, tiers, right)}.`);
  }

  function dropped(slot, target) {
    const next = "tie" in target ? order.joinTier(order.place(tiers, slot), slot, target.tie) : null;
    step(next ?? order.insertBefore(tiers, slot, target.before), slot, "");
    desk.say(`${letters[slot]}: ${where(letters, tiers, slot)}.`);
  }

  function setNone(value) {
    const before = { none };
    none = value;
    stepped(before);
    desk.say(none ? "None is acceptable. The order may be left out." : "At least one is acceptable.");
  }

  // ── what is shown ──

  function select(slot) {
    if (slot === current) return;
    current = slot;
    show();
  }

  function show() {
    placers.forEach((placer, slot) => {
      const tier = order.tierOf(tiers, slot);
      const tied = tier >= 0 && tiers[tier].length > 1;
      const place = where(letters, tiers, slot);
      placer.querySelector(".label").textContent = tier < 0 ? "Place next" : `${ordinal(tier + 1)}${tied ? " =" : ""}`;
      placer.classList.toggle("placed", tier >= 0);
      placer.setAttribute("aria-label", tier < 0 ? `Place ${letters[slot]} next` : `${letters[slot]}: ${place}`);
      cards[slot].classList.toggle("current", slot === current);
      cards[slot].querySelector(".text").setAttribute("aria-label", `Response ${letters[slot]}, ${place}`);
    });
    bottom.show(tiers, current, none);
    desk.ready(problem() === null, past.length > 0);
  }

  function problem() {
    const missing = letters.filter((_, slot) => !order.isPlaced(tiers, slot));
    if (!missing.length || none) return null;
    const keys = missing.map((letter) => letters.indexOf(letter) + 1);
    return `Not placed yet: ${missing.join(", ")}. Press ${keys.join(", ")}, or tap “Place next”.`;
  }

  function judged() {
    return {
      ranks: tiers.length ? order.ranksOf(tiers, letters.length) : null,
      likert: rated?.likert() ?? null,
      flags: rated?.flags() ?? null,
      none_acceptable: none,
    };
  }

  function undo() {
    const before = past.pop();
    if (!before) return false;
    ({ tiers, none, current } = before);
    if (rated) rated.restore(before.rated);
    show();
    desk.say("One step taken back.");
    desk.changed();
    return true;
  }

  function pressed(event) {
    const digit = digitOf(event);
    if (digit && rated && (event.shiftKey || event.target.type === "radio")) return digit <= 7 && rate(digit);
    if (digit && !event.shiftKey) return digit <= letters.length && done(place(digit - 1));
    if (event.shiftKey && event.key === "ArrowUp") return done(move(-1));
    if (event.shiftKey && event.key === "ArrowDown") return done(move(1));
    if (event.key === "=") return done(tie());
    if (event.key === "Backspace" || event.key === "Delete") return done(takeOut());
    if (event.key === "n") return done(setNone(!none));
    if (event.key === "f" && rated) return done(rated.openFlags(current));
    if (!event.key.startsWith("Arrow") || event.target.type === "radio") return false;
    return done(focusCard(cards[neighbour(cards, current, event.key)]));
  }

  function rate(digit) {
    rated.rate(current, digit);
    desk.say(`${letters[current]} is rated ${digit}.`);
    return true;
  }

  return {
    draft: () => ({ judged: judged() }),
    problem,
    answer: () => {
      const all = judged();
      if (all.ranks?.includes(null)) all.ranks = null; // only where none is acceptable
      return { path: "/api/rank", body: { judged: all } };
    },
    undo,
    key: pressed,
    close: stopDragging,
  };
}

const done = () => true;

// By the place of the key, so that layouts with digits on Shift work too.
export function digitOf(event) {
  const match = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
  return match ? Number(match[1]) : /^[1-9]$/.test(event.key) ? Number(event.key) : 0;
}
