"""The clipped losses, their terms, and what is logged of an update."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heed.formulas.logprobs import token_logprobs
from heed.formulas.masked import masked_mean
from heed.formulas.ppo import (
    approx_kl,
    clip_fraction,
    clipped_policy_loss,
    clipped_value_loss,
    explained_variance,
    policy_terms,
    probability_ratio,
    value_terms,
)


def row(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def gradient(y: Tensor, x: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(y, x)
    return result


THREE_OF_FOUR = torch.tensor([[True, True, True, False]])


def test_policy_loss_by_hand(nonsense: float) -> None:
    # ratios 1, e^0.5 ≈ 1.65 (over 1.2), e^−0.5 ≈ 0.61 (under 0.8); the last token is padding full of nonsense
    logprobs = row(-1.0, -0.5, -1.5, nonsense).requires_grad_()
    old = row(-1.0, -1.0, -1.0, 0.0)
    advantages = row(2.0, 1.0, -1.0, nonsense)
    # min(1·2, 1·2) = 2     min(1.65, 1.2) = 1.2     min(−0.61, −0.8) = −0.8
    assert_close(policy_terms(logprobs, old, advantages, THREE_OF_FOUR, 0.2), row(-2.0, -1.2, 0.8, 0.0))
    loss = clipped_policy_loss(logprobs, old, advantages, THREE_OF_FOUR, clip_range=0.2)
    assert loss.item() == pytest.approx(-(2.0 + 1.2 - 0.8) / 3)
    assert_close(gradient(loss, logprobs), row(-2.0 / 3, 0.0, 0.0, 0.0))  # both others are clipped


@pytest.mark.parametrize(
    ("advantage", "ratio", "loss", "slope"),
    [
        (1.0, 1.3, -1.2, 0.0),  # better and already likelier: no more
        (1.0, 0.5, -0.5, -1.0),  # better but less likely: back
        (-1.0, 1.3, 1.3, 1.0),  # worse but likelier: back
        (-1.0, 0.5, 0.8, 0.0),  # worse and already less likely: no more
        (-2.0, 1.1, 2.2, 2.0),  # inside the range
    ],
)
def test_clip_table(advantage: float, ratio: float, loss: float, slope: float) -> None:
    r = row(ratio).requires_grad_()
    found = clipped_policy_loss(r.log(), row(0.0), row(advantage), torch.tensor([[True]]), 0.2)
    assert found.item() == pytest.approx(loss)
    assert gradient(found, r).item() == pytest.approx(slope, abs=1e-12)


def test_at_ratio_1_the_gradient_is_reinforces() -> None:
    """∇L = −mean(A ∇log π), nothing is clipped, and nothing has moved."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64).requires_grad_()
    tokens = torch.randint(5, (3, 4), generator=generator)
    advantages = torch.randn(3, 4, generator=generator, dtype=torch.float64)
    mask = torch.arange(4) < torch.tensor([[4], [1], [3]])
    logprobs = token_logprobs(logits, tokens)
    old = logprobs.detach()
    found = torch.autograd.grad(clipped_policy_loss(logprobs, old, advantages, mask, 0.2), logits, retain_graph=True)
    reinforce = -(advantages * logprobs)[mask].sum() / 8
    assert_close(found[0], gradient(reinforce, logits))
    assert clip_fraction(old, old, advantages, mask, 0.2).item() == 0
    assert approx_kl(old, old, mask).item() == 0


def test_probability_ratio_by_hand_and_bounded(nonsense: float) -> None:
    ratio = probability_ratio(row(-1.0, -0.5, 999.0, nonsense), row(-1.0, -1.0, -1.0, 1.0), THREE_OF_FOUR)
    assert_close(ratio, row(1.0, math.exp(0.5), math.exp(20), 1.0))
    assert probability_ratio(row(-999.0), row(0.0), torch.tensor([[True]])).item() == pytest.approx(math.exp(-20))


