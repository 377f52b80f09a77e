"""Sums, means, variances and whitening over the positions that a mask counts.

Padding is filled before any arithmetic, never multiplied away: 0·NaN and 0·∞ are NaN, in the gradient too.
A mean over no position at all is NaN on purpose, and a loss that is not finite stops the run.
"""

from __future__ import annotations

from typing import Literal, assert_never

from jaxtyping import Bool, Float
from torch import Tensor

AggregateMode = Literal["token_mean", "sequence_mean", "sequence_sum", "constant_length"]


def masked_sum(x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """Σ x over the positions where `mask` is True."""
    return x.masked_fill(~mask, 0).sum()


def masked_mean(x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"]) -> Float[Tensor, ""]:
    """μ = Σ x / n over the n positions where `mask` is True; NaN when there is none."""
    return masked_sum(x, mask) / mask.sum()


def masked_variance(
    x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"], unbiased: bool = False
) -> Float[Tensor, ""]:
    """Variance over the n positions where `mask` is True.

        σ² = Σ (x − μ)² / n

    Divided by n − 1 (Bessel) when `unbiased`, which is NaN for a single position.
    """
    deviations = x.masked_fill(~mask, 0) - masked_mean(x, mask)
    return masked_sum(deviations.square(), mask) / (mask.sum() - int(unbiased))


def masked_whiten(
    x: Float[Tensor, "*shape"], mask: Bool[Tensor, "*shape"], shift_mean: bool = True, unbiased: bool = False
) -> Float[Tensor, "*shape"]:
    """Scale to variance 1 and, with `shift_mean`, shift to mean 0; padding becomes 0.

        (x − μ) / √(σ² + 1e-8),   + μ when the mean is kept

    Source: `whiten` of lm-human-preferences (biased variance; TRL uses the unbiased one). For advantages the mean is
    shifted: it is what keeps a small mismatch of sampler and scorer from drifting. For rewards it must not be.
    """
    mean, variance = masked_mean(x, mask), masked_variance(x, mask, unbiased)
    whitened = (x.masked_fill(~mask, 0) - mean) * (variance + 1e-8).rsqrt()
    return (whitened if shift_mean else whitened + mean).masked_fill(~mask, 0)


def aggregate(
    losses: Float[Tensor, "batch time"], mask: Bool[Tensor, "batch time"], mode: AggregateMode
) -> Float[Tensor, ""]:
    """One loss from a loss per token. For rows [1] and [2, 2, 2], padded to three:

        token_mean       Σ losses / counted tokens               7/4    every token weighs the same
        sequence_mean    mean over rows of the row's mean        3/2    every response weighs the same
        sequence_sum     mean over rows of the row's sum         7/2    the log-probability of a response is a sum
        constant_length  Σ losses / (batch · time)               7/6    Dr. GRPO's constant normaliser

    With microbatches, sum the terms and divide by the *global* count: a mean of means turns 7/4 into 3/2.
    """
    counted = losses.masked_fill(~mask, 0)
    if mode == "token_mean":
        return counted.sum() / mask.sum()
    if mode == "sequence_mean":
        return (counted.sum(dim=1) / mask.sum(dim=1)).mean()
    if mode == "sequence_sum":
        return counted.sum(dim=1).mean()
    if mode == "constant_length":
        return counted.sum() / mask.numel()
    assert_never(mode)
