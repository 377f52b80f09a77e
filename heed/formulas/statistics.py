"""Estimates with intervals, and agreement between labelers. Standard library and numpy only: the labeling page uses it.

Intervals are 95 %. Nothing is reported without its interval and the number it comes from.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.959963984540054  # Φ(Z95) = 0.975


@dataclass(frozen=True)
class Estimate:
    """A figure, its 95 % interval, and the number of independent things (prompts, trials) that it comes from."""

    estimate: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """For JSON, which has no NaN: what is not finite becomes None."""
        figures = {"estimate": self.estimate, "low": self.low, "high": self.high}
        return {**{k: v if math.isfinite(v) else None for k, v in figures.items()}, "n": self.n}


def wilson(successes: int | float, n: int) -> Estimate:
    """A share and its Wilson score interval; right near 0 and 1 and for small n. Half successes (ties) are welcome.

        (p + z²/2n ± z √(p(1−p)/n + z²/4n²)) / (1 + z²/n)        p = successes / n

    With n = 0 nothing is known: NaN in [0, 1].
    """
    if n == 0:
        return Estimate(math.nan, 0.0, 1.0, 0)
    share, spread = successes / n, Z95**2 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    low = 0.0 if successes == 0 else centre - half  # exactly, whatever rounding says
    high = 1.0 if successes == n else centre + half
    return Estimate(share, low, high, n)


def resampled_indices(n: int, seed: int, resamples: int) -> Iterator[NDArray[np.int64]]:
    """`resamples` draws of n indices out of n, with replacement."""
    generator = np.random.default_rng(seed)
    return (generator.integers(n, size=n) for _ in range(resamples))


def outer_quantiles(draws: ArrayLike, n: int) -> NDArray[np.float64]:
    """The ends of a 95 % bootstrap interval from `draws` `[resamples, ...]` of n things: `[2, ...]`.

    Plain 2.5 % and 97.5 % are too narrow for small n, as a resample's variance is (n − 1)/n of what it should be and
    normal quantiles stand for t's. Hesterberg (2015, arXiv 1411.5279) takes instead the quantiles at

        Φ(−√(n/(n−1)) · t)        t: 97.5 % of Student's distribution with n − 1 degrees of freedom

    which for the mean of normal values is the t interval. For n = 128 that is 2.35 %, for n = 8 0.57 %; of one or two
    things it is the range.
    """
    outside = 0.0
    if n > 2:
        wide = math.sqrt(n / (n - 1)) * _student(n - 1)
        outside = 0.5 * math.erfc(wide / math.sqrt(2))
    return np.quantile(np.asarray(draws, dtype=np.float64), [outside, 1 - outside], axis=0)


def bootstrap_statistic(
    statistic: Callable[[NDArray[np.int64]], float], n: int, seed: int, resamples: int = 2000, raised: bool = False
) -> Estimate:
    """`statistic` of indices 0 … n−1 and its percentile bootstrap interval.

    The index must run over independent things: over prompts, not over the pairs or tokens of a prompt. Resamples on
    which the statistic is undefined (NaN) are left out.

    `raised`: a figure of at least 0 that noise can only raise, as sums of absolute values are. The sample's lies above
    the truth about as far as resamples' lie above the sample's, so the lower end is twice that lower, though not under
    0; the upper end stays.
    """
    draws = np.array([statistic(indices) for indices in resampled_indices(n, seed, resamples)])
    defined, estimate = draws[~np.isnan(draws)], float(statistic(np.arange(n)))
    low, high = outer_quantiles(defined, n) if len(defined) else (math.nan, math.nan)
    if raised and len(defined):
        low = max(0.0, min(low, low - 2 * (float(defined.mean()) - estimate)))
    return Estimate(estimate, float(low), float(high), n)


def bootstrap_mean(values: ArrayLike, seed: int, resamples: int = 2000) -> Estimate:
    """The mean of independent values, with a bootstrap interval."""
    array = np.asarray(values, dtype=np.float64)
    return bootstrap_statistic(lambda indices: float(array[indices].mean()), len(array), seed, resamples)


def bootstrap_difference(a: ArrayLike, b: ArrayLike, seed: int, resamples: int = 2000) -> Estimate:
    """mean(a) − mean(b) for *paired* values (the same prompts in the same order), with a bootstrap interval.

    Much narrower than the difference of two separate intervals when prompts differ more than models do.
    """
    differences = np.subtract(np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64))
    return bootstrap_mean(differences, seed, resamples)


def win_rate(scores_a: ArrayLike, scores_b: ArrayLike, seed: int = 0, resamples: int = 2000) -> Estimate:
    """How often a is preferred to b, prompt by prompt: mean of 1[a > b] + ½·1[a = b], bootstrapped over prompts."""
    differences = np.subtract(np.asarray(scores_a, dtype=np.float64), np.asarray(scores_b, dtype=np.float64))
    return bootstrap_mean(0.5 * (1 + np.sign(differences)), seed, resamples)


def average_ranks(values: ArrayLike) -> NDArray[np.float64]:
    """Ranks from 1, smallest first; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Rank correlation ρ: Pearson's correlation of the average ranks. NaN when one side is constant."""
    ranks_a, ranks_b = (ranks - ranks.mean() for ranks in (average_ranks(a), average_ranks(b)))
    scale = math.sqrt(float((ranks_a**2).sum() * (ranks_b**2).sum()))
    return float((ranks_a * ranks_b).sum()) / scale if scale else math.nan


def agreeing_pairs(ranks_a: Sequence[int], ranks_b: Sequence[int]) -> tuple[int, int]:
    """(pairs that two labelers order alike, pairs that both order strictly) among one prompt's responses."""
    signs_a, signs_b = (np.sign(np.subtract.outer(ranks, ranks)) for ranks in (ranks_a, ranks_b))
    products = (signs_a * signs_b)[np.triu_indices(len(ranks_a), k=1)]
    return int((products > 0).sum()), int((products != 0).sum())


def cohen_kappa(labels_a: Sequence[Hashable], labels_b: Sequence[Hashable]) -> float:
    """κ = (observed − chance) / (1 − chance) agreement of two labelers on the same items; NaN when chance is 1."""
    n, labels = len(labels_a), set(labels_a) | set(labels_b)
    observed = sum(a == b for a, b in zip(labels_a, labels_b, strict=True)) / n
    chance = sum(labels_a.count(label) * labels_b.count(label) for label in labels) / n**2
    return (observed - chance) / (1 - chance) if chance < 1 else math.nan


def _student(degrees: int) -> float:
    """97.5 % of Student's distribution, by Fisher and Cornish's expansion around the normal one: within 0.01 from four
    degrees on, 0.2 too low at two."""
    z = Z95
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return z + math.fsum(term / degrees**power for power, term in enumerate(terms, start=1))
