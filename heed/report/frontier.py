"""The frontier: mean score against exact KL of all that the runs hold, by the judge that was paid and by others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from heed.formulas.frontier import ENOUGH, CeilingPoint, ceiling
from heed.report.chart import Chart, Line, estimated
from heed.report.read import Run, number
from heed.report.samples import in_order

PROXY, HELD_OUT, GOLD = "score by the reward model", "score by a held-out judge", "gold score"
CEILING, BY_SCORE = "the ceiling, the best policy at a KL", "the ceiling, the best by the score"
NEAR, FAR = 8.0, 16.0  # nats: the chart over KL shows so much where some policy is further away than `FAR`
Found = dict[str, list[Line]]
"""Lines of each judge's chart."""


@dataclass(frozen=True)
class Frontier:
    """Charts that share their KL axis, one a judge, and why something is not in them."""

    charts: Sequence[Chart]
    missing: Sequence[str]


def frontier(runs: Sequence[Run], gold: Mapping[str, Any], prefix: str = "") -> Frontier | None:
    """The frontier of runs that share a reward model; None where fewer than two points would be on it.

    `gold` holds figures by model name, as a demo's report has them under `gold_score`.
    """
    model = _paid_by(runs)
    alike = [run for run in runs if _judged_by(run, model)]
    found: Found = {PROXY: [], HELD_OUT: [], GOLD: []}
    missing = [
        f"{run.name} was judged by another reward model." for run in runs if run.stage in READERS and run not in alike
    ]
    several = sum(run.stage == "evaluate" for run in alike) > 1  # on other prompts each: they are told apart
    for run in alike:
        own = f", {run.name}" if several and run.stage == "evaluate" else ""
        for judge, lines in READERS[run.stage](run, gold).items():
            found[judge] += [replace(line, name=f"{line.name}{own}") for line in lines]
    _add_sft(found, alike)
    missing += [told for run in alike if run.stage == "best-of-n" and (told := _no_ceiling(run))]
    if sum(len(line.known) for line in found[PROXY]) < 2:
        return None
    names = list(dict.fromkeys(_whose(line) for lines in found.values() for line in lines))
    shown = {
        judge: [replace(line, colour=names.index(_whose(line))) for line in lines]
        for judge, lines in found.items()
        if lines
    }
    return Frontier([_chart(judge, lines, prefix) for judge, lines in shown.items()], missing)


def near(charts: Sequence[Chart]) -> list[Chart]:
    """The same charts up to 8 nats, where something is far beyond: the policies that anybody wants lie there."""
    far = any(x > FAR for chart in charts for line in chart.lines for x in line.x)
    if not far:
        return list(charts)
    return [
        replace(
            chart, title=f"{chart.title}, to {NEAR:g} nats", lines=[_cut(line) for line in chart.lines],
            note=f"{chart.note} What is beyond {NEAR:g} nats is in the chart over √KL.",
        )
        for chart in charts
    ]  # fmt: skip


def _cut(line: Line) -> Line:
    """The points of a line up to the first that is beyond 8 nats."""
    end = next((i for i, x in enumerate(line.x) if x > NEAR), len(line.x))
    return replace(
        line, x=line.x[:end], y=line.y[:end], low=line.low[:end], high=line.high[:end], labels=line.labels[:end]
    )


def rooted(charts: Sequence[Chart]) -> list[Chart]:
    """The same charts over √KL, along which over-optimisation is a straight line and then a fall."""
    return [
        replace(
            chart, id=f"{chart.id}-root", title=f"{chart.title}, over √KL", scale="root", group=f"{chart.group}-root"
        )
        for chart in charts
    ]


