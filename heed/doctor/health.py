"""Health bands: what the metrics of a run say about its course. Nothing here proves a defect, so all are warnings while
the run goes on. A policy that has collapsed when its run ends is no longer a warning (`at_the_end`).

Each band is a pure function of the rows of `metrics.jsonl` up to now, judges the last of them, and gives a message
with its numbers, or None. Means are over several rows, so that noise does not cross a limit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

from heed.doctor.findings import Finding, finding

Row = Mapping[str, Any]
Told = tuple[str, dict[str, float]]
"""A message and the numbers behind it."""

WINDOW = 20  # steps within which entropy must not halve
CLIPPED, DRIFTED = 0.3, 0.05  # clip fraction; nats per token from the old policy to the new
WARM = 50  # steps after which the value model should explain something
FARTHEST = 25.0  # nats per response
FALL = 0.25  # of the held-out score, in standard deviations of the SFT model's scores
SHORT = 0.5  # of the length of the first steps
FLAT = 0.25  # of the entropy of the first steps
ALIKE = 0.5  # of the distinct 2-grams of the first steps
FOREIGN = 4.0  # standard deviations of the score of the first steps: no such answer has been ranked
REPEATED = 0.15  # more repeated 2-grams in a response than in the first steps
SURE = 4.0  # standard errors


@dataclass(frozen=True)
class Run:
    """What the bands need to know besides the rows: episodes a step, and the longest response."""

    batch: int
    longest: int


def halved_entropy(rows: Sequence[Row], run: Run) -> Told | None:
    """H1: mean entropy of three steps against the highest mean of three within the 20 steps before."""
    values = _last(rows, "policy/entropy", WINDOW + 3)
    if len(values) < 6:
        return None
    recent, earlier = mean(values[-3:]), max(mean(values[i : i + 3]) for i in range(len(values) - 5))
    if recent >= 0.5 * earlier:
        return None
    return f"Entropy fell from {earlier:.3g} to {recent:.3g} nats a token within 20 steps.", _n(earlier, recent)


def clipped(rows: Sequence[Row], run: Run) -> Told | None:
    """H2: mean clip fraction of the last three updates."""
    return _above(rows, "policy/clip_fraction", CLIPPED, "The clip removed the gradient of {:.0%} of the tokens.")


def unexplained(rows: Sequence[Row], run: Run) -> Told | None:
    """H3: explained variance was below 0 at each of ten steps, or in the mean of ten after the fiftieth."""
    values = _last(rows, "value/explained_variance", 10)
    late = len(rows) >= 10 and rows[-10]["step"] > WARM
    if len(values) < 10 or not (max(values) < 0 or (late and mean(values) < 0)):
        return None
    return f"The value model explains nothing: {mean(values):.2f} in ten steps.", {"mean": mean(values)}


def lengthening(rows: Sequence[Row], run: Run) -> Told | None:
    """H4: responses are a fifth longer than in the first five steps, and over half-way from there to the limit."""
    values = _values(rows, "length/mean")
    if len(values) < 10:
        return None
    first, recent = mean(values[:5]), mean(values[-5:])
    if recent <= max(1.2 * first, (first + run.longest) / 2):
        return None
    message = f"Responses grew from {first:.1f} to {recent:.1f} tokens, {run.longest} is the limit."
    return message, _n(first, recent)


def shortening(rows: Sequence[Row], run: Run) -> Told | None:
    """H9: responses have half the length that they had in the first five steps."""
    return _shrunk(rows, "length/mean", SHORT, "Responses shrank from {:.1f} to {:.1f} tokens.")


def flattened(rows: Sequence[Row], run: Run) -> Told | None:
    """H10: entropy is a quarter of what it was in the first five steps, however slowly it fell."""
    return _shrunk(rows, "policy/entropy", FLAT, "Entropy is down from {:.3g} to {:.3g} nats a token.")


def alike(rows: Sequence[Row], run: Run) -> Told | None:
    """H11: a step's responses have half as many distinct 2-grams as in the first five steps."""
    return _shrunk(
        rows, "text/distinct_2", ALIKE, "Of the 2-grams of a step {1:.0%} are distinct, at first {0:.0%} were."
    )


def repetitive(rows: Sequence[Row], run: Run) -> Told | None:
    """H12: a response repeats more of its own 2-grams than in the first five steps."""
    values = _values(rows, "text/repeated_2")
    if len(values) < 8:
        return None
    first, recent = mean(values[:5]), mean(values[-3:])
    if recent - first <= REPEATED:
        return None
    return f"Responses repeat {recent:.0%} of their own 2-grams, at first {first:.0%}.", _n(first, recent)


