// Who labels, how far they have come, and links for more people.
import { get, post } from "./api.js";
import { element } from "./dom.js";
import { fill, percent, section, table, tile } from "./figures.js";

const GROUPS = { train: "training", held_out: "held-out" };
const KINDS = { rank: "rankings", pairwise: "comparisons", write: "demonstrations" };
const form = document.getElementById("invite");
const problem = document.getElementById("problem");
const link = document.getElementById("link");
const text = document.getElementById("link-text");

form.addEventListener("submit", invite);
document.getElementById("link-copy").addEventListener("click", copy);
await load();

function load() {
  return fill(() => get("/api/people"), show);
}

function show(found) {
  const groups = found.groups.toSorted((a, b) => Object.keys(GROUPS).indexOf(a.group) - Object.keys(GROUPS).indexOf(b.group));
  const tiles = groups.map(({ group, kind, tasks, wanted, done }) => {
    const share = wanted ? `${percent(done / wanted)} of ${wanted.toLocaleString("en")}` : "none asked for";
    const name = `${KINDS[kind] ?? kind} by ${GROUPS[group]} labelers`;
    return tile(name[0].toUpperCase() + name.slice(1), done.toLocaleString("en"), `${share}, ${tasks.toLocaleString("en")} tasks`);
  });
  const rows = found.people.map((person) => [
    person.name,
    person.owner ? "owner" : GROUPS[person.group],
    person.status,
    person.answers.toLocaleString("en"),
    person.skips.toLocaleString("en"),
    doing(person),
  ]);
  const columns = ["Name", "Group", "Status", "Answers", "Skips", "Now"];
  return [element("div", { class: "tiles" }, ...tiles), section("People", null, table("Everybody who may come in", columns, rows))];
}

function doing(person) {
  if (person.at_work) return "has a task in hand";
  return person.link_unused && !person.owner ? "link not used yet" : "–";
}

async function invite(event) {
  event.preventDefault();
  try {
    const made = await post("/api/people", { name: form.elements.name.value, group: form.elements.group.value });
    problem.textContent = "";
    link.hidden = false;
    document.getElementById("link-words").textContent = `For ${made.name}. It is shown only now: copy it and send it.`;
    text.value = (made.public || location.origin) + made.path;
    text.select();
    form.reset();
    await load();
  } catch (error) {
    problem.textContent = error.message;
  }
}

async function copy() {
  text.select();
  await navigator.clipboard?.writeText(text.value).catch(() => {}); // without permission it is selected at least
}
