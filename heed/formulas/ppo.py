"""PPO's two clipped losses, their un-averaged terms, and what is logged of them.

The `*_terms` are losses per token, 0 in padding. A loop that accumulates gradients gives the `*_loss` functions the
number of counted tokens of its whole minibatch.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heed.formulas.masked import masked_mean, masked_variance


def probability_ratio(
    logprobs: Float[Tensor, "batch response"],
    old_logprobs: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
) -> Float[Tensor, "batch response"]:
    """r = π_θ / π_old of each token, 1 in padding. The difference in nats is clamped to ±20: exp stays finite."""
    return (logprobs - old_logprobs).masked_fill(~mask, 0).clamp(-20, 20).exp()


def policy_terms(
    logprobs: Float[Tensor, "batch response"],
    old_logprobs: Float[Tensor, "batch response"],
    advantages: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
    clip_range: float,
) -> Float[Tensor, "batch response"]:
    """−min( r·A, clip(r, 1−ε, 1+ε)·A ) at each token, 0 in padding; r = π_θ / π_old, ε = clip_range."""
    ratio = probability_ratio(logprobs, old_logprobs, mask)
    advantages = advantages.masked_fill(~mask, 0)
    clipped = ratio.clamp(1 - clip_range, 1 + clip_range)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def clipped_policy_loss(
    logprobs: Float[Tensor, "batch response"],
    old_logprobs: Float[Tensor, "batch response"],
    advantages: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
    clip_range: float,
    tokens: Int[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Clipped surrogate loss, eq. 7 of the PPO paper (arXiv 1707.06347), averaged over response tokens.

        L(θ) = −E[ min( r·A, clip(r, 1−ε, 1+ε)·A ) ]      r = π_θ / π_old,  ε = clip_range

    `logprobs` are nats under the policy being trained and carry its gradient; the others are constants of the rollout.
    `tokens`: the counted tokens of a minibatch of which this is a part; the losses of its parts add up to its own.
    """
    terms = policy_terms(logprobs, old_logprobs, advantages, mask, clip_range)
    return terms.sum() / (mask.sum() if tokens is None else tokens)


def value_terms(
    values: Float[Tensor, "batch response"],
    old_values: Float[Tensor, "batch response"],
    returns: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
    value_clip_range: float,
) -> Float[Tensor, "batch response"]:
    """½ max( (V − R)², (V_c − R)² ) at each token, 0 in padding; V_c = V_old + clip(V − V_old, −ε, ε)."""
    values, old_values, returns = (x.masked_fill(~mask, 0) for x in (values, old_values, returns))
    clipped = old_values + (values - old_values).clamp(-value_clip_range, value_clip_range)
    return 0.5 * torch.maximum((values - returns).square(), (clipped - returns).square())


def clipped_value_loss(
    values: Float[Tensor, "batch response"],
    old_values: Float[Tensor, "batch response"],
    returns: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
    value_clip_range: float,
    tokens: Int[Tensor, ""] | None = None,
) -> Float[Tensor, ""]:
    """Clipped value loss of lm-human-preferences, averaged over response tokens.

        L(φ) = ½ E[ max( (V − R)², (V_c − R)² ) ]      V_c = V_old + clip(V − V_old, −ε, ε),  ε = value_clip_range

    `values` carry the gradient; `old_values` and `returns` are constants of the rollout, in units of the score.
    `tokens`: the counted tokens of a minibatch of which this is a part; the losses of its parts add up to its own.
    """
    terms = value_terms(values, old_values, returns, mask, value_clip_range)
    return terms.sum() / (mask.sum() if tokens is None else tokens)


def approx_kl(
    logprobs: Float[Tensor, "batch response"],
    old_logprobs: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
) -> Float[Tensor, ""]:
    """KL(π_old ‖ π_θ) in nats per token, estimated as the mean of r − 1 − log r. How far the update has moved."""
    log_ratio = (logprobs - old_logprobs).masked_fill(~mask, 0)
    return masked_mean(log_ratio.expm1() - log_ratio, mask)


def clip_fraction(
    logprobs: Float[Tensor, "batch response"],
    old_logprobs: Float[Tensor, "batch response"],
    advantages: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
    clip_range: float,
) -> Float[Tensor, ""]:
    """Share of counted tokens whose gradient the clip has removed: those with clip(r)·A < r·A. 0 while r = 1."""
    ratio = probability_ratio(logprobs, old_logprobs, mask)
    removed = ratio.clamp(1 - clip_range, 1 + clip_range) * advantages < ratio * advantages
    return masked_mean(removed.to(ratio.dtype), mask)


def explained_variance(
    values: Float[Tensor, "batch response"],
    returns: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
) -> Float[Tensor, ""]:
    """1 − Var(R − V) / Var(R) over counted tokens: 1 is a perfect value model, 0 one that only knows a constant.

    Not finite when all returns are equal: there is nothing to explain.
    """
    return 1 - masked_variance(returns - values, mask) / masked_variance(returns, mask)
