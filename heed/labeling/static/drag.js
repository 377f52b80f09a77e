// Dragging a letter into the order, with a mouse, a pen or a finger. Whatever it does can be done by taps and keys too.

const START = 6; // pixels before a press is a drag

// Sources have `data-drag` and `data-slot`. `drop(slot, target)`: target is {tie: slot} or {before: slot or null}.
// Returns what ends it all.
export function draggable(root, order, drop) {
  const ended = new AbortController();
  const listen = (target, name, act) => target.addEventListener(name, act, { signal: ended.signal });
  let press = null;

  listen(root, "pointerdown", (event) => {
    const source = event.target.closest("[data-drag]");
    if (!source || event.button !== 0) return;
    press = { source, slot: Number(source.dataset.slot), x: event.clientX, y: event.clientY, id: event.pointerId };
  });
  listen(window, "pointermove", (event) => {
    if (!press || event.pointerId !== press.id) return;
    if (!press.ghost && Math.hypot(event.clientX - press.x, event.clientY - press.y) < START) return;
    press.ghost ??= ghostOf(press.source);
    press.ghost.style.transform = `translate(${event.clientX}px, ${event.clientY}px) translate(-50%, -50%)`;
    mark(order, targetAt(order, event.clientX, event.clientY));
    event.preventDefault();
  });
  listen(window, "pointerup", (event) => {
    if (press?.ghost && event.pointerId === press.id) {
      const target = targetAt(order, event.clientX, event.clientY);
      if (target) drop(press.slot, target);
      swallowClick();
    }
    end();
  });
  listen(window, "pointercancel", end);

  function end() {
    press?.ghost?.remove();
    mark(order, null);
    press = null;
  }

  return () => ended.abort();
}

function ghostOf(source) {
  const ghost = source.cloneNode(true);
  ghost.className = "chip ghost";
  ghost.setAttribute("aria-hidden", "true");
  document.body.append(ghost);
  return ghost;
}

// The middle of a letter is a tie with it, its sides are before and after, anywhere else is the end.
function targetAt(order, x, y) {
  const area = order.getBoundingClientRect();
  if (y < area.top - 24 || y > area.bottom + 24) return null;
  const chips = [...order.querySelectorAll(".chip.placed")];
  for (const [i, chip] of chips.entries()) {
    const box = chip.getBoundingClientRect();
    if (y > box.bottom + 6 || x > box.right) continue;
    const share = (x - box.left) / box.width;
    if (share < 0.25) return { before: Number(chip.dataset.slot), chip };
    if (share <= 0.75) return { tie: Number(chip.dataset.slot), chip };
    return { before: i + 1 < chips.length ? Number(chips[i + 1].dataset.slot) : null, chip: chips[i + 1] ?? null };
  }
  return { before: null, chip: null };
}

function mark(order, target) {
  for (const chip of order.querySelectorAll(".chip")) chip.classList.remove("tie-here", "before-here");
  order.classList.toggle("end-here", target !== null && target.chip === null);
  if (target?.chip) target.chip.classList.add("tie" in target ? "tie-here" : "before-here");
}

// The click that follows a drag is not meant.
function swallowClick() {
  const swallow = (event) => {
    event.stopPropagation();
    event.preventDefault();
  };
  window.addEventListener("click", swallow, { capture: true, once: true });
  setTimeout(() => window.removeEventListener("click", swallow, { capture: true }), 0);
}