def test_padding_reaches_no_value_and_no_gradient(nonsense: float) -> None:
    new, old = row(-1.0, -0.8, -1.5), row(-1.1, -0.9, -1.4)
    advantages, mask = row(2.0, -1.0, 0.5), torch.ones(1, 3).bool()
    pad = row(nonsense)
    padded_new = torch.cat([new, pad], dim=1).requires_grad_()
    padded_old, padded_advantages = (torch.cat([x, pad], dim=1) for x in (old, advantages))
    new.requires_grad_()
    for loss in (clipped_policy_loss, clipped_value_loss):
        alone = loss(new, old, advantages, mask, 0.2)
        together = loss(padded_new, padded_old, padded_advantages, THREE_OF_FOUR, 0.2)
        assert_close(together, alone)
        assert_close(gradient(together, padded_new), torch.cat([gradient(alone, new), row(0.0)], dim=1))
    measured = [
        (approx_kl(new, old, mask), approx_kl(padded_new, padded_old, THREE_OF_FOUR)),
        (
            clip_fraction(new, old, advantages, mask, 0.01),
            clip_fraction(padded_new, padded_old, padded_advantages, THREE_OF_FOUR, 0.01),
        ),
        (explained_variance(new, old, mask), explained_variance(padded_new, padded_old, THREE_OF_FOUR)),
    ]
    for alone, together in measured:
        assert_close(together, alone)


def test_value_loss_by_hand(nonsense: float) -> None:
    # clipped .5 → .7: max(.8², .5²) = .64 · moved .1: .3² both · moved toward R from −1: clip −.8, max(.5², .8²) = .64
    values = row(1.0, 0.6, -0.5, nonsense).requires_grad_()
    old, targets = row(0.5, 0.5, -1.0, nonsense), row(0.2, 0.9, 0.0, nonsense)
    terms = value_terms(values, old, targets, THREE_OF_FOUR, value_clip_range=0.2)
    assert_close(terms, row(0.5 * 0.64, 0.5 * 0.09, 0.5 * 0.64, 0.0))
    loss = clipped_value_loss(values, old, targets, THREE_OF_FOUR, value_clip_range=0.2)
    assert loss.item() == pytest.approx(0.5 * (0.64 + 0.09 + 0.64) / 3)
    # the third has moved enough toward its return: no gradient until the next rollout
    assert_close(gradient(loss, values), row(0.8 / 3, -0.3 / 3, 0.0, 0.0))


def test_value_clip_golden_number() -> None:
    loss = clipped_value_loss(row(1.0), row(0.5), row(0.2), torch.tensor([[True]]), 0.2)
    assert loss.item() == pytest.approx(0.5 * max((1.0 - 0.2) ** 2, (0.7 - 0.2) ** 2))  # .32


def test_value_loss_without_a_move_is_half_the_squared_error() -> None:
    old, targets = row(1.0, -2.0), row(0.5, 1.0)
    loss = clipped_value_loss(old, old, targets, torch.ones(1, 2).bool(), 0.2)
    assert loss.item() == pytest.approx(0.5 * (0.25 + 9.0) / 2)


def test_microbatches_of_any_size_give_the_same_loss_and_gradient() -> None:
    """Sum of terms over the global count, for rows of 1, 3, 2 and 2 tokens; a mean of means does not."""
    generator = torch.Generator().manual_seed(0)
    new, old, advantages = (0.3 * torch.randn(3, 4, 3, generator=generator, dtype=torch.float64)).unbind()
    mask = torch.arange(3) < torch.tensor([[1], [3], [2], [2]])
    new.requires_grad_()
    for terms, loss in ((policy_terms, clipped_policy_loss), (value_terms, clipped_value_loss)):
        whole = loss(new, old, advantages, mask, 0.2)
        for size in (1, 2, 4):
            parts = [terms(new[i], old[i], advantages[i], mask[i], 0.2).sum() for i in torch.arange(4).split(size)]
            accumulated = torch.stack([gradient(part / mask.sum(), new) for part in parts]).sum(dim=0)
            assert_close(accumulated, gradient(loss(new, old, advantages, mask, 0.2), new), atol=1e-12, rtol=0)
            assert_close(torch.stack(parts).sum() / mask.sum(), whole)
            rows = torch.arange(4).split(size)
            given = [loss(new[i], old[i], advantages[i], mask[i], 0.2, tokens=mask.sum()) for i in rows]
            assert_close(torch.stack(given).sum(), whole)
            assert_close(gradient(torch.stack(given).sum(), new), accumulated, atol=1e-12, rtol=0)
    ones, twos = row(1.0, 0.0, 0.0), row(2.0, 2.0, 2.0)
    losses, two_rows = torch.cat([ones, twos]), torch.tensor([[True, False, False], [True, True, True]])
    assert masked_mean(losses, two_rows).item() == (1 + 2 + 2 + 2) / 4


