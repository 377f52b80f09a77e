// Ranking into tiers with ties: an order that reads as a sentence, B > A = D > C.
import { card, focusCard, neighbour, offerAll } from "./card.js";
import { button, element } from "./dom.js";
import { draggable } from "./drag.js";
import * as order from "./ranking.js";
import { ratings } from "./ratings.js";

export function open(task, session, desk) {
  const { cards } = task;
  const count = cards.length;
  let tiers = task.draft?.ranks ? order.fromRanks(task.draft.ranks) : order.nothing;
  let none = task.draft?.none_acceptable ?? false;
  let current = 0;
  let past = [];

  const rated = session.likert ? ratings(session, cards, task.draft, () => desk.changed()) : null;
  const placers = cards.map((shown, slot) =>
    button("Place next", { shown: String(slot + 1), class: "rank", onclick: () => place(slot) }),
  );
  const made = cards.map((shown, slot) =>
    card(shown, slot, { head: [placers[slot]], foot: rated ? rated.foot(slot) : [] }),
  );
  const sentence = element("div", { class: "order", role: "group", "aria-label": "Your order, best first" });
  const tools = {
    tie: button("Tie with above", { shown: "=", class: "quiet", onclick: () => tie() }),
    up: button("Up", { shown: "⇧↑", keys: "Shift+ArrowUp", class: "quiet", onclick: () => move(-1) }),
    down: button("Down", { shown: "⇧↓", keys: "Shift+ArrowDown", class: "quiet", onclick: () => move(1) }),
    out: button("Take out", { shown: "⌫", keys: "Backspace", class: "quiet", onclick: () => takeOut() }),
  };
  const noneBox = element("input", { type: "checkbox", "aria-keyshortcuts": "n", onchange: () => setNone(noneBox.checked) });
  const noneLabel = element(
    "label",
    { class: "none" },
    noneBox,
    element("span", { class: "label" }, "None is acceptable"),
    element("kbd", { "aria-hidden": "true" }, "N"),
  );
  const toolbar = element("div", { class: "tools", role: "group" }, ...Object.values(tools));
  desk.strip.replaceChildren(sentence, element("div", { class: "actions" }, toolbar, noneLabel, desk.submitButton));
  desk.cards.replaceChildren(...made);
  made.forEach((one, slot) => one.addEventListener("focusin", () => setCurrent(slot)));
  for (const letter of desk.cards.querySelectorAll(".letter")) letter.dataset.drag = "";
  draggable(desk.root, sentence, dropped);
  show();
  offerAll(made);

  function letter(slot) {
    return cards[slot].letter;
  }

  // One step that can be taken back.
  function step(next, slot, words) {
    if (next === tiers || JSON.stringify(next) === JSON.stringify(tiers)) return;
    past.push({ tiers, none, rated: rated?.snapshot() });
    tiers = next;
    current = slot;
    show();
    desk.say(words);
    desk.changed();
  }

  function place(slot) {
    if (order.isPlaced(tiers, slot)) {
      desk.say(`${letter(slot)} is ${where(slot)} already.`);
    } else {
      step(order.place(tiers, slot), slot, `${letter(slot)} is placed ${ordinal(tiers.length + 1)}.`);
    }
    focusCard(made[slot], { scroll: false });
  }

  function tie() {
    const next = order.tieWithAbove(tiers, current);
    step(next, current, `${letter(current)} is tied.`);
  }

  function move(by) {
    step(order.move(tiers, current, by), current, `${letter(current)} is moved ${by < 0 ? "up" : "down"}.`);
  }

  function takeOut() {
    step(order.without(tiers, current), current, `${letter(current)} is taken out of the order.`);
  }

  function dropped(slot, target) {
    const next =
      "tie" in target
        ? order.isPlaced(tiers, slot) || target.tie !== slot
          ? joined(slot, target.tie)
          : tiers
        : order.insertBefore(tiers, slot, target.before);
    step(next, slot, `${letter(slot)} is moved.`);
  }

  function joined(slot, companion) {
    return order.joinTier(order.place(tiers, slot), slot, companion);
  }

  function setNone(value) {
    past.push({ tiers, none, rated: rated?.snapshot() });
    none = value;
    show();
    desk.say(none ? "None is acceptable. The order may be left out." : "At least one is acceptable.");
    desk.changed();
  }

  function setCurrent(slot) {
    if (slot === current) return;
    current = slot;
    show();
  }

  function where(slot) {
    const tier = order.tierOf(tiers, slot);
    if (tier < 0) return "not placed";
    const others = tiers[tier].filter((other) => other !== slot).map(letter);
    return others.length ? `${ordinal(tier + 1)}, tied with ${others.join(" and ")}` : ordinal(tier + 1);
  }

  function show() {
    placers.forEach((placer, slot) => {
      const tier = order.tierOf(tiers, slot);
      const tied = tier >= 0 && tiers[tier].length > 1;
      placer.querySelector(".label").textContent = tier < 0 ? "Place next" : `${ordinal(tier + 1)}${tied ? " =" : ""}`;
      placer.classList.toggle("placed", tier >= 0);
      placer.setAttribute("aria-label", tier < 0 ? `Place ${letter(slot)} next` : `${letter(slot)}: ${where(slot)}`);
      made[slot].classList.toggle("current", slot === current);
      made[slot].querySelector(".text").setAttribute("aria-label", `Response ${letter(slot)}, ${where(slot)}`);
    });
    toolbar.setAttribute("aria-label", `Response ${letter(current)}`);
    const tier = order.tierOf(tiers, current);
    tools.tie.disabled = tier < 0 ? !tiers.length : tier === 0;
    tools.up.disabled = tier === 0 && tiers[0].length === 1;
    tools.down.disabled = tier < 0 || (tier === tiers.length - 1 && tiers[tier].length === 1);
    tools.out.disabled = tier < 0;
    noneBox.checked = none;
    showSentence();
    desk.ready(problem() === null, past.length > 0);
  }

  function showSentence() {
    const held = sentence.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    const placed = order.flat(tiers);
    const parts = placed.flatMap((slot, i) => (i ? [sign(placed[i - 1], slot), chip(slot)] : [chip(slot)]));
    const rest = cards.flatMap((_, slot) => (order.isPlaced(tiers, slot) ? [] : [waiting(slot)]));
    const tray = element("span", { class: "tray" }, ...rest);
    sentence.replaceChildren(element("span", { class: "line" }, ...parts), tray);
    if (held) sentence.querySelector(`[data-name="${held}"]`)?.focus({ preventScroll: true });
  }

  function chip(slot) {
    const label = `${letter(slot)}: ${where(slot)}`;
    return element(
      "button",
      {
        type: "button",
        class: `chip placed${slot === current ? " current" : ""}`,
        "data-slot": String(slot),
        "data-name": `chip-${slot}`,
        "data-drag": true,
        "aria-label": label,
        onclick: () => setCurrent(slot),
      },
      letter(slot),
    );
  }

  function waiting(slot) {
    const attributes = { type: "button", class: `chip${slot === current ? " current" : ""}`, "data-drag": true };
    Object.assign(attributes, { "data-slot": String(slot), "data-name": `chip-${slot}`, onclick: () => place(slot) });
    return element("button", { ...attributes, "aria-label": `${letter(slot)} is not placed. Place it next` }, letter(slot));
  }

  function sign(left, right) {
    const tied = order.tierOf(tiers, left) === order.tierOf(tiers, right);
    const [a, b] = [letter(left), letter(right)];
    const toggle = () => step(order.toggleTie(tiers, left, right), right, tied ? `${a} before ${b}.` : `${a} ties with ${b}.`);
    const label = tied ? `${a} and ${b} are tied. Part them` : `${a} is better than ${b}. Make it a tie`;
    const attributes = { type: "button", class: tied ? "sign tied" : "sign", "data-name": `sign-${left}-${right}` };
    return element("button", { ...attributes, "aria-label": label, title: label, onclick: toggle }, tied ? "=" : "›");
  }

  function problem() {
    const missing = cards.flatMap((_, slot) => (order.isPlaced(tiers, slot) ? [] : [letter(slot)]));
    if (!missing.length || none) return null;
    const keys = missing.map((name) => name.charCodeAt(0) - 64).join(", ");
    return `Not placed yet: ${missing.join(", ")}. Press ${keys}, or tap “Place next”.`;
  }

  function judged() {
    return {
      ranks: tiers.length ? order.ranksOf(tiers, count) : null,
      likert: rated?.likert() ?? null,
      flags: rated?.flags() ?? null,
      none_acceptable: none,
    };
  }

  return {
    draft: () => ({ judged: judged() }),
    problem,
    answer: () => {
      const all = judged();
      if (all.ranks?.includes(null)) all.ranks = null; // only where none is acceptable
      return { path: "/api/rank", body: { judged: all } };
    },
    undo: () => {
      const before = past.pop();
      if (!before) return false;
      ({ tiers, none } = before);
      if (before.rated) rated.restore(before.rated);
      show();
      desk.say("One step taken back.");
      desk.changed();
      return true;
    },
    key: (event) => {
      const digit = digitOf(event);
      if (digit && rated && (event.shiftKey || event.target.type === "radio")) {
        if (digit > 7) return false;
        rated.rate(current, digit);
        desk.say(`${letter(current)} is rated ${digit}.`);
      } else if (digit && !event.shiftKey) {
        if (digit > count) return false;
        place(digit - 1);
      } else if (event.shiftKey && event.key === "ArrowUp") move(-1);
      else if (event.shiftKey && event.key === "ArrowDown") move(1);
      else if (event.key === "=") tie();
      else if (event.key === "Backspace" || event.key === "Delete") takeOut();
      else if (event.key === "n") setNone(!none);
      else if (event.key === "f" && rated) rated.openFlags(current);
      else if (event.key.startsWith("Arrow") && event.target.type !== "radio") {
        focusCard(made[neighbour(made, current, event.key)]);
      } else return false;
      return true;
    },
  };
}

export function digitOf(event) {
  const match = /^(?:Digit|Numpad)([1-9])$/.exec(event.code);
  return match ? Number(match[1]) : /^[1-9]$/.test(event.key) ? Number(event.key) : 0;
}

function ordinal(number) {
  return `${number}${["th", "st", "nd", "rd"][number] ?? "th"}`;
}
