// Whose responses people prefer: strengths, win matrix, ratings and flags.
import { get } from "./api.js";
import { element, plural } from "./dom.js";
import { decimal, figure, fill, intervals, percent, section, table } from "./figures.js";

const points = (value) => (value === null ? "–" : Math.round(value).toString());
const session = await get("/api/session");
const form = document.getElementById("split");
form.addEventListener("change", load);
await load();

async function load() {
  await fill(() => get(`/api/models?split=${encodeURIComponent(form.elements.split.value)}`), show);
}

function show(found) {
  if (!found.models.length) {
    return [element("p", { class: "note" }, "No model’s responses have been judged by these labelers yet.")];
  }
  return [strengths(found), matrix(found), flags(found)].filter(Boolean);
}

function strengths(found) {
  const rows = found.models.map((row) => ({ name: row.model, found: row.elo }));
  const known = rows.filter((row) => row.found.estimate !== null).flatMap((row) => [row.found.low, row.found.high]);
  const [from, to] = [Math.floor((Math.min(...known) - 1) / 50) * 50, Math.ceil((Math.max(...known) + 1) / 50) * 50];
  const cells = found.models.map((row) => [
    row.model,
    row.responses.toLocaleString("en"),
    figure(row.elo, points),
    figure(row.likert, decimal),
    figure(row.acceptable),
  ]);
  const sources = [
    plural(found.judgements, "answer", "answers"),
    ...(found.votes ? [plural(found.votes, "vote in a chat", "votes in chats")] : []),
  ].join(" and ");
  return section(
    "Strength",
    `Bradley–Terry with ties, on the Elo scale: 400 points are odds of ten to one, the mean of all models is 1000. From ${sources}.`,
    known.length ? intervals("Strength", rows, { from, to, show: points }) : null,
    table(
      "Each model, the strongest first; intervals are 95 %",
      ["Model", "Responses", "Strength", "Mean rating, 1 to 7", "Acceptable"],
      cells,
    ),
  );
}

function matrix(found) {
  const names = found.models.map((row) => row.model);
  if (names.length < 2) return null;
  const wins = new Map(found.matrix.map((cell) => [JSON.stringify([cell.model, cell.other]), cell.wins]));
  const rows = names.map((model) => [
    model,
    ...names.map((other) => (model === other ? element("td", { class: "self" }, "·") : won(wins.get(JSON.stringify([model, other]))))),
  ]);
  return section(
    "Who beats whom",
    "How often the model of the row was preferred to the model of the column, a tie as half.",
    table("Share of comparisons won", ["", ...names], rows),
  );
}

function won(share) {
  if (!share?.n) return element("td", {}, "–");
  const made = element("td", { class: "heat" }, figure(share));
  made.style.setProperty("--share", `${Math.round(30 * share.estimate)}%`);
  return made;
}

function flags(found) {
  const raised = Object.keys(session.flags).filter((flag) => found.models.some((row) => row.flags[flag]));
  if (!raised.length) return null;
  const rows = raised.map((flag) => [
    session.flags[flag],
    ...found.models.map((row) => (row.flags[flag] ? figure(row.flags[flag]) : percent(0))),
  ]);
  return section(
    "Flags",
    "Share of judged responses on which the flag was raised.",
    table("Flags by model", ["Flag", ...found.models.map((row) => row.model)], rows),
  );
}