def of_ppo(run: Run, gold: Mapping[str, Any]) -> Found:
    """Every rollout on its way, and the held-out prompts at each evaluation whose KL was measured with them."""
    path = [(row["kl/exact"], row["score/mean"]) for row in run.rows if _both(row, "kl/exact", "score/mean")]
    lines = {PROXY: [Line(f"{run.name}, its rollouts", [x for x, _ in path], [y for _, y in path])]} if path else {}
    for judge, metric in ((PROXY, "validation/score"), (HELD_OUT, "validation/heldout"), (GOLD, "validation/gold")):
        rows = [row for row in run.rows if _both(row, "validation/kl", metric)]
        if not rows:
            continue
        scores = [
            {"estimate": row[metric], "low": row.get(f"{metric}_low"), "high": row.get(f"{metric}_high")}
            for row in rows
        ]
        kl = [row["validation/kl"] for row in rows]
        lines.setdefault(judge, []).append(estimated(f"{run.name}, held-out prompts", kl, scores))
    for judge, point in _averaged(run):
        lines.setdefault(judge, []).append(point)
    return lines


def _averaged(run: Run) -> Iterator[tuple[str, Line]]:
    """The averaged policy of a PPO run, on the same held-out prompts."""
    told = run.report.get("ema", {})
    kl = number(told.get("kl", {}).get("estimate"))
    for judge, name in REPORTED.items():
        if kl is not None and "after" in told.get(name, {}):
            point = estimated(f"{run.name}, averaged weights", [kl], [told[name]["after"]], joined=False)
            yield judge, point  # the legend names it: an evaluation may have the same policy, with its name beside


def of_best_of_n(run: Run, gold: Mapping[str, Any]) -> Found:
    """The unbiased curve over n against the bound of its KL, and the ceiling from the same samples."""
    curve = [point for point in run.report.get("curve", []) if number(point.get("kl_bound")) is not None]
    found: Found = {}
    for judge, name in ((PROXY, "score"), (HELD_OUT, "judge"), (GOLD, "gold")):
        having = [point for point in curve if isinstance(point.get(name), dict)]
        if not having:
            continue
        labels = [f"n = {point['n']}" if point["n"] > 1 else "" for point in having]
        kl = [float(point["kl_bound"]) for point in having]
        found[judge] = [estimated(f"{run.name} (KL at most)", kl, [point[name] for point in having], labels=labels)]
    paid = "paid_scores" if any("paid_scores" in row for row in run.samples) else "scores"  # of a former version
    for judge, worth in ((PROXY, "scores"), (HELD_OUT, "judge_scores"), (GOLD, "gold_scores")):
        if points := attainable(run, worth, worth):
            found.setdefault(judge, []).append(_ceiling_line(points, CEILING))
        if judge != PROXY and (points := attainable(run, paid, worth)):
            found[judge].append(_ceiling_line(points, BY_SCORE))
    return found


def of_evaluation(run: Run, gold: Mapping[str, Any]) -> Found:
    """Each model that was evaluated, a point with the interval of its score."""
    found: Found = {PROXY: [], HELD_OUT: [], GOLD: []}
    judges = list(run.report.get("reward_models", {}))
    for name, model in in_order(run.report.get("models", {})).items():
        bound = number(model.get("kl_bound"))
        kl = number(model.get("kl", {}).get("exact", {}).get("estimate")) if bound is None else bound
        if kl is None:
            continue
        for place, judge in enumerate(judges[:2]):
            if (told := model.get("score", {}).get(judge)) is not None:
                found[(PROXY, HELD_OUT)[place]].append(_point(name, kl, told))
        if name in gold:
            found[GOLD].append(_point(name, kl, gold[name]))
    return {judge: lines for judge, lines in found.items() if lines}


def attainable(run: Run, scores: str = "scores", worth: str = "scores") -> list[CeilingPoint]:
    """What the best policy by `scores` is worth by `worth`, at one KL after another, from best-of-n's samples; empty
    where its rows do not hold these lists of all responses to a prompt."""
    rows = [row for row in run.samples if isinstance(row.get(scores), list) and isinstance(row.get(worth), list)]
    if not rows or len(rows) < len(run.samples):
        return []
    return ceiling([row[scores] for row in rows], None if worth == scores else [row[worth] for row in rows])


