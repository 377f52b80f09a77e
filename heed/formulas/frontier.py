"""Score against KL: what the best policy at a KL could reach, and the sign that a proxy was over-optimised.

Standard library and numpy only: the report uses it. KL is in nats per response.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heed.formulas.statistics import Estimate, bootstrap_mean

ENOUGH = 30.0  # samples that a tilted mean must be worth
WEAKEST, STEPS_A_HALVING = (
    8.0,
    4,
)  # β of the first point in standard deviations of the scores; points until it is halved
EVALUATIONS = 3  # in a row, for the alarm


@dataclass(frozen=True)
class Tilted:
    """The policy ∝ ref·e^{r/β}, prompt by prompt, seen through samples of ref: arrays of [prompts]."""

    worth: NDArray[np.float64]
    kl: NDArray[np.float64]
    effective: NDArray[np.float64]  # samples that the weighted mean is worth


@dataclass(frozen=True)
class CeilingPoint:
    """The best mean score that any policy can have at a mean KL, with the β that buys it."""

    beta: float
    kl: float
    score: Estimate
    effective: float


def tilted(scores: ArrayLike, beta: float, worth: ArrayLike | None = None) -> Tilted:
    """Expected score and KL of π* ∝ ref·e^{r/β} from the scores [prompts, samples] of responses drawn from ref.

        w = e^{r/β}      E[r] = Σwr / Σw      KL(π* ‖ ref) = E[r]/β − log mean w      effective = (Σw)² / Σw²

    With `worth` another judge says what a response is worth; the tilt, and so the KL, is by `scores` all the same.
    """
    rewards = np.asarray(scores, dtype=np.float64)
    tilt = rewards / beta
    highest = tilt.max(axis=1, keepdims=True)  # taken out before exp, put back in the logarithm
    weights = np.exp(tilt - highest)
    total = weights.sum(axis=1)
    log_mean = np.log(weights.mean(axis=1)) + highest[:, 0]
    kl = (weights * tilt).sum(axis=1) / total - log_mean
    paid = rewards if worth is None else np.asarray(worth, dtype=np.float64)
    return Tilted((weights * paid).sum(axis=1) / total, kl, total**2 / (weights**2).sum(axis=1))


def ceiling(
    scores: ArrayLike, worth: ArrayLike | None = None, enough: float = ENOUGH, seed: int = 0
) -> list[CeilingPoint]:
    """The attainable ceiling from a weak tilt to the strongest that the samples can show.

    It ends where the effective sample size is under `enough`: its harmonic mean over prompts, as the variance of the
    mean over prompts is that of prompts with so many samples each. Empty where every response of a prompt scores alike.
    """
    rewards = np.asarray(scores, dtype=np.float64)
    spread = float(np.sqrt(rewards.var(axis=1).mean()))
    points: list[CeilingPoint] = []
    while spread > 0:
        beta = WEAKEST * spread * 0.5 ** (len(points) / STEPS_A_HALVING)
        found = tilted(rewards, beta, worth)
        effective = float(1 / (1 / found.effective).mean())
        if effective < enough:
            break
        points.append(CeilingPoint(beta, float(found.kl.mean()), bootstrap_mean(found.worth, seed), effective))
        if len(points) > 1 and points[-1].kl - points[-2].kl < 1e-6 * points[-1].kl:
            break  # the best responses have all of the weight: a stronger tilt changes nothing
    return points


def over_optimised(proxy: Sequence[float], gold: Sequence[float], margin: float = 0.0) -> int | None:
    """The first evaluation (from 0) up to which the proxy rose while gold fell, each over three evaluations in a row.

    `margin` is how far gold must have fallen in all, so that noise does not raise the alarm. None: it never fired.
    """
    for end in range(EVALUATIONS - 1, min(len(proxy), len(gold))):
        window = slice(end - EVALUATIONS + 1, end + 1)
        rose, fell = np.diff(proxy[window]), -np.diff(gold[window])
        if (rose > 0).all() and (fell > 0).all() and fell.sum() > margin:
            return end
    return None
