// Guidelines, help, and the reasons for a skip.
import { element } from "./dom.js";

export function guidelines(text) {
  const drawer = document.getElementById("guidelines");
  drawer.querySelector(".words").textContent = text || "There are no guidelines yet.";
  return () => {
    if (drawer.open) return drawer.close();
    drawer.show();
    drawer.querySelector("h2").focus();
  };
}

export function help(mode, likert) {
  const dialog = document.getElementById("help");
  for (const row of dialog.querySelectorAll("[data-modes]")) {
    const wanted = row.dataset.modes.split(" ");
    row.hidden = !wanted.includes(mode) && !(likert && wanted.includes("ratings"));
  }
  return () => dialog.showModal();
}

// `skipped(reason, note)` is called when a reason was chosen.
export function skip(reasons, skipped) {
  const dialog = document.getElementById("skip");
  const form = dialog.querySelector("form");
  const rows = Object.entries(reasons).map(([name, words], i) =>
    element(
      "label",
      { class: "row" },
      element("input", { type: "radio", name: "reason", value: name, required: true }),
      element("span", { class: "label" }, words),
      element("kbd", { "aria-hidden": "true" }, String(i + 1)),
    ),
  );
  dialog.querySelector(".rows").replaceChildren(...rows);
  dialog.addEventListener("keydown", (event) => {
    if (event.target.type === "text" || event.ctrlKey || event.metaKey || event.altKey) return;
    const radio = dialog.querySelectorAll('[name="reason"]')[Number(event.key) - 1];
    if (!radio) return;
    event.preventDefault();
    radio.checked = true;
    radio.focus();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    dialog.close();
    skipped(form.elements.reason.value, form.elements.note.value);
  });
  return () => {
    form.reset();
    dialog.showModal();
  };
}

export function closable() {
  const drawer = document.getElementById("guidelines");
  for (const dialog of document.querySelectorAll("dialog")) {
    for (const closer of dialog.querySelectorAll("[data-close]")) closer.addEventListener("click", () => dialog.close());
    // A key that closes a dialog must not act on the page behind it.
    if (dialog !== drawer) dialog.addEventListener("keydown", (event) => event.stopPropagation());
  }
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && drawer.open) drawer.close();
  });
}
