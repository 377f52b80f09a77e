"""Sums, means, variances and whitening over the positions that a mask counts.

Padding is filled before any arithmetic, never multiplied away: 0·NaN and 0·∞ are NaN, in the gradient too.
A mean over no position at all is NaN on purpose, and a loss that is not finite stops the run.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


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
