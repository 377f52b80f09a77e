"""Ranking and centring losses, accuracy, normalisation and calibration of the reward model."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from heed.formulas.preference import (
    best_temperature,
    centring_terms,
    expected_calibration_error,
    mean_per_prompt,
    normalisation,
    ranking_accuracy,
    ranking_pairs,
    ranking_terms,
)


def numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def whole(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.int64)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


def expit(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def gradient(y: Tensor, x: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(y, x)
    return result


def test_ranking_pairs_by_hand() -> None:
    # prompt 0: ranks 2, 1, 2 (a tie) · prompt 2: ranks 3, 1 · in between a lone response
    better, worse = ranking_pairs(whole(2, 3, 1, 1, 2, 1), whole(0, 2, 0, 1, 0, 2))
    found = set(zip(better.tolist(), worse.tolist(), strict=True))
    assert found == {(2, 0), (2, 4), (5, 1)}
    assert len(better) == 3


def test_mean_per_prompt_by_hand() -> None:
    found = mean_per_prompt(numbers(1.0, 10.0, 2.0, 6.0), whole(0, 3, 0, 0))
    assert found.tolist() == [3.0, 10.0]


def test_ranking_loss_of_one_prompt_by_hand() -> None:
    scores = numbers(1.0, 0.2, -0.5).requires_grad_()
    (loss,) = ranking_terms(scores, whole(1, 2, 3), whole(0, 0, 0))
    assert loss.item() == pytest.approx((softplus(-0.8) + softplus(-1.5) + softplus(-0.7)) / 3)
    assert loss.item() == pytest.approx(0.3252333, abs=5e-8)

    def push(difference: float) -> float:
        return 1 / (1 + math.exp(difference)) / 3  # σ(−Δ) / pairs

    expected = [-push(0.8) - push(1.5), push(0.8) - push(0.7), push(1.5) + push(0.7)]
    assert expected == pytest.approx([-0.164150, -0.007262, 0.171413], abs=5e-7)
    assert gradient(loss, scores).tolist() == pytest.approx(expected)


@pytest.mark.parametrize(
    ("difference", "expected"), [(0.0, 0.693147), (1.0, 0.313262), (-1.0, 1.313262), (2.0, 0.126928), (-3.0, 3.048587)]
)
def test_ranking_loss_of_two_is_the_comparison_loss(difference: float, expected: float) -> None:
    scores = numbers(4.0, 4.0 + difference).requires_grad_()
    (loss,) = ranking_terms(scores, whole(2, 1), whole(0, 0))
    assert softplus(-difference) == pytest.approx(expected, abs=5e-7)
    assert loss.item() == pytest.approx(softplus(-difference))
    assert gradient(loss, scores).tolist() == pytest.approx([expit(-difference), -expit(-difference)])  # σ(−Δ)


def test_ranking_loss_does_not_overflow() -> None:
    assert ranking_terms(numbers(-1000.0, 0.0), whole(1, 2), whole(0, 0)).item() == 1000


def test_ties_are_dropped_from_sum_and_count() -> None:
    scores = numbers(1.0, 0.2, -0.5)
    found = ranking_terms(scores, whole(1, 2, 2), whole(0, 0, 0))
    assert found.item() == pytest.approx((softplus(-0.8) + softplus(-1.5)) / 2)


# prompt 0 has three responses, prompt 1 two, prompt 2 a tie, prompt 4 one alone
SCORES = numbers(1.0, 0.2, -0.5, 0.0, 2.0, 9.0, -9.0, 5.0)
RANKS, SEGMENTS = whole(1, 2, 3, 1, 2, 1, 1, 1), whole(0, 0, 0, 1, 1, 2, 2, 4)
PER_PROMPT = [(softplus(-0.8) + softplus(-1.5) + softplus(-0.7)) / 3, softplus(2.0)]
SQUARES = [(1.2**2 + 0.5**2 + 0.3**2) / 3, 2.0**2]


def test_every_prompt_with_a_strict_pair_has_one_term() -> None:
    assert ranking_terms(SCORES, RANKS, SEGMENTS).tolist() == pytest.approx(PER_PROMPT)


def test_centring_loss_by_hand_and_of_two_is_the_square_of_the_sum() -> None:
    assert centring_terms(SCORES, RANKS, SEGMENTS).tolist() == pytest.approx(SQUARES)
    pairs = centring_terms(numbers(1.0, 2.0, -4.0, 1.0), whole(1, 2, 2, 1), whole(0, 0, 1, 1))
    assert pairs.tolist() == [3.0**2, 3.0**2]
    assert centring_terms(numbers(1.5, -1.5), whole(1, 2), whole(0, 0)).item() == 0  # already centred


def test_order_of_responses_and_a_shift_per_prompt_do_not_matter() -> None:
    order = torch.randperm(8, generator=torch.Generator().manual_seed(1))
    assert ranking_terms(SCORES[order], RANKS[order], SEGMENTS[order]).tolist() == pytest.approx(PER_PROMPT)
    shifted = SCORES + 10.0 * SEGMENTS
    assert ranking_terms(shifted, RANKS, SEGMENTS).tolist() == pytest.approx(PER_PROMPT)
    leaf = SCORES.clone().requires_grad_()
    assert gradient(ranking_terms(leaf, RANKS, SEGMENTS).sum(), leaf).sum().abs() < 1e-12


def test_a_batch_of_ties_has_no_term() -> None:
    for terms in (ranking_terms, centring_terms):
        assert terms(numbers(1.0, 2.0), whole(1, 1), whole(0, 0)).tolist() == []


def test_microbatches_of_prompts_give_the_same_gradient() -> None:
    scores = SCORES.clone().requires_grad_()
    for terms in (ranking_terms, centring_terms):
        accumulated = torch.zeros_like(scores)
        for rows in (slice(0, 3), slice(3, 8)):
            accumulated += gradient(terms(scores[rows], RANKS[rows], SEGMENTS[rows]).sum() / 2, scores)
        assert_close(accumulated, gradient(terms(scores, RANKS, SEGMENTS).mean(), scores), atol=1e-12, rtol=0)


def test_ranking_accuracy_by_hand() -> None:
    # right, right (across), tie; then a wrong pair of another prompt
    scores, ranks, segments = numbers(3.0, 1.0, 1.0, 0.0, 5.0), whole(1, 2, 3, 1, 2), whole(0, 0, 0, 7, 7)
    correct, better, worse = ranking_accuracy(scores, ranks, segments)
    found = dict(zip(zip(better.tolist(), worse.tolist(), strict=True), correct.tolist(), strict=True))
    assert found == {(0, 1): 1.0, (0, 2): 1.0, (1, 2): 0.5, (3, 4): 0.0}


def test_normalisation_by_hand() -> None:
    gain, bias = normalisation(None, numbers(-2.0, 6.0))
    assert (gain, bias) == pytest.approx((0.25, -0.5))
    assert [gain * s + bias for s in (-2.0, 6.0)] == pytest.approx([-1.0, 1.0])
    gain, bias = normalisation(numbers(4.0, 5.0, 12.0), numbers(-2.0, 6.0))  # people's answers average 7
    assert (gain, bias) == pytest.approx((0.25, -1.75))


def test_normalised_scores_have_sd_1_on_samples_and_mean_0_on_demonstrations() -> None:
    generator = torch.Generator().manual_seed(0)
    demonstrations, samples = 3 + torch.randn(50, generator=generator), 7 * torch.randn(200, generator=generator) - 4
    gain, bias = normalisation(demonstrations, samples)
    assert (gain * demonstrations + bias).mean().abs() < 1e-6
    assert (gain * samples + bias).square().mean() - (gain * samples + bias).mean() ** 2 == pytest.approx(1, abs=1e-5)
    assert gain > 0  # the order of responses, and so every accuracy, stays as it was
    with pytest.raises(ZeroDivisionError):
        normalisation(None, numbers(2.0, 2.0))


def test_calibration_error_by_hand() -> None:
    # bin .6: half right, gap .1 · bin .9: all right, gap .1
    assert expected_calibration_error(numbers(0.6, 0.6, 0.9, 0.9), numbers(1, 0, 1, 1)).item() == pytest.approx(0.10)
    # a bin of one and a bin of three: (1·|1 − .55| + 3·|2/3 − .8|) / 4
    found = expected_calibration_error(numbers(0.55, 0.8, 0.8, 0.8), numbers(1, 1, 1, 0)).item()
    assert found == pytest.approx((0.45 + 3 * (0.8 - 2 / 3)) / 4)


def test_calibration_bins_are_of_equal_width_and_certainty_is_in_the_last() -> None:
    # .62 and .68 share a bin of ten and cancel; of twenty they do not
    p, y = numbers(0.62, 0.68), numbers(1, 0)
    assert expected_calibration_error(p, y).item() == pytest.approx(abs(0.5 - 0.65))
    assert expected_calibration_error(p, y, bins=20).item() == pytest.approx((0.38 + 0.68) / 2)
    # 1.0 joins .95: gap |(1 − 1) + (0 − .95)| / 2, not the same two apart
    assert expected_calibration_error(numbers(1.0, 0.95), numbers(1, 0)).item() == pytest.approx(0.95 / 2)
    # but .85 has a bin of its own
    assert expected_calibration_error(numbers(0.85, 0.95), numbers(0, 1)).item() == pytest.approx((0.85 + 0.05) / 2)


def test_best_temperature_by_hand() -> None:
    # three margins of +1 and one of −1: σ(1/T) = 3/4, so T = 1 / ln 3; margins five times as large: 5 T
    assert best_temperature(numbers(1, 1, 1, -1)) == pytest.approx(1 / math.log(3), abs=1e-9)
    assert best_temperature(numbers(5, 5, 5, -5)) == pytest.approx(5 / math.log(3), abs=1e-9)


def test_best_temperature_is_where_the_loss_is_least() -> None:
    margins = numbers(0.3, 2.0, -0.7, 1.5, -0.1, 0.8)
    best = best_temperature(margins)
    losses = [-logsigmoid(margins / t).mean().item() for t in (0.99 * best, best, 1.01 * best)]
    assert min(losses) == losses[1]
    assert 0.05 < best < 20


def test_best_temperature_stops_at_its_limits() -> None:
    assert best_temperature(numbers(1.0, 2.0)) == pytest.approx(0.01)  # never wrong: be certain
    assert best_temperature(numbers(1.0, -2.0)) == pytest.approx(100.0)  # wrong on balance: know nothing
    assert best_temperature(numbers(1.0, -2.0), limit=7.0) == pytest.approx(7.0)
