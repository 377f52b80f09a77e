"""Several runs of one stage beside each other: final figures, a chart a metric, settings that differ.

Runs that differ in nothing but their seed are one line: mean ± standard deviation over seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import Any

from heed.report.blocks import Block, Figure, FigureTable, Note, Page, Panels, Section, Table, figure
from heed.report.chart import LINES, Chart, Line
from heed.report.course import HIDDEN_ENDINGS
from heed.report.differences import comparison_tables, differing, flat, shown
from heed.report.health import notes, together
from heed.report.read import Run, series
from heed.report.samples import samples
from heed.report.sections import frontier_section
from heed.report.thin import LONG, WINDOWS, moving_mean
from heed.report.words import duration, is_figure, short, slug

FIRST = ("score/mean", "validation/score", "kl/exact", "validation/accuracy", "validation/nll", "loss/validation",
         "loss/train", "loss/ranking", "policy/entropy", "length/mean")  # fmt: skip
DEEP = 3  # levels of a report in which figures are looked for
TABLES, ROWS, LEAST = 14, 60, 4  # figures that get a picture: fewer where there are many runs, whose rows they have
TITLES = {
    "nll": "nats a comparison (nll)", "ece": "expected error", "spearman": "rank correlation with length",
    "eos_rate": "responses that end themselves", "bleu": "BLEU", "chrf": "chrF", "self_bleu": "self-BLEU",
}  # fmt: skip
DETAILS = "by_"  # figures that go into the table of further ones


@dataclass(frozen=True)
class Group:
    """Runs with the same settings but for the seed."""

    name: str
    runs: Sequence[Run]


def groups(runs: Sequence[Run]) -> list[Group]:
    """The runs by what they were set to, each group named by the settings that tell it from the others."""
    names, found = differing(runs), dict[tuple[str, ...], list[Run]]()
    for run in runs:
        told = flat(run.settings)
        found.setdefault(tuple(shown(told.get(name)) for name in names), []).append(run)
    if all(len(some) == 1 for some in found.values()):
        return [Group(run.name, [run]) for run in runs]
    return [Group(_group_name(names, values, some), some) for values, some in found.items()]


def page(runs: Sequence[Run], name: str) -> Page:
    """One page of runs; those of different stages are compared stage by stage."""
    stages = list(dict.fromkeys(run.stage for run in runs))
    parts = [
        part
        for stage in stages
        for part in sections([run for run in runs if run.stage == stage], _prefix(stage, stages))
    ]
    gold: Mapping[str, Any] = {}
    parts += [part for part in (frontier_section(runs, gold, "all-"),) if part.blocks and len(runs) > 1]
    told = [
        ("runs", ", ".join(run.name for run in runs)),
        ("wall time in all", duration(sum(run.seconds or 0.0 for run in runs))),
    ]
    return Page(name, f"{len(runs)} runs compared", told, health(runs), parts)


def health(runs: Sequence[Run]) -> list[Note]:
    """What is not well with any of the runs, and how many are."""
    bad = together({run.name: [note for note in notes(run) if note.level in ("grave", "warning")] for run in runs})
    well = len([run for run in runs if all(note.level not in ("grave", "warning") for note in notes(run))])
    return [*bad, Note("good", f"{well} of {len(runs)} runs came to their end with nothing found.")] if well else bad


def sections(runs: Sequence[Run], prefix: str = "") -> Iterator[Section]:
    """Figures, charts and settings of runs of one stage."""
    title = f"{runs[0].stage}, " if prefix else ""
    found, told = groups(runs), list(_figure_tables(runs))
    if told:
        yield Section(f"{prefix}figures", _heading(title, "final figures"), told)
    if charts := list(compared_charts(found, prefix)):
        left_out = [] if len(found) <= LINES else [f"Drawn are the first {LINES} of {len(found)}; the tables have all."]
        yield Section(f"{prefix}course", _heading(title, "over steps"), [Panels(charts)], "".join(left_out))
    if len(runs) == 1 and (table := samples(runs[0])):
        yield Section(f"{prefix}samples", _heading(title, "samples"), [table])
    yield Section(
        f"{prefix}settings", _heading(title, "settings"), [_runs_table(runs, found), *comparison_tables(runs)]
    )


def compared_charts(found: Sequence[Group], prefix: str = "") -> Iterator[Chart]:
    """A chart for every metric that any run logged, a line a group."""
    logged = dict.fromkeys(name for group in found for run in group.runs for row in run.rows for name in row)
    names = [name for name in FIRST if name in logged] + [name for name in logged if name not in FIRST]
    for name in names:
        if name == "step" or name.endswith(HIDDEN_ENDINGS):
            continue
        lines = [line for group in found[:LINES] if (line := group_line(group, name)).known]
        if lines:
            note = f"Lines of {LONG} steps or more are means over a {WINDOWS}th of them."
            drawn = [_smoothed(line) for line in lines]
            yield Chart(
                slug(f"{prefix}{name}"), name, drawn, group=f"{prefix}step", note=note if drawn != lines else ""
            )


def group_line(group: Group, name: str) -> Line:
    """A metric of one run, or its mean ± standard deviation over the seeds at the steps that all of them have."""
    several = [series(run.rows, name) for run in group.runs]
    if len(several) == 1:
        steps, values = several[0]
        return Line(group.name, steps, values, marked=len(steps) <= 12)
    by_step = [dict(zip(steps, values, strict=True)) for steps, values in several]
    common = [step for step in several[0][0] if all(told.get(step) is not None for told in by_step)]
    at = [[float(told[step] or 0.0) for told in by_step] for step in common]
    low, high = [mean(some) - stdev(some) for some in at], [mean(some) + stdev(some) for some in at]
    return Line(group.name, common, [mean(some) for some in at], low, high, marked=len(common) <= 12)


def final_figures(report: Mapping[str, Any], depth: int = DEEP, prefix: str = "") -> dict[str, Figure]:
    """Every estimate of a report by its place in it."""
    found: dict[str, Figure] = {}
    for name, value in report.items():
        if is_figure(value):
            found[f"{prefix}{name}"] = figure(name, value)
        elif isinstance(value, Mapping) and depth:
            found |= final_figures(value, depth - 1, f"{prefix}{name} · ")
    return found


def titled(name: str) -> str:
    """A figure's place in a report, in words: `length_bias · longer_wins` → length bias · longer wins."""
    return " · ".join(TITLES.get(part, part.replace("_", " ")) for part in name.split(" · "))


