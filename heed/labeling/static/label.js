// The desk: takes a task, shows it in its mode, keeps the draft and the lease, sends the answer, shows the next.
import { Refused, get, post, postUntilAnswered } from "./api.js";
import { button, element, plural, written } from "./dom.js";
import * as dialogs from "./dialogs.js";
import * as likert from "./likert.js";
import * as pairwise from "./pairwise.js";
import * as rank from "./rank.js";
import * as unsent from "./unsent.js";
import * as write from "./write.js";
import { offerAll } from "./card.js";

const MODES = { rank, pairwise, likert, write };
const DRAFT_AFTER = 500; // milliseconds after the last change
const LOOK_AGAIN = 15_000; // milliseconds, while others have the rest in hand

const at = (id) => document.getElementById(id);
const session = await get("/api/session");
const submitButton = button("Submit", { shown: session.mode === "write" ? "Ctrl ↵" : "↵", keys: "Enter", class: "submit" });
const clock = { before: 0, since: null };
let task = null;
let view = null;
let name = ""; // of the task, among all that this browser ever saw
let progress = null;
let busy = false;
let seen = false;
let draftTimer = null;
let heartbeatTimer = null;
let lookTimer = null;

const desk = { root: at("desk"), cards: at("cards"), strip: at("strip"), submitButton, say, ready, changed };
const openGuidelines = dialogs.guidelines(session.guidelines);
const openHelp = dialogs.help(session.mode, session.likert);
const openSkip = dialogs.skip(session.skip_reasons, skip);

dialogs.closable();
document.body.dataset.mode = session.mode;
at("guidelines-button").addEventListener("click", openGuidelines);
at("help-button").addEventListener("click", openHelp);
at("skip-button").addEventListener("click", () => task && openSkip());
at("undo-button").addEventListener("click", undo);
submitButton.addEventListener("click", submit);
document.addEventListener("keydown", pressed);
document.addEventListener("visibilitychange", () => (document.hidden ? leave() : resume()));
window.addEventListener("pagehide", leave);
window.addEventListener("resize", () => offerAll(desk.cards.querySelectorAll(".card")));
await attempt(async () => show(await post("/api/next", {})));

// ── a task ───────────────────────────────────────────────────────────────────────────────────────────────────────────

function show(turnout) {
  ({ task, progress } = turnout);
  for (const timer of [draftTimer, heartbeatTimer, lookTimer]) clearTimeout(timer);
  at("desk").hidden = task === null;
  at("rest").hidden = task !== null;
  view?.close?.();
  view = null;
  if (task) open();
  else rest(turnout.reason);
  showProgress();
}

function open() {
  name = unsent.about(session.labeler, task);
  const kept = unsent.taken(name);
  if (kept?.judged) task.draft = kept.judged;
  if (kept?.written) task.written = kept.written;
  clock.before = Math.max(task.seconds, kept?.seconds ?? 0);
  clock.since = document.hidden ? null : performance.now();
  at("turns").replaceChildren(...task.prompt.map(turn));
  desk.cards.dataset.count = String(task.cards.length);
  view = MODES[task.mode].open(task, session, desk);
  at("prompt").scrollTop = 0;
  window.scrollTo(0, 0);
  if (seen) at("prompt").focus({ preventScroll: true }); // the first time the page's beginning is the place to be
  seen = true;
  heartbeatTimer = setTimeout(heartbeat, task.lease.heartbeat_seconds * 1000);
}

function turn(shown) {
  const names = { system: "System", user: "User", assistant: "Assistant" };
  return element(
    "div",
    { class: `turn ${shown.role}` },
    element("span", { class: "role" }, names[shown.role]),
    element("div", { class: "words", dir: "auto" }, written(shown.pieces)),
  );
}

function rest(reason) {
  const words = {
    all_done: ["All done", "Every task has its answers. Thank you."],
    in_others_hands: ["Nothing for you right now", "The rest is in others’ hands. This page looks again by itself."],
    not_admitted: ["Thank you", "The trial questions are done. Whoever invited you decides how it goes on."],
  };
  const [title, text] = words[reason] ?? ["Nothing to do", ""];
  at("rest-title").textContent = title;
  at("rest-text").textContent = text;
  at("rest-title").focus();
  if (reason === "in_others_hands") {
    lookTimer = setTimeout(() => attempt(async () => show(await post("/api/next", {}))), LOOK_AGAIN);
  }
  ready(false, false);
}

