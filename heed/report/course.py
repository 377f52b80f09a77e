"""The metrics of a run over its steps: which stand together, in which order, what healthy looks like, where it warns.

The limits are those of the doctor's bands (`heed/doctor/health.py`); a test keeps the two alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from heed.formulas.statistics import Z95
from heed.report.chart import Chart, Limit, Line, with_means
from heed.report.read import Row, Run, number, series
from heed.report.words import slug

CLIPPED, DRIFTED, FARTHEST = 0.3, 0.05, 25.0
COIN = math.log(2)
Interval = Callable[[Row, Run], tuple[float, float] | None]


def score_interval(row: Row, run: Run) -> tuple[float, float] | None:
    """95 % interval of the mean score of a rollout: its standard deviation over √batch."""
    mean, spread, batch = (
        number(value) for value in (row.get("score/mean"), row.get("score/sd"), run.settings.get("batch"))
    )
    if mean is None or spread is None or not batch:
        return None
    half = Z95 * spread / math.sqrt(batch)
    return mean - half, mean + half


def k1_interval(row: Row, run: Run) -> tuple[float, float] | None:
    """95 % interval of the sampled KL."""
    mean, error = number(row.get("kl/k1")), number(row.get("kl/k1_se"))
    return None if mean is None or error is None else (mean - Z95 * error, mean + Z95 * error)


def told_interval(name: str) -> Interval:
    """The interval that the row itself holds as `name_low` and `name_high`."""

    def interval(row: Row, run: Run) -> tuple[float, float] | None:
        low, high = number(row.get(f"{name}_low")), number(row.get(f"{name}_high"))
        return None if low is None or high is None else (low, high)

    return interval


@dataclass(frozen=True)
class Course:
    """One chart of metrics over steps."""

    title: str
    metrics: Sequence[str]
    y_name: str = ""
    note: str = ""
    limits: Sequence[Limit] = ()
    group: str = ""


JUDGED = (
    "validation/accuracy", "validation/nll", "validation/score", "validation/heldout", "validation/gold",
)  # fmt: skip
INTERVALS: dict[str, Interval] = {
    "score/mean": score_interval,
    "kl/k1": k1_interval,
    **{name: told_interval(name) for name in JUDGED},
}
HIDDEN_ENDINGS = ("_low", "_high", "_n", "_se")

SCORE_AND_KL = (
    Course(
        "Score",
        ("score/mean", "validation/score", "validation/heldout", "validation/gold"),
        "standard deviations of the SFT model's scores",
        "Healthy: rises by 0.5 to 2, then flattens. The shade is the 95 % interval of a rollout's mean.",
        group="step",
    ),
    Course(
        "KL from the SFT model",
        ("kl/exact", "kl/k1"),
        "nats a response",
        "Healthy: 0 at first, then 1 to 10, never negative. Exact KL reads the whole vocabulary; k1 only the tokens "
        "that were drawn, with its 95 % interval.",
        (Limit(FARTHEST, "warns over 25"),),
        group="step",
    ),
)
UPDATES = (
    Course(
        "Entropy",
        ("policy/entropy",),
        "nats a token",
        "Healthy: falls by less than a third. Halved within 20 steps: the learning rate is too high.",
    ),
    Course(
        "Clipped tokens",
        ("policy/clip_fraction",),
        "share of tokens",
        "Healthy: 0.01 to 0.15. It warns over 0.3.",
        (Limit(CLIPPED, "warns over 0.3"),),
    ),
    Course(
        "Old policy to new",
        ("policy/approx_kl",),
        "nats a token",
        "Healthy: 0.0001 to 0.02. It warns over 0.05.",
        (Limit(DRIFTED, "warns over 0.05"),),
    ),
)
VALUES = (
    Course(
        "What the value model explains",
        ("value/explained_variance",),
        "share of the variance of returns",
        "Healthy: under 0 at first, over 0.3 after the warm-up.",
        (Limit(0.0, "warns under 0 after 50 steps", "under"),),
    ),
    Course("Value loss", ("value/loss",), "", "Healthy: falls, then follows the variance of the score."),
)
LENGTHS = (
    Course(
        "Length of responses",
        ("length/mean",),
        "tokens",
        "Healthy: within half of the SFT model's. Near the limit: the reward model likes length; near 1: silence.",
    ),
    Course("Responses that end themselves", ("length/eos_rate",), "share", "Healthy: not below the SFT model's."),
)
MEASUREMENT = (
    Course(
        "Reward after the KL price",
        ("reward/mean", "reward/kl_share"),
        "",
        "The share of the reward that is KL should stay under 0.5.",
        (Limit(0.5, "share: warns over 0.5", "none"),),
    ),
    Course("Price of a nat", ("kl/coef",), "β", "Constant, unless kl_target is set."),
    Course(
        "Is the sampled KL the exact one?",
        ("kl/z_validity", "kl/z_surprisal"),
        "z",
        "Healthy: within 4 on both sides. Below −4: the sampler and the scorer differ.",
        (Limit(-4.0, "−4", "under"), Limit(4.0, "4")),
    ),
    Course(
        "Scoring again",
        ("rescore/max", "rescore/mean"),
        "nats",
        "Healthy: under 0.0001 in float32; 0.3 at most in bfloat16.",
    ),
    Course(
        "Ratio before the first update",
        ("policy/ratio_first",),
        "largest |r − 1|",
        "Healthy: under 0.001 in float32, 0.1 in bfloat16.",
    ),
    Course(
        "Gradient norms",
        ("policy/grad_norm", "value/grad_norm"),
        "before clipping",
        "Healthy: steady, mostly under optimizer.max_grad_norm.",
    ),
    Course("Policy loss", ("loss/policy",), "", "Near 0, either sign: not a measure of progress."),
    Course("Loss on pretraining text", ("loss/ptx",), "nats a token", "Healthy: does not rise."),
)
LOSSES = (
    Course(
        "Loss",
        ("loss/train", "loss/validation"),
        "nats a token",
        "Healthy: both fall and stay near each other. The held-out loss rising while the other falls: fewer epochs.",
    ),
    Course("Loss on plain text mixed in", ("loss/text",), "nats a token", "Healthy: does not rise."),
    Course("Score of the answers", ("validation/score",), "", "By a reward model, where one was named."),
)
ACCURACY = (
    Course(
        "Accuracy",
        ("validation/accuracy", "accuracy/train"),
        "share of pairs ordered rightly",
        "Healthy: its interval lies over 0.5; people agree with each other on 0.73. A change inside the interval is no "
        "change.",
        (Limit(0.5, "a coin", "none"),),
    ),
    Course(
        "Loss on rankings",
        ("validation/nll", "loss/ranking"),
        "nats a comparison",
        "Healthy: begins at 0.693, a coin's, and falls. Over it with accuracy over 0.5: overconfident.",
        (Limit(COIN, "a coin", "none"),),
    ),
    Course("Drift of the scores", ("loss/centring",), "", "Healthy: stays below about 1."),
)
TRAINING = (
    Course(
        "Gradient norm",
        ("grad_norm",),
        "before clipping",
        "Healthy: steady, mostly under optimizer.max_grad_norm.",
    ),
    Course("Learning rate", ("learning_rate",), "", "The peak rate times the schedule's factor."),
)
TIMES = (
    Course(
        "Seconds a step",
        tuple(f"time/{part}" for part in "step rollout score update doctor io evaluation save".split()),
        "seconds",
    ),
    Course("Speed", ("perf/tokens_per_second",), "tokens a second"),
)


def charts(run: Run, courses: Sequence[Course], prefix: str = "", rows: Sequence[Row] | None = None) -> list[Chart]:
    """The courses that the run has rows for; a chart without a single value is left out."""
    found = [chart(run, course, prefix, run.rows if rows is None else rows) for course in courses]
    return [one for one in found if one is not None]


def chart(run: Run, course: Course, prefix: str, rows: Sequence[Row]) -> Chart | None:
    """One course as a chart, or None where nothing of it was logged."""
    lines = [line for name in course.metrics if (line := metric_line(run, name, rows)).known]
    if not lines:
        return None
    limits = [*course.limits, *_own_limits(run, course)]
    return Chart(
        id=slug(f"{prefix}{lines[0].name}"), title=course.title, lines=with_means(lines),
        y_name=course.y_name, limits=limits, note=course.note, group=f"{prefix}{course.group}" if course.group else "",
    )  # fmt: skip


def metric_line(run: Run, name: str, rows: Sequence[Row]) -> Line:
    """A metric over the steps that have it, with its interval where one is known; few points are marked."""
    steps, values = series(rows, name)
    marked = len(steps) <= 12 or len(steps) * 4 < len(rows)
    if name not in INTERVALS:
        return Line(name, steps, values, marked=marked)
    having = [row for row in rows if name in row]
    found = [INTERVALS[name](row, run) for row in having]
    if not any(found):
        return Line(name, steps, values, marked=marked)
    low, high = [one[0] if one else None for one in found], [one[1] if one else None for one in found]
    return Line(name, steps, values, low, high, marked=marked)


def other_courses(run: Run, shown: Sequence[Course]) -> list[Course]:
    """A course for every metric that none of the shown has, so that nothing which was logged is hidden."""
    known = {name for course in shown for name in course.metrics} | {"step", "score/sd", "kl/k3"}
    names = dict.fromkeys(name for row in run.rows for name in row)
    return [Course(name, (name,)) for name in names if name not in known and not name.endswith(HIDDEN_ENDINGS)]


def _own_limits(run: Run, course: Course) -> list[Limit]:
    """The limits that the run's own settings draw."""
    if "kl/exact" not in course.metrics:
        return []
    told = {"kl_target": "kl_target", "kl_budget": "stops at kl_budget"}
    values = {words: number(run.settings.get(name)) for name, words in told.items()}
    return [Limit(value, f"{words} {value:g}", "none") for words, value in values.items() if value]