def far(rows: Sequence[Row], run: Run) -> Told | None:
    """H5: exact KL of the last rollout."""
    return _above(rows, "kl/exact", FARTHEST, "The policy is {:.1f} nats a response away from the reference.", 1)


def overoptimised(rows: Sequence[Row], run: Run) -> Told | None:
    """H6: the held-out score fell twice in a row, by a quarter in all, while the score of the rollouts rose."""
    evaluated = _evaluated(rows)[-3:]
    if len(evaluated) < 3 or evaluated[-1][0] != len(rows) - 1:
        return None
    (place, high), (_, middle), (_, low) = evaluated
    before, now = (mean(_last(rows[: end + 1], "score/mean", 5)) for end in (place, len(rows) - 1))
    if not (high > middle > low and high - low > FALL and now > before):
        return None
    message = f"The held-out score fell from {high:.2f} to {low:.2f}, that of the rollouts rose to {now:.2f}."
    return message, {"before": high, "now": low, "rollouts_before": before, "rollouts_now": now}


def falling(rows: Sequence[Row], run: Run) -> Told | None:
    """H13: two held-out scores in a row are a quarter under the best before them."""
    evaluated = _evaluated(rows)
    if len(evaluated) < 3 or evaluated[-1][0] != len(rows) - 1:
        return None
    scores = [score for _, score in evaluated]
    best, now = max(scores[:-2]), max(scores[-2:])
    if best - now <= FALL:
        return None
    return f"The held-out score was {best:.2f}, and is {scores[-1]:.2f}.", _n(best, scores[-1])


def outlandish(rows: Sequence[Row], run: Run) -> Told | None:
    """H14: the score, mean of three steps or held out, is four standard deviations over that of the first five."""
    values, spread = _values(rows, "score/mean"), _values(rows, "score/sd")[:5]
    if len(values) < 8 or not spread:
        return None
    first, held_out = mean(values[:5]), rows[-1].get("validation/score")
    recent = max(mean(values[-3:]), -math.inf if held_out is None else held_out)
    if recent - first <= FOREIGN * mean(spread):
        return None
    rise = (recent - first) / mean(spread)
    message = f"The score rose from {first:.2f} to {recent:.2f}, {rise:.1f} standard deviations of the first steps'."
    return message, {**_n(first, recent), "sd": mean(spread)}


def _evaluated(rows: Sequence[Row]) -> list[tuple[int, float]]:
    """Places of the rows with a held-out score, and the scores."""
    return [
        (i, float(row["validation/score"])) for i, row in enumerate(rows) if row.get("validation/score") is not None
    ]


def endless(rows: Sequence[Row], run: Run) -> Told | None:
    """H7: fewer responses end themselves than in the first five steps: by a tenth, and by four standard errors."""
    values = _values(rows, "length/eos_rate")
    if len(values) < 10:
        return None
    first, recent = mean(values[:5]), mean(values[-5:])
    pooled = (first + recent) / 2
    error = math.sqrt(2 * pooled * (1 - pooled) / (5 * run.batch))
    if first - recent <= max(0.1, SURE * error):
        return None
    return f"{recent:.0%} of the responses end themselves, at first {first:.0%} did.", _n(first, recent)


def drifted(rows: Sequence[Row], run: Run) -> Told | None:
    """H8: mean approximate KL from the old policy to the new, of the last three updates."""
    return _above(rows, "policy/approx_kl", DRIFTED, "An update moves the policy by {:.3g} nats a token.")


def paid_by_kl(rows: Sequence[Row], run: Run) -> Told | None:
    """NK22: mean KL of three steps is negative beyond its noise, and is over half of the reward."""
    if not rows or (rows[-1].get("reward/kl_share") or 0) <= 0.5:
        return None
    share, told = rows[-1]["reward/kl_share"], _negative(rows[-3:])
    if told is None:
        return None
    message = f"{share:.0%} of the reward comes from negative KL ({told[0]:.3g} ± {told[1]:.2g} nats a response)."
    return message, {"share": share, "kl": told[0], "se": told[1]}


def lowered_price(rows: Sequence[Row], run: Run) -> Told | None:
    """NK23: the coefficient went down after a rollout whose mean KL is negative beyond its noise."""
    if len(rows) < 2 or not (rows[-1].get("kl/coef") or 0) < (rows[-2].get("kl/coef") or 0):
        return None
    told = _negative(rows[-2:-1])
    if told is None:
        return None
    old, new = rows[-2]["kl/coef"], rows[-1]["kl/coef"]
    return f"kl_coef went from {old:.4g} to {new:.4g} on a KL of {told[0]:.3g}.", {"before": old, "now": new}


