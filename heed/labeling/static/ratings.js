// 1 to 7 and the paper's flags, for each response.
import { button, element } from "./dom.js";

const SCALE = [1, 2, 3, 4, 5, 6, 7];

// `given`: {likert, flags} by slot. `changed(before)` is called after every change that a person
// made, with the snapshot before it. `shift`: digits alone mean something else.
export function ratings(session, cards, given, changed, { shift = false } = {}) {
  const state = {
    likert: cards.map((_, slot) => given?.likert?.[slot] ?? null),
    flags: cards.map((_, slot) => [...(given?.flags?.[slot] ?? [])]),
  };
  const scales = cards.map((shown, slot) => scale(shown, slot, (value) => rate(slot, value)));
  const openers = cards.map((_, slot) =>
    button("Flags", { shown: "F", keys: "f", class: "quiet flags", onclick: () => openFlags(slot) }),
  );
  const dialog = flagDialog(session);
  show();

  function rate(slot, value) {
    if (state.likert[slot] === value) return;
    const before = snapshot();
    state.likert[slot] = value;
    show();
    changed(before);
  }

  function show() {
    scales.forEach((made, slot) => {
      for (const radio of made.querySelectorAll("input")) radio.checked = Number(radio.value) === state.likert[slot];
    });
    openers.forEach((opener, slot) => {
      const names = state.flags[slot].map((name) => session.flags[name]);
      opener.querySelector(".label").textContent = names.length ? `Flags: ${names.length}` : "Flags";
      opener.classList.toggle("on", names.length > 0);
      opener.setAttribute("aria-label", `Flags of response ${cards[slot].letter}: ${names.join(", ") || "none"}`);
      opener.title = names.join("\n");
    });
  }

  function snapshot() {
    return { likert: [...state.likert], flags: state.flags.map((names) => [...names]) };
  }

  function openFlags(slot) {
    dialog.open(cards[slot].letter, state.flags[slot], (names) => {
      const before = snapshot();
      state.flags[slot] = names;
      show();
      changed(before);
    });
  }

  return {
    scale: (slot) => ends(scales[slot], shift),
    flag: (slot) => openers[slot],
    rate,
    openFlags,
    next: (slot) => cards.findIndex((_, other) => other > slot && state.likert[other] === null),
    likert: () => (state.likert.some((value) => value !== null) ? [...state.likert] : null),
    flags: () => (state.flags.some((names) => names.length) ? state.flags.map((names) => [...names]) : null),
    snapshot,
    restore: (snapshot) => {
      Object.assign(state, { likert: [...snapshot.likert], flags: snapshot.flags.map((names) => [...names]) });
      show();
    },
  };
}

function ends(made, shift) {
  const keys = shift ? [element("kbd", { "aria-hidden": "true", title: "Shift and a digit" }, "⇧")] : [];
  return element("div", { class: "ends" }, ...keys, "worst", made, "best");
}

function scale(shown, slot, rated) {
  const made = element(
    "fieldset",
    { class: "scale" },
    element("legend", { class: "unseen" }, `Quality of response ${shown.letter}, 1 is the worst, 7 the best`),
  );
  for (const value of SCALE) {
    const radio = element("input", {
      type: "radio",
      name: `likert-${slot}`,
      value: String(value),
      onchange: () => rated(value),
    });
    made.append(element("label", {}, radio, element("span", {}, String(value))));
  }
  return made;
}

function flagDialog(session) {
  const dialog = document.getElementById("flags");
  const names = Object.keys(session.flags);
  const boxes = names.map((name) => element("input", { type: "checkbox", value: name }));
  const rows = names.map((name, i) =>
    element(
      "label",
      { class: "row" },
      boxes[i],
      element("span", { class: "label" }, session.flags[name]),
      element("kbd", { "aria-hidden": "true" }, session.flag_keys[name].toUpperCase()),
    ),
  );
  const title = dialog.querySelector("h2");
  dialog.querySelector(".rows").replaceChildren(...rows);
  let tell = () => {};
  const chosen = () => boxes.filter((box) => box.checked).map((box) => box.value);
  for (const box of boxes) box.onchange = () => tell(chosen());
  dialog.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const pressed = event.key.toLowerCase();
    const at = names.findIndex((name) => session.flag_keys[name] === pressed);
    if (at >= 0) {
      event.preventDefault();
      boxes[at].checked = !boxes[at].checked;
      boxes[at].focus();
      tell(chosen());
    } else if (pressed === "f" || event.key === "Enter") {
      event.preventDefault();
      dialog.close();
    }
  };
  return {
    open(letter, flags, told) {
      title.textContent = `What is to be said about response ${letter}`;
      for (const box of boxes) box.checked = flags.includes(box.value);
      tell = told;
      dialog.showModal();
    },
  };
}
