"""The page of a demo, or of any directory with runs of several stages: the loop from pretraining to evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from heed.report import course
from heed.report.blocks import Block, Figure, Form, Link, Note, Page, Panels, Section, Table, figures
from heed.report.chart import Chart
from heed.report.differences import settings_tables
from heed.report.health import notes, together
from heed.report.read import PAGE, Row, Run, number
from heed.report.samples import in_order
from heed.report.sections import frontier_section, of_evaluation, of_reward, of_text
from heed.report.single import facts, sample_section
from heed.report.words import DASH, duration, slug

ORDER = ("pretrain", "sft", "sample", "reward", "ppo", "best-of-n", "evaluate", "evaluate-reward", "score", "run")
DID = {
    "pretrain": "a small transformer learned a language from plain text",
    "sft": "it learned to answer from demonstrations",
    "sample": "it answered each of some questions several times, for people to rank",
    "reward": "a reward model learned which answers people prefer",
    "ppo": "the policy learned to write answers that score higher",
    "best-of-n": "the baseline without training: draw n answers, keep the best",
    "evaluate": "all models answered the same new questions",
    "evaluate-reward": "the reward model was tested on held-out comparisons",
    "score": "a reward model's scores, and the pairs that it gets wrong",
    "run": "",
}
HEADLINES = {
    "pretrain": ("held-out loss", "validation_loss", "after"),
    "sft": ("held-out loss", "validation_loss", "after"),
    "reward": ("accuracy", "accuracy"),
    "evaluate-reward": ("accuracy", "accuracy"),
    "score": ("accuracy", "accuracy"),
    "ppo": ("gain in score", "score", "difference"),
    "sample": ("all answers different", "all_different"),
}
GOLD = {
    "gold_win_rates": ("Gold win rate against SFT", "By the little world's own score. A tie is half a win.", 0.5),
    "gold_score": ("Mean gold score", "", None),
    "right_answers": ("Right answers", "Share of the questions with the right content, whatever the manners.", None),
    "grammatical": ("Grammatical answers", "", None),
    "eos_rate": ("Answers that end themselves", "", None),
    "nats_per_token": ("Nats a token of plain text", "Lower is better: the alignment tax is the rise over SFT.", None),
}  # fmt: skip


def page(
    runs: Sequence[Run], name: str, root: tuple[Mapping[str, Any], Sequence[Row], Sequence[str]], live: bool = False
) -> Page:
    """What came out, the frontier, then the stages in the order of the loop, samples, settings."""
    report, gold, problems = root
    ordered = sorted(runs, key=lambda run: (ORDER.index(run.stage), str(run.about.get("started", "")), run.name))
    parts = [
        Section("outcome", "What came out", list(outcome(report))),
        Section("stages", "Stages", [stages_table(ordered)]),
        frontier_section(ordered, report.get("gold_score", {}), ""),
        *ppo_sections([run for run in ordered if run.stage == "ppo"]),
        *_of_the_rest(ordered),
        *[part for run in ordered if run.stage == "evaluate" for part in sample_section(run, gold)[:1]][:1],
        Section("settings", "Settings", [_titled(table, run) for run in ordered for table in settings_tables(run)[:1]]),
    ]
    links = [Link(run.name, f"{run.name}/{PAGE}") for run in ordered]
    told = [Note("warning", f"{problem}.") for problem in problems]
    health = [*told, *together({run.name: meant(run) or notes(run, live) for run in ordered})]
    begins = "plain text" if any(run.stage == "pretrain" for run in runs) else "demonstrations"
    sentence = f"The whole loop: from {begins} to a policy that people prefer"
    return Page(name, sentence, loop_facts(ordered, report), health, [part for part in parts if part.blocks], links)


def meant(run: Run) -> list[Note]:
    """PPO without a price and a limit is there to go wrong: what the alarm said is told, the rest on its page."""
    if run.stage != "ppo" or run.settings.get("kl_coef") != 0 or run.settings.get("kl_budget") != 0:
        return []
    alarms = [note for note in notes(run) if note.where == "alarm"]
    return [Note("told", f"{note.sentence} It has no price on KL, so that this can be seen.") for note in alarms]


def outcome(report: Mapping[str, Any]) -> Iterator[Block]:
    """A demo's own figures, where its report has them."""
    for key, (title, note, reference) in GOLD.items():
        found = report.get(key)
        if isinstance(found, Mapping):
            flat = {
                name: value.get("all", value) if isinstance(value, Mapping) else value
                for name, value in in_order(found).items()
            }
            yield figures(title, flat, note, reference)
    agreement = {
        "the reward model": report.get("reward_accuracy"),
        "the gold score itself (ceiling)": report.get("reward_accuracy_ceiling"),
    }
    if any(agreement.values()):
        yield figures(
            "Agrees with a labeler on held-out pairs",
            agreement,
            "Labelers disagree, so nothing agrees with all of them.",
            0.5,
        )


