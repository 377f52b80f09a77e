"""Win rate at equal length: preferences for the longer response taken out. numpy and the standard library only."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heed.formulas.statistics import Estimate, bootstrap_statistic

PENALTY = 0.01  # of a² + b², halved: moves nothing where both sides win, keeps a finite where one side always wins
NEWTON_STEPS = 25


def length_controlled_win_rate(
    scores_a: ArrayLike,
    scores_b: ArrayLike,
    lengths_a: ArrayLike,
    lengths_b: ArrayLike,
    seed: int = 0,
    resamples: int = 1000,
) -> Estimate:
    """How often a would be preferred to b if their responses were equally long, bootstrapped over prompts.

        P(a wins) = σ(a + b · tanh(Δlength / sd(Δlength)))        reported: σ(a)

    Fitted by maximum likelihood to paired prompts, a tie being half a win. The first two terms of length-controlled
    AlpacaEval (arXiv 2404.04475); `tanh` keeps one very long response from deciding the slope.
    """
    differences = np.subtract(np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64))
    wins = 0.5 * (1 + np.sign(differences))
    longer = np.subtract(np.asarray(lengths_a, dtype=np.float64), np.asarray(lengths_b, dtype=np.float64))
    spread = longer.std()
    longer = np.tanh(longer / spread) if spread else np.zeros_like(longer)

    def at_equal_length(indices: NDArray[np.int64]) -> float:
        return sigmoid(fit_logistic(wins[indices], longer[indices])[0])

    return bootstrap_statistic(at_equal_length, len(wins), seed, resamples)


def fit_logistic(outcomes: NDArray[np.float64], covariate: NDArray[np.float64]) -> tuple[float, float]:
    """(a, b) of P(outcome) = σ(a + b · covariate): Newton's method on the likelihood less ½ · PENALTY · (a² + b²)."""
    design = np.stack([np.ones_like(covariate), covariate], axis=1)
    weights = np.zeros(2)
    for _ in range(NEWTON_STEPS):
        expected = 0.5 * (1 + np.tanh(0.5 * (design @ weights)))  # σ without overflow
        gradient = design.T @ (outcomes - expected) - PENALTY * weights
        curvature = (design * (expected * (1 - expected))[:, None]).T @ design + PENALTY * np.eye(2)
        move = np.linalg.solve(curvature, gradient)
        weights += move
        if np.abs(move).max() < 1e-9:
            break
    return float(weights[0]), float(weights[1])


def sigmoid(x: float) -> float:
    """σ(x) = 1 / (1 + e^−x)."""
    return 0.5 * (1 + math.tanh(0.5 * x))
