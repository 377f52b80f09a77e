// The newest draft of this browser, until the server has it: for a reload while nobody answers.
// It is only given back for the very task it was about; other runs of heed use the same address.

const KEY = "heed-unsent-draft";

export function about(labeler, task) {
  const prompt = task.prompt.map((turn) => turn.pieces.map((piece) => piece.text).join("").slice(0, 200));
  return JSON.stringify([labeler, task.task, prompt, task.cards.map((card) => card.characters)]);
}

export function keep(name, draft) {
  stored(() => localStorage.setItem(KEY, JSON.stringify({ name, draft })));
}

export function taken(name) {
  const kept = stored(() => JSON.parse(localStorage.getItem(KEY)));
  return kept?.name === name ? kept.draft : null;
}

export function forget() {
  stored(() => localStorage.removeItem(KEY));
}

// The server has `sent`: forget it, unless something newer is there.
export function acknowledge(name, sent) {
  const [mine, theirs] = [taken(name), sent].map((draft) => JSON.stringify({ ...draft, seconds: 0 }));
  if (mine === theirs) forget();
}

// A browser may have no room for it, or forbid it: then the server's draft, half a second older, has to do.
function stored(act) {
  try {
    return act();
  } catch {
    return null;
  }
}
