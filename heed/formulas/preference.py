"""Reward-model losses over people's preferences, the reward model's accuracy, calibration and normalisation.

Scores are raw, one a response, in the reward model's own unit: only differences within a prompt mean anything. A
batch of rankings is flat: `ranks[i]` is 1 for its prompt's best response, `segments[i]` (0, 1, …) numbers the prompt.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional


def ranking_pairs(
    ranks: Int[Tensor, " responses"], segments: Int[Tensor, " responses"]
) -> tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """Indices (better, worse) of all pairs of one prompt with a strict order. Ties are dropped (InstructGPT C.2)."""
    by_prompt, sizes = segments.argsort(stable=True), segments.bincount()
    partners = sizes[segments]  # of each response: how many the prompt has, itself included
    better = torch.arange(len(segments), device=segments.device).repeat_interleave(partners)
    nth = torch.arange(len(better), device=segments.device) - (partners.cumsum(0) - partners)[better]
    worse = by_prompt[(sizes.cumsum(0) - sizes)[segments[better]] + nth]
    strict = ranks[better] < ranks[worse]
    return better[strict], worse[strict]


def mean_per_prompt(
    pair_losses: Float[Tensor, " pairs"], pair_segments: Int[Tensor, " pairs"]
) -> Float[Tensor, " prompts"]:
    """The mean over the pairs of each prompt, in the order of segment numbers; a prompt without pairs has no entry."""
    pairs = pair_segments.bincount()
    sums = pair_losses.new_zeros(len(pairs)).index_add(0, pair_segments, pair_losses)
    return sums[pairs > 0] / pairs[pairs > 0]


def ranking_terms(
    scores: Float[Tensor, " responses"], ranks: Int[Tensor, " responses"], segments: Int[Tensor, " responses"]
) -> Float[Tensor, " prompts"]:
    """The ranking loss of each prompt that has a strict pair, InstructGPT eq. 1, in nats per comparison.

        1/(pairs of the prompt) Σ_{i better than j} −log σ(s_i − s_j)

    The loss of a batch is their mean: every prompt weighs the same, whatever its K and its ties. For microbatches, sum
    the terms and divide by the number of such prompts in the whole batch.
    """
    better, worse = ranking_pairs(ranks, segments)
    return mean_per_prompt(-functional.logsigmoid(scores[better] - scores[worse]), segments[better])


def centring_terms(
    scores: Float[Tensor, " responses"], ranks: Int[Tensor, " responses"], segments: Int[Tensor, " responses"]
) -> Float[Tensor, " prompts"]:
    """The centring loss of each prompt that has a strict pair: mean over its pairs of (s_better + s_worse)².

    Preferences fix scores up to a constant only; a small weight on this keeps the constant near 0 (arXiv 2312.09244).
    """
    better, worse = ranking_pairs(ranks, segments)
    return mean_per_prompt((scores[better] + scores[worse]).square(), segments[better])


def ranking_accuracy(
    scores: Float[Tensor, " responses"], ranks: Int[Tensor, " responses"], segments: Int[Tensor, " responses"]
) -> tuple[Float[Tensor, " pairs"], Int[Tensor, " pairs"], Int[Tensor, " pairs"]]:
    """1 for each pair that the scores order as people did, ½ for equal scores, 0 otherwise; and the (better, worse)."""
    better, worse = ranking_pairs(ranks, segments)
    margins = scores[better] - scores[worse]
    return 0.5 * (1 + margins.sign()), better, worse


def normalisation(
    demo_scores: Float[Tensor, " demonstrations"] | None, reference_scores: Float[Tensor, " samples"]
) -> tuple[float, float]:
    """(gain, bias) of the normalised score gain · s + bias: one unit is a standard deviation, 0 is as good as people.

        gain = 1 / sd(reference samples)        bias = −gain · mean(demonstrations, or reference samples if None)

    The bias is InstructGPT's (C.2), the gain Ziegler et al.'s (biased sd), so that β means the same for every reward
    model. Raises ZeroDivisionError when all reference samples score the same.
    """
    gain = 1 / float(reference_scores.std(correction=0))
    centre = reference_scores if demo_scores is None else demo_scores
    return gain, -gain * float(centre.mean())


def expected_calibration_error(
    probabilities: Float[Tensor, " pairs"], outcomes: Float[Tensor, " pairs"], bins: int = 10
) -> Float[Tensor, ""]:
    """Σ_b (n_b / n) · |mean outcome − mean probability| over equal-width bins [b/bins, (b+1)/bins).

    For a reward model: probabilities σ(|s_a − s_b|) of the response that it prefers, outcomes 1 where people agree.
    """
    index = (probabilities * bins).long().clamp(max=bins - 1)
    gaps = probabilities.new_zeros(bins).index_add(0, index, outcomes - probabilities)
    return gaps.abs().sum() / len(probabilities)


def best_temperature(margins: Float[Tensor, " pairs"], limit: float = 100.0) -> float:
    """The T in [1/limit, limit] that minimises the loss −mean log σ(margin / T), margins = s_better − s_worse.

    T > 1: the scores are too sure of themselves. At the limits the optimum lies outside: every pair is right, or the
    wrong ones weigh as much as the right ones. Bisection on 1/T, in which the loss is convex.
    """
    margins, low, high = margins.double(), 1 / limit, limit
    for _ in range(50):
        middle = math.sqrt(low * high)
        slope = -(margins * torch.sigmoid(-middle * margins)).mean()
        low, high = (middle, high) if slope < 0 else (low, middle)
    return 1 / math.sqrt(low * high)
