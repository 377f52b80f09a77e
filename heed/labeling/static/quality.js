// How far labels can be trusted: what to look at first, then every figure behind it.
import { get } from "./api.js";
import { element, plural } from "./dom.js";
import { decimal, figure, fill, intervals, percent, seconds, section, table, tile } from "./figures.js";

const LETTERS = "ABCDEFGHI";
const session = await get("/api/session");
await fill(() => get("/api/quality"), show);

function show(found) {
  if (!found.answers && !found.labelers.length) {
    return [element("p", { class: "note" }, "Nothing has been answered yet. Figures appear with the first answers.")];
  }
  return [remarks(found), tiles(found), people(found), pairs(found), places(found), alphas(found)].filter(Boolean);
}

function remarks(found) {
  const list = found.remarks.map((words) => element("li", {}, words));
  if (!list.length) list.push(element("li", { class: "fine" }, "Nothing stands out."));
  return element("ul", { class: "remarks", "aria-label": "What to look at" }, ...list);
}

function tiles(found) {
  const { agreement } = found;
  const interval = agreement.n ? `95 %: ${percent(agreement.low)} – ${percent(agreement.high)}, ` : "";
  return element(
    "div",
    { class: "tiles" },
    tile("Agreement on untied pairs", agreement.n ? percent(agreement.estimate, 1) : "–", `${interval}paper: ${percent(found.reference, 1)}`),
    tile("Answers", found.answers.toLocaleString("en"), `to ${plural(found.tasks, "task", "tasks")}`),
    tile("Krippendorff’s α of ranks", decimal(found.alpha_ranks), "0 is chance, 1 is perfect"),
    tile("The longer response wins", found.longer.n ? percent(found.longer.estimate) : "–", found.longer.n ? `95 %: ${percent(found.longer.low)} – ${percent(found.longer.high)}` : "of pairs of unlike length"),
  );
}

function people(found) {
  const rows = found.labelers.map((row) => [
    row.name,
    { train: "training", held_out: "held out" }[row.group],
    row.status,
    row.answers.toLocaleString("en"),
    row.skips.toLocaleString("en"),
    seconds(row.seconds),
    figure(row.agreement),
    figure(row.gold),
    figure(row.ties),
  ]);
  const columns = ["Labeler", "Group", "Status", "Answers", "Skips", "Median time", "Agreement with others", "Gold pairs right", "Ties"];
  const chart = intervals(
    "Agreement with others",
    found.labelers.map((row) => ({ name: row.name, found: row.agreement })),
    { from: 0, to: 1, reference: { value: found.reference, words: `paper ${percent(found.reference, 1)}` } },
  );
  return section("Labelers", null, found.agreement.n ? chart : null, table("Each labeler; intervals are 95 %", columns, rows));
}

function pairs(found) {
  if (!found.pairs.length) return null;
  const rows = found.pairs.map((row) => [
    row.names.join(" and "),
    row.tasks.toLocaleString("en"),
    figure(row.agreement),
    decimal(row.kappa),
  ]);
  const columns = ["Two labelers", "Tasks in common", "Agreement on untied pairs", "Cohen’s κ"];
  return section("Labeler against labeler", "κ counts better, tie and worse, and takes off what chance would reach.", table("Labelers who answered the same tasks", columns, rows));
}

function places(found) {
  if (!found.slots.length) return null;
  const rows = found.slots.map((share, slot) => ({ name: `Card ${LETTERS[slot]}`, found: share }));
  return section(
    "Does the place on the screen matter?",
    "The order of the cards is drawn for each labeler and task, so every place should win half of its untied pairs.",
    intervals("Share of untied pairs won", rows, { from: 0, to: 1, reference: { value: 0.5, words: "no bias" } }),
    table("Share of untied pairs won, by place", ["Place", "Won"], rows.map((row) => [row.name, figure(row.found)])),
  );
}

function alphas(found) {
  const rows = Object.entries(found.alpha_flags).map(([name, alpha]) => [session.flags[name] ?? name, decimal(alpha)]);
  if (found.alpha_ratings !== null) rows.unshift(["Ratings from 1 to 7 (ordinal)", decimal(found.alpha_ratings)]);
  if (!rows.length) return null;
  return section("Ratings and flags", "Krippendorff’s α: 1 is perfect, 0 is chance; it needs responses that two people judged.", table("Agreement on ratings and flags", ["What", "α"], rows));
}
