// Writing the answer that one would have liked to read, from nothing or from a response that is nearly right.
import { card, offerAll } from "./card.js";
import { button, element, plural } from "./dom.js";

export function open(task, session, desk) {
  let edited = task.written?.edited_slot ?? null;
  const past = [];
  const text = element("textarea", {
    id: "answer",
    maxlength: "100000",
    spellcheck: "true",
    dir: "auto",
    "aria-keyshortcuts": "Control+Enter",
    oninput: () => show(true),
  });
  text.value = task.written?.text ?? "";
  const made = task.cards.map((shown, slot) =>
    card(shown, slot, {
      head: [button("Edit this one", { "aria-label": `Begin from response ${shown.letter}`, onclick: () => begin(slot) })],
    }),
  );
  const size = element("span", { class: "size" });
  const label = element("label", { for: "answer" }, "Your answer");
  const origin = element("span", { class: "size" });
  const editor = element("section", { class: "editor" }, element("header", {}, label, origin, size), text);
  desk.cards.replaceChildren(editor, ...made);
  desk.strip.replaceChildren(
    element("p", { class: "order count" }, "Your text becomes a demonstration."),
    element("div", { class: "actions" }, desk.submitButton),
  );
  show(false);
  offerAll(made);

  function begin(slot) {
    past.push({ text: text.value, edited });
    edited = slot;
    text.value = task.cards[slot].text;
    desk.say(`Begun from ${task.cards[slot].letter}. “Take back” brings back what was there.`);
    show(true);
    text.focus();
    text.setSelectionRange(0, 0);
    text.scrollTop = 0;
  }

  function show(changed) {
    const words = text.value.trim() ? text.value.trim().split(/\s+/).length : 0;
    size.textContent = plural(words, "word", "words");
    origin.textContent = edited === null ? "" : `made from ${task.cards[edited].letter}`;
    made.forEach((one, slot) => one.classList.toggle("current", slot === edited));
    desk.ready(words > 0, past.length > 0);
    if (changed) desk.changed();
  }

  const written = () => ({ text: text.value, edited_slot: edited });

  return {
    draft: () => ({ written: written() }),
    problem: () => (text.value.trim() ? null : "Nothing is written yet."),
    answer: () => ({ path: "/api/write", body: written() }),
    undo: () => {
      const before = past.pop();
      if (!before) return false;
      text.value = before.text;
      edited = before.edited;
      show(true);
      return true;
    },
    key: () => false,
  };
}
