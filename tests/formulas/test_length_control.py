from __future__ import annotations

import math

import numpy as np
import pytest

from heed.formulas.length_control import fit_logistic, length_controlled_win_rate


def test_a_model_against_itself_is_exactly_half():
    scores, lengths = [0.3, -1.0, 2.0], [4, 9, 2]
    found = length_controlled_win_rate(scores, scores, lengths, lengths)
    assert (found.estimate, found.low, found.high, found.n) == (0.5, 0.5, 0.5, 3)


def test_without_length_differences_it_is_the_win_rate():
    found = length_controlled_win_rate([1, 1, 1, 0], [0, 0, 0, 1], [5] * 4, [5] * 4)
    # penalised likelihood: 4 · (.75 − σ(a)) = PENALTY · a, and σ(a) is within .004 of .75
    assert found.estimate == pytest.approx(0.75, abs=4e-3)


def test_wins_that_length_explains_are_taken_out():
    # a is longer in 300 of 400 prompts and the longer one always wins but for 10 % noise: raw win rate 0.7
    generator = np.random.default_rng(0)
    longer = np.where(np.arange(400) < 300, 20, -20)
    wins = np.where(generator.random(400) < 0.9, longer, -longer)
    raw = float((wins > 0).mean())
    found = length_controlled_win_rate(wins, np.zeros(400), longer + 50, np.full(400, 50), resamples=200)
    assert raw > 0.65
    assert abs(found.estimate - 0.5) < 0.12
    assert found.low < found.estimate < found.high  # a resample keeps each win with its length
    swapped = length_controlled_win_rate(np.zeros(400), wins, np.full(400, 50), longer + 50, resamples=200)
    assert swapped.estimate == pytest.approx(1 - found.estimate, abs=1e-9)  # sides are treated alike


def test_logistic_fit_by_hand():
    # at x = 1 three of four win, at x = −1 one of four: a = 0, b = logit(3/4)
    outcomes = np.array([1, 1, 1, 0, 1, 0, 0, 0], dtype=float)
    covariate = np.array([1, 1, 1, 1, -1, -1, -1, -1], dtype=float)
    intercept, slope = fit_logistic(outcomes, covariate)
    assert intercept == pytest.approx(0, abs=1e-12)
    assert slope == pytest.approx(math.log(3), rel=0.02)


@pytest.mark.parametrize("seed", range(20))
def test_a_separable_sample_stays_finite(seed):
    generator = np.random.default_rng(seed)
    covariate = np.tanh(generator.normal(size=50))
    for outcomes in (np.ones(50), (covariate > 0).astype(float)):
        intercept, slope = fit_logistic(outcomes, covariate)
        assert abs(intercept) < 20
        assert abs(slope) < 60


def test_seed_and_resamples_reach_the_bootstrap():
    scores, lengths = np.random.default_rng(0).normal(size=(2, 40))
    zeros = np.zeros(40)
    found = length_controlled_win_rate(scores, zeros, lengths, zeros, seed=0, resamples=50)
    assert found == length_controlled_win_rate(scores, zeros, lengths, zeros, seed=0, resamples=50)
    for other in ({"seed": 1, "resamples": 50}, {"seed": 0, "resamples": 20}):
        assert found != length_controlled_win_rate(scores, zeros, lengths, zeros, **other)
