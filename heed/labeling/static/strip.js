// Under the cards: the order as a sentence, B › A = D › C, what is not placed yet, and what can be done with it.
import { button, element } from "./dom.js";
import * as order from "./ranking.js";

// `acts`: what a press does: place, select, toggleTie, tie, move, takeOut, setNone.
export function strip(letters, acts, submitButton) {
  const kind = letters.length > 5 ? "order long" : "order";
  const sentence = element("div", { class: kind, role: "group", "aria-label": "Your order, best first" });
  const tools = {
    tie: button("Tie with above", { shown: "=", class: "quiet", onclick: acts.tie }),
    up: button("Up", { shown: "⇧↑", keys: "Shift+ArrowUp", class: "quiet", onclick: () => acts.move(-1) }),
    down: button("Down", { shown: "⇧↓", keys: "Shift+ArrowDown", class: "quiet", onclick: () => acts.move(1) }),
    out: button("Take out", { shown: "⌫", keys: "Backspace", class: "quiet", onclick: acts.takeOut }),
  };
  const toolbar = element("div", { class: "tools", role: "group" }, ...Object.values(tools));
  const none = element("input", { type: "checkbox", "aria-keyshortcuts": "n", onchange: () => acts.setNone(none.checked) });
  const label = element("span", { class: "label" }, "None is acceptable");
  const noneLabel = element("label", { class: "none" }, none, label, element("kbd", { "aria-hidden": "true" }, "N"));

  function show(tiers, current, noneAcceptable) {
    showSentence(tiers, current);
    const tier = order.tierOf(tiers, current);
    const alone = tier >= 0 && tiers[tier].length === 1;
    toolbar.setAttribute("aria-label", `With response ${letters[current]}`);
    tools.tie.disabled = tier < 0 ? !tiers.length : tier === 0;
    tools.up.disabled = alone && tier === 0;
    tools.down.disabled = tier < 0 || (alone && tier === tiers.length - 1);
    tools.out.disabled = tier < 0;
    none.checked = noneAcceptable;
  }

  function showSentence(tiers, current) {
    const held = sentence.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    const placed = order.flat(tiers);
    const parts = placed.flatMap((slot, i) => [
      ...(i ? [sign(tiers, placed[i - 1], slot)] : []),
      chip(slot, current, `${letters[slot]}: ${where(letters, tiers, slot)}`, () => acts.select(slot), "placed"),
    ]);
    const rest = letters
      .map((_, slot) => slot)
      .filter((slot) => !order.isPlaced(tiers, slot))
      .map((slot) => chip(slot, current, `Place ${letters[slot]} next`, () => acts.place(slot)));
    sentence.replaceChildren(
      element("span", { class: "line" }, ...parts),
      element("span", { class: "tray" }, ...rest),
    );
    if (held) sentence.querySelector(`[data-name="${held}"]`)?.focus({ preventScroll: true });
  }

  function chip(slot, current, label, onclick, kind = "") {
    const names = ["chip", kind, slot === current ? "current" : ""].join(" ");
    const data = { "data-slot": String(slot), "data-name": `chip-${slot}`, "data-drag": true };
    return element("button", { type: "button", class: names, "aria-label": label, onclick, ...data }, letters[slot]);
  }

  function sign(tiers, left, right) {
    const tied = order.tierOf(tiers, left) === order.tierOf(tiers, right);
    const [a, b] = [letters[left], letters[right]];
    const label = tied ? `${a} and ${b} are tied. Part them` : `${a} is better than ${b}. Make it a tie`;
    const attributes = { class: tied ? "sign tied" : "sign", "data-name": `sign-${left}-${right}`, title: label };
    const onclick = () => acts.toggleTie(left, right);
    return element("button", { type: "button", "aria-label": label, onclick, ...attributes }, tied ? "=" : "›");
  }

  return { sentence, show, elements: [sentence, element("div", { class: "actions" }, toolbar, noneLabel, submitButton)] };
}

// "2nd, tied with C"
export function where(letters, tiers, slot) {
  const tier = order.tierOf(tiers, slot);
  if (tier < 0) return "not placed";
  const others = tiers[tier].filter((other) => other !== slot).map((other) => letters[other]);
  return ordinal(tier + 1) + (others.length ? `, tied with ${others.join(" and ")}` : "");
}

export function ordinal(number) {
  return `${number}${["th", "st", "nd", "rd"][number] ?? "th"}`;
}