def test_approx_kl_by_hand(nonsense: float) -> None:
    new, old = row(-0.9, -1.2, -1.0, nonsense), row(-1.0, -1.0, -1.0, nonsense)  # log r = .1, −.2, 0
    expected = ((math.exp(0.1) - 1 - 0.1) + (math.exp(-0.2) - 1 + 0.2)) / 3
    assert approx_kl(new, old, THREE_OF_FOUR).item() == pytest.approx(expected)


def test_approx_kl_is_the_kl_of_the_old_policy_from_the_new_one() -> None:
    old, new = [0.5, 0.3, 0.2], [0.4, 0.4, 0.2]
    tokens = [0] * 5 + [1] * 3 + [2] * 2  # as often as the old policy draws them
    found = approx_kl(
        row(*(math.log(new[t]) for t in tokens)), row(*(math.log(old[t]) for t in tokens)), torch.ones(1, 10).bool()
    )
    assert found.item() == pytest.approx(0.5 * math.log(5 / 4) + 0.3 * math.log(3 / 4), abs=1e-12)


def test_clip_fraction_by_hand(nonsense: float) -> None:
    # as in the table above: yes, no, no, yes, no (inside), no (inside), and padding
    ratios, advantages = [1.3, 0.5, 1.3, 0.5, 1.1, 0.9], [1.0, 1.0, -1.0, -1.0, 1.0, -1.0]
    mask = torch.tensor([[True] * 6 + [False]])
    found = clip_fraction(
        row(*map(math.log, ratios), nonsense), row(*[0.0] * 6, 0.0), row(*advantages, -1.0), mask, clip_range=0.2
    )
    assert found.item() == pytest.approx(2 / 6)


def test_clip_fraction_counts_tokens_without_a_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    new, old, advantages = torch.randn(3, 8, 5, generator=generator, dtype=torch.float64).unbind()
    new.requires_grad_()
    mask = torch.ones(8, 5).bool()
    slopes = gradient(clipped_policy_loss(new, old, advantages, mask, 0.2), new)
    assert clip_fraction(new, old, advantages, mask, 0.2).item() == pytest.approx((slopes == 0).double().mean().item())


def test_explained_variance_by_hand(nonsense: float) -> None:
    values, targets = row(1.1, 1.8, 3.3, nonsense), row(1.0, 2.0, 3.0, nonsense)
    # errors −.1, .2, −.3: mean −.2/3, variance .14/3 − .04/9; Var(R) = 2/3
    expected = 1 - (0.14 / 3 - 0.04 / 9) / (2 / 3)
    assert expected == pytest.approx(0.936667, abs=5e-7)
    assert explained_variance(values, targets, THREE_OF_FOUR).item() == pytest.approx(expected)


def test_explained_variance_of_perfect_constant_and_backward_values() -> None:
    targets, mask = row(1.0, 2.0, 6.0), torch.ones(1, 3).bool()
    assert explained_variance(targets + 5, targets, mask).item() == pytest.approx(1)  # a constant error is no error
    assert explained_variance(row(4.0, 4.0, 4.0), targets, mask).item() == pytest.approx(0)
    assert explained_variance(-targets, targets, mask).item() == pytest.approx(-3)  # Var(2R) = 4 Var(R)
    assert not explained_variance(targets, row(1.0, 1.0, 1.0), mask).isfinite()