def stages_table(runs: Sequence[Run]) -> Table:
    """A row a run: what it did, how it went, what came out."""
    rows = [
        (run.name, run.stage, DID[run.stage], "finished" if run.finished else "not finished", duration(run.seconds),
         headline(run))
        for run in runs
    ]  # fmt: skip
    return Table("Runs", ("run", "stage", "what it did", "state", "wall time", "what came out"), rows)


def headline(run: Run) -> str:
    """The one figure that a stage is judged by, with its interval."""
    if run.stage == "evaluate":
        return _wins(run)
    if run.stage == "best-of-n" and run.report.get("curve"):
        last = run.report["curve"][-1]
        return f"best of {last['n']} scores {_written(last['score'])}"
    if run.stage not in HEADLINES:
        return ""
    words, *keys = HEADLINES[run.stage]
    found: Any = run.report
    for key in keys:
        found = found.get(key, {}) if isinstance(found, Mapping) else {}
    return f"{words} {_written(found)}" if isinstance(found, Mapping) and found else ""


def ppo_sections(runs: Sequence[Run]) -> Iterator[Section]:
    """The PPO runs over each other: score and KL, updates, value model, length."""
    if not runs:
        return
    parts: tuple[tuple[str, str, Sequence[course.Course], Form], ...] = (
        ("score", "Score and KL", course.SCORE_AND_KL, "stacked"),
        ("updates", "Updates", course.UPDATES, "beside"),
        ("values", "Value model", course.VALUES, "beside"),
        ("length", "Length", course.LENGTHS, "beside"),
    )
    for id, title, courses, form in parts:
        charts = [chart for one in courses if (chart := _over_each_other(runs, one)) is not None]
        yield Section(id, title, [Panels(charts, form)] if charts else [])


def loop_facts(runs: Sequence[Run], report: Mapping[str, Any]) -> list[tuple[str, str]]:
    """When the first run began, what is the same for all runs, and how long everything took."""
    others = [dict(facts(run)) for run in runs[1:]]
    shared = [
        (name, value)
        for name, value in facts(runs[0])
        if name == "started"
        or (name in ("hardware", "commit", "versions", "command") and all(other.get(name) == value for other in others))
    ]
    memory = number(report.get("peak_memory_mb"))
    total = number(report.get("seconds")) or sum(run.seconds or 0.0 for run in runs)
    told = [("wall time in all", duration(total)), ("seed", str(report.get("seed", runs[0].about.get("seed", DASH))))]
    return [*shared[:1], *told, *([("peak memory", f"{memory:,.0f} MB")] if memory else []), *shared[1:]]


def _of_the_rest(runs: Sequence[Run]) -> Iterator[Section]:
    for run in runs:
        if run.stage == "pretrain":
            charts = course.charts(run, course.LOSSES, slug(f"{run.name}-"))
            yield Section(slug(f"{run.name}-loss"), f"{run.name}: loss", [Panels(charts)] if charts else [])
        if run.stage == "sft":
            yield from _named(run, list(of_text(run, slug(f"{run.name}-"))))
        if run.stage in ("reward", "evaluate-reward", "score"):
            yield from _named(run, list(of_reward(run, slug(f"{run.name}-"))))
        if run.stage == "evaluate":
            yield from _named(
                run, [part for part in of_evaluation(run, slug(f"{run.name}-")) if "frontier" not in part.id]
            )


def _named(run: Run, parts: Sequence[Section]) -> list[Section]:
    """The sections of one run as one, so that the page's contents stay short."""
    blocks = [block for part in parts for block in part.blocks]
    return [Section(slug(f"{run.name}-all"), f"{run.name}: {DID[run.stage]}", blocks)]


def _over_each_other(runs: Sequence[Run], one: course.Course) -> Chart | None:
    """A course of one run as it is; of several the first metric that they have, a line a run."""
    if len(runs) == 1:
        return course.chart(runs[0], one, "", runs[0].rows)
    metric = one.metrics[0]
    found = [replace(course.metric_line(run, metric, run.rows), name=run.name) for run in runs]
    lines = [line for line in found if line.known]
    if not lines:
        return None
    id = metric.replace("/", "-")
    return Chart(id, one.title, lines, y_name=one.y_name, limits=one.limits, note=one.note, group=one.group)


def _titled(table: Table, run: Run) -> Table:
    return Table(f"{run.name}: chosen for this run", table.heading, table.rows, table.note, open=False)


def _wins(run: Run) -> str:
    told = [
        f"{name} wins {_written(found['win_rate'])}"
        for name, by_judge in run.report.get("against_baseline", {}).items()
        for found in list(by_judge.values())[:1]
        if name.startswith("ppo") and "win_rate" in found
    ]
    return ", ".join(told)


def _written(found: Mapping[str, Any]) -> str:
    row = Figure("", number(found.get("estimate")), number(found.get("low")), number(found.get("high")))
    return f"{row.words} ({row.interval})" if row.interval else row.words