BANDS: dict[str, tuple[Callable[[Sequence[Row], Run], Told | None], str]] = {
    "H1": (halved_entropy, "lower optimizer.learning_rate, or raise kl_coef: the policy is becoming one answer"),
    "H2": (clipped, "lower optimizer.learning_rate, or take fewer epochs"),
    "H3": (unexplained, "raise critic_warmup, or try another value_optimizer.learning_rate"),
    "H4": (lengthening, "the reward model likes length: see what heed doctor says of it, or raise missing_eos.value"),
    "H5": (far, "raise kl_coef, lower optimizer.learning_rate, or set kl_budget"),
    "H6": (overoptimised, "stop at the best evaluation, or raise kl_coef"),
    "H7": (endless, "raise missing_eos.value"),
    "H8": (drifted, "lower optimizer.learning_rate, or take fewer epochs"),
    "H9": (shortening, "the reward model likes short answers: see what heed doctor says of it before the run"),
    "H10": (flattened, "lower optimizer.learning_rate, or raise kl_coef: the policy has become one answer"),
    "H11": (alike, "raise kl_coef: the policy gives every prompt the same answer"),
    "H12": (repetitive, "the reward model likes repetition: see samples.jsonl, and rank such answers"),
    "H13": (falling, "take the checkpoint of the best evaluation, raise kl_coef, or stop earlier"),
    "H14": (outlandish, "see in samples.jsonl what is paid: nobody ranked such answers; rank some, or raise kl_coef"),
    "NK22": (paid_by_kl, ""),
    "NK23": (lowered_price, ""),
}
"""Every band by its id, with what to do."""


def judge(rows: Sequence[Row], run: Run) -> list[Finding]:
    """The bands that the last row leaves. `rows` are all rows of the run so far."""
    found = []
    for name, (band, hint) in BANDS.items():
        if (told := band(rows, run)) is not None:
            found.append(finding(name, told[0], "warning", hint, **told[1]))
    return found


def replay(rows: Sequence[Row], run: Run) -> list[tuple[int, Finding]]:
    """What `judge` says after each row, with the row's step."""
    return [(row["step"], found) for i, row in enumerate(rows) for found in judge(rows[: i + 1], run)]


COLLAPSE = ("H1", "H4", "H5", "H6", "H7", "H9", "H10", "H11", "H12", "H13", "H14")
"""Bands that say what a policy has become, rather than how it is trained."""
ENDING = 5  # last steps of a run


def at_the_end(rows: Sequence[Row], run: Run) -> list[str]:
    """The bands of collapse that a run's last steps leave: this is the policy that it hands on."""
    last = {found.id for step, found in replay(rows, run) if step > rows[-1]["step"] - ENDING}
    return [name for name in COLLAPSE if name in last]


def frozen(kl_coef: float) -> Finding:
    """NK23, prevented: the controller would follow a KL that the doctor does not believe."""
    message = f"kl_coef stays at {kl_coef:.4g}: the KL of this rollout is not valid, and kl_target would follow it."
    return finding("NK23", message, hint="mend the measurement; the controller goes on by itself after it")


def off_policy(off: float, tolerance: float) -> list[Finding]:
    """T11 from the largest |ratio − 1| of the first minibatch, which is measured before any update of the step."""
    if off <= tolerance:
        return []
    return [finding("T11", f"The first minibatch's probability ratio is off by {off:.3g} before any update.", max=off)]


def _values(rows: Sequence[Row], name: str) -> list[float]:
    return [float(row[name]) for row in rows if row.get(name) is not None]


def _last(rows: Sequence[Row], name: str, count: int) -> list[float]:
    """The last values of a metric, of at most so many rows."""
    return _values(rows[-count:], name)


def _above(rows: Sequence[Row], name: str, limit: float, message: str, count: int = 3) -> Told | None:
    values = _last(rows, name, count)
    if len(values) < count or mean(values) <= limit:
        return None
    return message.format(mean(values)), {"mean": mean(values), "limit": limit}


def _shrunk(rows: Sequence[Row], name: str, share: float, message: str) -> Told | None:
    """The mean of three steps is under a share of that of the first five."""
    values = _values(rows, name)
    if len(values) < 8:
        return None
    first, recent = mean(values[:5]), mean(values[-3:])
    return None if recent >= share * first else (message.format(first, recent), _n(first, recent))


def _negative(rows: Sequence[Row]) -> tuple[float, float] | None:
    """Mean k1 and its standard error, if it is below 0 by more than four of them."""
    means, errors = _values(rows, "kl/k1"), _values(rows, "kl/k1_se")
    if not means or len(means) != len(errors):
        return None
    average, error = mean(means), math.sqrt(sum(one**2 for one in errors)) / len(errors)
    return (average, error) if average < -SURE * error else None


def _n(before: float, now: float) -> dict[str, float]:
    return {"before": before, "now": now}