READERS = {"ppo": of_ppo, "best-of-n": of_best_of_n, "evaluate": of_evaluation}
"""What each stage's files have to say about score and KL."""


REPORTED = {PROXY: "score", HELD_OUT: "heldout", GOLD: "gold"}
"""What a PPO run's report calls the judge of a chart."""


def _of(run: Run, name: str) -> Mapping[str, Any]:
    found = run.report.get(name)
    return found if isinstance(found, Mapping) else {}


def _whose(line: Line) -> str:
    """Of which run or model a line is: all of its lines have one colour."""
    return line.name.partition(",")[0]


def _paid_by(runs: Sequence[Run]) -> str:
    """The reward model that PPO was paid by, or the first that anything was judged by."""
    named = [str(run.settings["reward_model"]) for run in runs if run.settings.get("reward_model")]
    judged = [str(path) for run in runs for path in _judges(run)[:1]]
    return next(iter([*named, *judged]), "")


def _judges(run: Run) -> list[str]:
    models = run.settings.get("reward_models")
    return [str(path) for path in models.values()] if isinstance(models, dict) else []


def _judged_by(run: Run, model: str) -> bool:
    if run.stage not in READERS:
        return False
    own = _judges(run)[:1] or [str(run.settings.get("reward_model") or "")]
    return model in own or own == [""]


def _add_sft(found: Found, runs: Sequence[Run]) -> None:
    """The SFT model as PPO's held-out prompts saw it, at KL 0, unless an evaluation has it on more prompts."""
    for judge, name in REPORTED.items():
        told = [run.report[name]["before"] for run in runs if run.stage == "ppo" and "before" in _of(run, name)]
        if told and not any(_whose(line) == "sft" for line in found[judge]):
            found[judge].append(_point("sft", 0.0, told[0]))
    after = [
        (run, run.report["score"]["after"])
        for run in runs
        if run.stage == "ppo" and "after" in run.report.get("score", {})
    ]
    for run, figure in after:
        kl = number(run.rows[-1].get("kl/exact")) if run.rows else None
        if kl is not None and not any(line.name.startswith(f"{run.name}, held-out") for line in found[PROXY]):
            found[PROXY].append(_point(f"{run.name}, last", kl, figure))


def _point(name: str, kl: float, figure: Mapping[str, Any]) -> Line:
    return estimated(name, [kl], [figure], joined=False, labels=[name])


def _ceiling_line(points: Sequence[CeilingPoint], name: str) -> Line:
    scores = [point.score.as_dict() for point in points]
    return estimated(name, [point.kl for point in points], scores, marked=False)


def _no_ceiling(run: Run) -> str:
    """Why the ceiling is not in the chart; empty where it is."""
    if attainable(run):
        return ""
    drawn = number(run.report.get("samples"))
    if drawn is not None and drawn < 2 * ENOUGH:
        return (
            f"The attainable ceiling needs samples that are worth {ENOUGH:.0f} a prompt after weighting; {run.name} "
            f"has {drawn:.0f}. Run heed best-of-n with --n {4 * ENOUGH:.0f} to see it."
        )
    return f"{run.name} keeps only the best response of each prompt, so the attainable ceiling cannot be drawn."


def _chart(judge: str, lines: Sequence[Line], prefix: str) -> Chart:
    place = (PROXY, HELD_OUT, GOLD).index(judge)
    note = (
        "Up is better, left is cheaper. Best-of-n is the curve to beat; the ceiling is what no policy can be above.",
        "The same policies judged by a model that nobody was paid by.",
        "The same policies by the gold score, which no stage has seen: where it falls while the other rises, the "
        "reward model is being fooled.",
    )[place]
    return Chart(
        id=f"{prefix}frontier-{place}", title=f"{judge[0].upper()}{judge[1:]} against KL", lines=lines,
        x_name="KL, nats a response", note=note, group=f"{prefix}frontier", wide=True,
    )  # fmt: skip


def _both(row: Mapping[str, Any], *names: str) -> bool:
    return all(number(row.get(name)) is not None for name in names)
