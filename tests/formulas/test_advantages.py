"""Rewards, the missing end of text, GAE and returns."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heed.formulas.advantages import gae, kl_price, last_counted, missing_eos, returns, shaped_rewards


def rows(*numbers: list[float]) -> Tensor:
    return torch.tensor(numbers, dtype=torch.float64)


def counted(*lengths: int, time: int) -> Tensor:
    return torch.arange(time) < torch.tensor(lengths).unsqueeze(1)


REWARDS, VALUES = rows([0.1, -0.2, 1.0]), rows([0.5, 0.4, 0.3])
# δ = .1 + .4 − .5 = 0,  −.2 + .3 − .4 = −.3,  1 − .3 = .7
GAE_BY_HAND = {
    0.0: [0.0, -0.3, 0.7],
    0.95: [0.95 * 0.365, -0.3 + 0.95 * 0.7, 0.7],  # .34675, .365, .7
    1.0: [0.4, 0.4, 0.7],
}


@pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
def test_gae_and_returns_by_hand(gae_lambda: float) -> None:
    advantages = gae(REWARDS, VALUES, counted(3, time=3), 1.0, gae_lambda)
    expected = GAE_BY_HAND[gae_lambda]
    assert_close(advantages, rows(expected))
    assert_close(returns(advantages, VALUES), rows([expected[0] + 0.5, expected[1] + 0.4, expected[2] + 0.3]))


def test_gae_with_discount_by_hand() -> None:
    # δ = 1 + .5·1 − .5 = 1,  0 − .5 − 1 = −1.5,  2 + 1 = 3; γλ = 1/8
    advantages = gae(rows([1, 0, 2]), rows([0.5, 1, -1]), counted(3, time=3), gamma=0.5, gae_lambda=0.25)
    assert_close(advantages, rows([1 + (-1.5 + 3 / 8) / 8, -1.5 + 3 / 8, 3]))


def test_gae_ignores_padding(nonsense: float) -> None:
    rewards = rows([0.1, -0.2, 1.0, nonsense, nonsense])
    values = rows([0.5, 0.4, 0.3, nonsense, nonsense])
    advantages = gae(rewards, values, counted(3, time=5), 1.0, 0.95)
    assert_close(advantages, rows([*GAE_BY_HAND[0.95], 0.0, 0.0]))


def test_gae_of_mixed_lengths_is_the_sum_of_discounted_deltas() -> None:
    """A_t = Σ_l (γλ)^l δ_{t+l}, row by row, in Python."""
    generator = torch.Generator().manual_seed(0)
    rewards, values = torch.randn(2, 4, 6, generator=generator, dtype=torch.float64).unbind()
    lengths, gamma, gae_lambda = [6, 1, 3, 4], 0.9, 0.8
    advantages = gae(rewards, values, counted(*lengths, time=6), gamma, gae_lambda)
    for b, length in enumerate(lengths):
        r, v = rewards[b].tolist(), [*values[b, :length].tolist(), 0.0]
        for t in range(6):
            deltas = [r[s] + gamma * v[s + 1] - v[s] for s in range(t, length)]
            expected = sum((gamma * gae_lambda) ** k * delta for k, delta in enumerate(deltas))
            assert advantages[b, t].item() == pytest.approx(expected, abs=1e-12)


def test_lambda_1_returns_are_the_reward_to_go_whatever_the_values() -> None:
    generator = torch.Generator().manual_seed(0)
    values = 10 * torch.randn(1, 3, generator=generator, dtype=torch.float64)
    found = returns(gae(REWARDS, values, counted(3, time=3), 1.0, 1.0), values)
    assert_close(found, rows([0.1 - 0.2 + 1.0, -0.2 + 1.0, 1.0]))


def test_gae_leaves_its_arguments_alone() -> None:
    rewards, values = REWARDS.clone(), VALUES.clone()
    gae(rewards, values, counted(2, time=3), 1.0, 0.95)
    assert torch.equal(rewards, REWARDS) and torch.equal(values, VALUES)


def test_last_counted_for_either_padding_side_and_a_hole() -> None:
    mask = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 1, 0, 1], [0, 1, 1, 0]]).bool()
    assert last_counted(mask).tolist() == [1, 3, 3, 0, 3, 2]


LOGPROBS, REF_LOGPROBS = [-1.0, -2.0, -0.5], [-1.2, -1.5, -0.6]  # k1 = .2, −.5, .1


def test_kl_price_by_hand(nonsense: float) -> None:
    logprobs, ref_logprobs = rows([*LOGPROBS, nonsense]), rows([*REF_LOGPROBS, 0.0])
    price = kl_price(logprobs, ref_logprobs, counted(3, time=4), kl_coef=0.1)
    assert_close(price, rows([0.02, -0.05, 0.01, 0.0]))
    assert kl_price(rows([0.0]), rows([-50.0]), counted(1, time=1), 1.0).item() == 50  # never clamped


def test_shaped_rewards_by_hand(nonsense: float) -> None:
    logprobs, ref_logprobs = rows([*LOGPROBS, nonsense]), rows([*REF_LOGPROBS, nonsense])
    scores = torch.tensor([0.8], dtype=torch.float64)
    rewards = shaped_rewards(logprobs, ref_logprobs, scores, counted(3, time=4), kl_coef=0.1)
    assert_close(rewards, rows([-0.02, 0.05, 0.79, 0.0]))
    assert rewards.sum().item() == pytest.approx(0.8 - 0.1 * (0.2 - 0.5 + 0.1))
    advantages = gae(rewards, rows([0.5, 0.4, 0.3, nonsense]), counted(3, time=4), 1.0, 0.95)
    assert_close(advantages, rows([0.274725, 0.4155, 0.49, 0.0]))


def test_the_score_lands_on_the_last_counted_token() -> None:
    """End of text in the first slot, in the last one, and missing (the whole row counts)."""
    nothing, scores = torch.zeros(3, 4, dtype=torch.float64), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    rewards = shaped_rewards(nothing, nothing, scores, counted(1, 4, 2, time=4), kl_coef=0.1)
    assert_close(rewards, rows([1, 0, 0, 0], [0, 0, 0, 2], [0, 3, 0, 0]))


def test_rewards_add_up_to_the_score_minus_the_price() -> None:
    generator = torch.Generator().manual_seed(0)
    logprobs, ref_logprobs = torch.randn(2, 5, 6, generator=generator, dtype=torch.float64).unbind()
    scores, mask = torch.randn(5, generator=generator, dtype=torch.float64), counted(6, 1, 2, 5, 3, time=6)
    rewards = shaped_rewards(logprobs, ref_logprobs, scores, mask, kl_coef=0.3)
    for b, length in enumerate([6, 1, 2, 5, 3]):
        k1 = logprobs[b, :length].sum() - ref_logprobs[b, :length].sum()
        assert_close(rewards[b].sum(), scores[b] - 0.3 * k1)


def test_a_policy_equal_to_the_reference_pays_nothing() -> None:
    logprobs = rows(LOGPROBS)
    assert kl_price(logprobs, logprobs, counted(3, time=3), 0.1).abs().max() == 0


def test_missing_eos_by_hand() -> None:
    scores, finished = torch.tensor([2.0, 2.0, -3.0]), torch.tensor([True, False, False])
    assert missing_eos(scores, finished, "subtract", 1.5).tolist() == [2.0, 0.5, -4.5]
    assert missing_eos(scores, finished, "replace", 1.5).tolist() == [2.0, -1.5, -1.5]
    assert missing_eos(scores, finished, "none", 1.5).tolist() == [2.0, 2.0, -3.0]
    assert scores.tolist() == [2.0, 2.0, -3.0]


def test_the_missing_eos_penalty_is_paid_once() -> None:
    nothing = torch.zeros(1, 3, dtype=torch.float64)
    scores = missing_eos(torch.tensor([2.0], dtype=torch.float64), torch.tensor([False]), "subtract", 0.5)
    assert shaped_rewards(nothing, nothing, scores, counted(3, time=3), 0.1).sum().item() == 1.5


def test_arithmetic_stays_in_the_callers_precision() -> None:
    single = gae(REWARDS.float(), VALUES.float(), counted(3, time=3), 1.0, 0.95)
    assert single.dtype == torch.float32
    assert gae(REWARDS, VALUES, counted(3, time=3), 1.0, 0.95).dtype == torch.float64
    assert math.isclose(single[0, 0].item(), 0.34675, abs_tol=1e-6)