def _figure_tables(runs: Sequence[Run]) -> Iterator[Block]:
    """A table a figure, a row a run; of groups of seeds also their mean ± standard deviation."""
    told = {run.name: final_figures(run.report) for run in runs}
    names = list(dict.fromkeys(name for some in told.values() for name in some))
    shared = [name for name in names if sum(name in some for some in told.values()) > 1] if len(runs) > 1 else names
    shared.sort(key=lambda name: name.startswith(DETAILS))  # stable: by source and the like after the rest
    own = min(TABLES, max(LEAST, ROWS // len(runs)), sum(not name.startswith(DETAILS) for name in shared))
    heading = ("figure", "runs", "mean", "standard deviation", "seeds")
    if rows := list(_seed_rows(runs, shared[:own])):
        yield Table("Mean ± standard deviation over seeds", heading, rows)
    if rows := list(_seed_rows(runs, shared[own:])):
        yield Table("Mean ± standard deviation over seeds, further figures", heading, rows, open=False)
    for name in shared[:own]:
        rows_of = [_named(run.name, told[run.name][name]) for run in runs if name in told[run.name]]
        yield FigureTable(titled(name), rows_of)
    if len(shared) > own:
        rest = [
            (titled(name), *(_written(told[run.name].get(name)) for run in runs)) for name in shared[own:]
        ]  # fmt: skip
        yield Table("Further figures", ("figure", *(run.name for run in runs)), rest, open=False)


def _seed_rows(runs: Sequence[Run], names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for name in names:
        for group in groups(runs):
            values = [
                found.estimate
                for run in group.runs
                if (found := final_figures(run.report).get(name)) is not None and found.estimate is not None
            ]
            if len(group.runs) > 1 and len(values) > 1:
                yield titled(name), group.name, short(mean(values)), short(stdev(values)), str(len(values))


def _runs_table(runs: Sequence[Run], found: Sequence[Group]) -> Table:
    group_of = {id(run): group.name for group in found for run in group.runs}
    rows = [
        (run.name, group_of[id(run)], str(run.about.get("seed", "")), "finished" if run.finished else "stopped",
         str(run.last_step or ""), duration(run.seconds))
        for run in runs
    ]  # fmt: skip
    return Table("Runs", ("run", "line in the charts", "seed", "state", "last step", "wall time"), rows)


def _group_name(names: Sequence[str], values: Sequence[str], runs: Sequence[Run]) -> str:
    told = ", ".join(f"{name.rpartition('.')[2]} {value}" for name, value in zip(names, values, strict=True))
    seeds = f"mean ± sd of {len(runs)} seeds" if len(runs) > 1 else ""
    return ", ".join(part for part in (told, seeds) if part) or runs[0].name


def _named(name: str, found: Figure) -> Figure:
    return Figure(name, found.estimate, found.low, found.high, found.n)


def _written(found: Figure | None) -> str:
    return "" if found is None else f"{found.words} ({found.interval})" if found.interval else found.words


def _heading(stage: str, words: str) -> str:
    told = f"{stage}{words}"
    return f"{told[:1].upper()}{told[1:]}"


def _smoothed(line: Line) -> Line:
    """A long line as its moving mean: several noisy ones over each other show nothing."""
    if len(line.x) < LONG or line.low:
        return line
    return replace(line, y=moving_mean(line.y, len(line.x) // WINDOWS))


def _prefix(stage: str, stages: Sequence[str]) -> str:
    return f"{stage}-" if len(stages) > 1 else ""
