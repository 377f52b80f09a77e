"""From scores to rewards, advantages and returns: one number a response becomes one number a token.

All tensors are `[batch, response]`, response-aligned: position t belongs to response token t, and `mask` is True on a
prefix of each row, the first end-of-text token included.
"""

from __future__ import annotations

from typing import Literal, assert_never

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heed.formulas.kl import k1

MissingEosMode = Literal["subtract", "replace", "none"]


def last_counted(mask: Bool[Tensor, "batch time"]) -> Int[Tensor, " batch"]:
    """Index of the last True in each row. Right for either padding side, where `mask.sum(1) - 1` is not."""
    positions = torch.arange(mask.shape[1], device=mask.device)
    return (positions * mask).argmax(dim=1)


def kl_price(
    logprobs: Float[Tensor, "batch response"],
    ref_logprobs: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
    kl_coef: float,
) -> Float[Tensor, "batch response"]:
    """β · (log π − log ref) at each token: what the token costs, to be *subtracted* from the reward. 0 in padding.

    Never clamped and never made absolute: either would hide a sampler that is not the policy.
    """
    return kl_coef * k1(logprobs, ref_logprobs).masked_fill(~mask, 0)


def shaped_rewards(
    logprobs: Float[Tensor, "batch response"],
    ref_logprobs: Float[Tensor, "batch response"],
    scores: Float[Tensor, " batch"],
    mask: Bool[Tensor, "batch response"],
    kl_coef: float,
) -> Float[Tensor, "batch response"]:
    """The reward of each token, InstructGPT eq. 2: the KL price at every token, the score at the last counted one.

        reward_t = −β (log π − log ref)_t + 1[t = last] · score

    Hence Σ_t reward_t = score − β Σ_t k1_t. 0 in padding.
    """
    price = kl_price(logprobs, ref_logprobs, mask, kl_coef)
    return (-price).scatter_add(1, last_counted(mask).unsqueeze(1), scores.unsqueeze(1))


def missing_eos(
    scores: Float[Tensor, " batch"], finished: Bool[Tensor, " batch"], mode: MissingEosMode, value: float
) -> Float[Tensor, " batch"]:
    """Scores after the price of not ending: a response without end-of-text gets score − value, or −value instead.

    `value` is in the unit of the scores, whose standard deviation is 1 after normalisation.
    Source: lm-human-preferences and "The N+ Implementation Details" replace; TRL subtracts.
    """
    if mode == "subtract":
        return torch.where(finished, scores, scores - value)
    if mode == "replace":
        return scores.masked_fill(~finished, -value)
    if mode == "none":
        return scores
    assert_never(mode)


def gae(
    rewards: Float[Tensor, "batch response"],
    values: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
    gamma: float,
    gae_lambda: float,
) -> Float[Tensor, "batch response"]:
    """Generalised advantage estimation (arXiv 1506.02438, eq. 16), 0 in padding.

        δ_t = reward_t + γ V_{t+1} − V_t        A_t = δ_t + γλ A_{t+1}

    `values[:, t]` is the value *before* token t; after the last counted token value and advantage are 0, also when
    the response was cut off by the length limit.
    """
    rewards, values = rewards.masked_fill(~mask, 0), values.masked_fill(~mask, 0)
    next_values = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    deltas = rewards + gamma * next_values - values
    advantages, following = torch.zeros_like(deltas), torch.zeros_like(deltas[:, 0])
    for t in reversed(range(deltas.shape[1])):
        following = deltas[:, t] + gamma * gae_lambda * following
        advantages[:, t] = following
    return advantages


def returns(
    advantages: Float[Tensor, "batch response"], values: Float[Tensor, "batch response"]
) -> Float[Tensor, "batch response"]:
    """R_t = A_t + V_t, the λ-return that the value model learns. Take it from the advantages *before* whitening."""
    return advantages + values