function showProgress() {
  const { done, wanted, done_by_me: mine } = progress;
  at("progress").max = Math.max(wanted, 1);
  at("progress").value = done;
  at("progress-mine").textContent = mine.toLocaleString("en");
  at("progress-all").textContent = `${done.toLocaleString("en")} of ${wanted.toLocaleString("en")}`;
  at("progress-text").title = `You: ${plural(mine, "answer", "answers")}, ${progress.minutes_today} minutes in the last day`;
  ready(view !== null && view.problem() === null, false);
}

// ── the way of an answer ─────────────────────────────────────────────────────────────────────────────────────────────

async function submit() {
  if (!view || busy) return;
  const problem = view.problem();
  if (problem) return tell(problem);
  const { path, body } = view.answer();
  await send(path, body, "Saved.");
}

async function skip(reason, note) {
  if (view && !busy) await send("/api/skip", { reason, note }, "Skipped.");
}

async function send(path, body, words) {
  busy = true;
  submitButton.setAttribute("aria-busy", "true");
  clearTimeout(draftTimer);
  const message = { task: task.task, seconds: seconds(), ...body };
  await attempt(async () => {
    const receipt = await postUntilAnswered(path, message, () =>
      tell("Not saved yet: the server does not answer. Trying again, please leave this page open."),
    );
    unsent.forget();
    tell("");
    show(receipt.next);
    say(words);
  });
  busy = false;
  submitButton.removeAttribute("aria-busy");
}

async function undo() {
  if (busy || (view && view.undo())) return;
  if (!progress?.can_undo) return say("There is nothing to take back.");
  await attempt(async () => {
    await flush();
    show(await post("/api/undo", {}));
    say("Your last answer is open again.");
  });
}

// What the server refuses is told in its words; a task that is not in hand any more makes room for another.
async function attempt(action) {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof Refused)) {
      tell("The server does not answer. Is it still running? Your draft is kept here.");
    } else if (error.status === 409) {
      unsent.forget();
      tell(error.message);
      if (view) show(await post("/api/next", {}));
    } else {
      tell(error.status === 401 ? "You are signed out. Open your link again; your draft is kept here." : error.message);
    }
  }
}

// ── drafts, time and lease ───────────────────────────────────────────────────────────────────────────────────────────

function changed() {
  tell("");
  unsent.keep(name, draft());
  clearTimeout(draftTimer);
  draftTimer = setTimeout(flush, DRAFT_AFTER);
}

function draft() {
  return { task: task.task, seconds: seconds(), ...view.draft() };
}

async function flush(options = {}) {
  if (!view || busy) return;
  clearTimeout(draftTimer);
  const sent = draft();
  try {
    await post("/api/draft", sent, options);
    unsent.acknowledge(name, sent);
  } catch (error) {
    if (error instanceof Refused && error.status === 409) await attempt(() => Promise.reject(error));
  }
}

function leave() {
  if (clock.since !== null) clock.before = seconds();
  clock.since = null;
  if (view && !busy) {
    unsent.keep(name, draft());
    flush({ keepalive: true });
  }
}

function resume() {
  if (view && clock.since === null) clock.since = performance.now();
}

function seconds() {
  const now = clock.since === null ? 0 : (performance.now() - clock.since) / 1000;
  return Math.min(86_400, Math.round((clock.before + now) * 10) / 10);
}

async function heartbeat() {
  const number = task?.task;
  try {
    await post("/api/heartbeat", { task: number });
  } catch (error) {
    if (error instanceof Refused && error.status === 409 && task?.task === number && !busy) {
      return attempt(() => Promise.reject(error));
    }
  }
  if (task?.task === number) heartbeatTimer = setTimeout(heartbeat, task.lease.heartbeat_seconds * 1000);
}

// ── what is said, and keys ───────────────────────────────────────────────────────────────────────────────────────────

function say(words) {
  at("said").textContent = words;
}

function tell(problem) {
  at("problem").textContent = problem;
  if (problem) at("said").textContent = "";
}

function ready(complete, steps) {
  submitButton.classList.toggle("ready", complete);
  at("undo-button").disabled = !steps && !progress?.can_undo;
  at("undo-button").querySelector(".label").textContent = steps ? "Take back" : "Last task";
}

function pressed(event) {
  if (document.querySelector("dialog:modal")) return;
  const typing = event.target.matches("textarea, input[type=text]");
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    submit();
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  const acts = { g: openGuidelines, "?": openHelp, s: () => task && openSkip(), u: undo };
  if (view?.key(event)) {
    event.preventDefault();
  } else if (acts[event.key]) {
    event.preventDefault();
    acts[event.key]();
  } else if (event.key === "Enter" && !event.repeat && !event.target.matches("button, a, input, summary")) {
    event.preventDefault();
    submit();
  }
}
