"""Intervals, win rate, rank correlation and agreement."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from heed.formulas.statistics import (
    Estimate,
    agreeing_pairs,
    average_ranks,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_statistic,
    cohen_kappa,
    outer_quantiles,
    resampled_indices,
    spearman,
    wilson,
    win_rate,
)

Z = 1.959964


def interval(estimate: Estimate) -> tuple[float, float]:
    return estimate.low, estimate.high


def test_estimate_as_dict_is_json() -> None:
    found = json.loads(json.dumps(Estimate(0.5, math.nan, math.inf, 7).as_dict(), allow_nan=False))
    assert found == {"estimate": 0.5, "low": None, "high": None, "n": 7}


def test_wilson_by_hand() -> None:
    found = wilson(62, 100)
    centre, half = 0.62 + Z**2 / 200, Z * math.sqrt(0.62 * 0.38 / 100 + Z**2 / 40_000)
    assert interval(found) == pytest.approx(((centre - half) / (1 + Z**2 / 100), (centre + half) / (1 + Z**2 / 100)))
    assert interval(found) == pytest.approx((0.522, 0.709), abs=5e-4)
    assert (found.estimate, found.n) == (0.62, 100)


@pytest.mark.parametrize(("successes", "n"), [(62, 100), (3, 7), (0.5, 1), (1, 40)])
def test_wilson_limits_are_the_shares_that_the_data_only_just_allow(successes: float, n: int) -> None:
    """|p̂ − p| = z √(p (1 − p) / n) at both ends."""
    found = wilson(successes, n)
    for share in interval(found):
        assert abs(successes / n - share) == pytest.approx(Z * math.sqrt(share * (1 - share) / n), abs=1e-6)


def test_wilson_at_the_edges() -> None:
    assert interval(wilson(0, 10)) == pytest.approx((0.0, Z**2 / (10 + Z**2)), abs=1e-6)
    assert interval(wilson(10, 10)) == pytest.approx((10 / (10 + Z**2), 1.0), abs=1e-6)
    for n in range(1, 400):  # rounding may not leave [0, 1]
        assert wilson(0, n).low == 0 and wilson(n, n).high == 1
    nothing = wilson(0, 0)
    assert math.isnan(nothing.estimate) and interval(nothing) == (0.0, 1.0) and nothing.n == 0


def test_resampled_indices_draw_n_of_n_with_replacement_and_repeat_with_the_seed() -> None:
    draws = list(resampled_indices(5, seed=3, resamples=200))
    assert len(draws) == 200
    assert {draw.shape for draw in draws} == {(5,)}
    assert set(np.concatenate(draws).tolist()) == {0, 1, 2, 3, 4}
    assert any(len(set(draw.tolist())) < 5 for draw in draws)
    again, other = resampled_indices(5, seed=3, resamples=200), resampled_indices(5, seed=4, resamples=200)
    assert all((a == b).all() for a, b in zip(draws, again, strict=True))
    assert any((a != b).any() for a, b in zip(draws, other, strict=True))


def test_bootstrap_statistic_reports_the_statistic_of_the_data_and_its_quantiles() -> None:
    calls: list[int] = []

    def count(indices: NDArray[np.int64]) -> float:  # 0 … 999 for the resamples, in order, then 1000 for the data
        calls.append(len(indices))
        return float(len(calls) - 1)

    found = bootstrap_statistic(count, 8, seed=0, resamples=1000)
    assert calls == [8] * 1001
    assert found.estimate == 1000
    assert interval(found) == pytest.approx((0.00574 * 999, 0.99426 * 999), abs=0.02)
    assert found.n == 8


def test_outer_quantiles_are_students() -> None:
    """97.5 % of Student's t: 2.3646 with 7 degrees of freedom, 2.1314 with 15, 1.9788 with 127 (tables)."""
    draws = np.linspace(0, 1, 1_000_001)
    for n, t in ((8, 2.3646), (16, 2.1314), (128, 1.9788)):
        outside = 0.5 * math.erfc(math.sqrt(n / (n - 1)) * t / math.sqrt(2))
        assert outer_quantiles(draws, n) == pytest.approx([outside, 1 - outside], abs=3e-5)
    assert outer_quantiles(draws, 10**7) == pytest.approx([0.025, 0.975], abs=1e-5)
    assert outer_quantiles([3.0, 1.0, 2.0], 2).tolist() == [1.0, 3.0]
    both = outer_quantiles(np.stack([draws, 10 * draws], axis=1), 8)
    assert both == pytest.approx(np.array([[0.00574, 0.0574], [0.99426, 9.9426]]), abs=1e-4)


def test_the_lower_end_of_what_noise_can_only_raise_goes_down_by_twice_the_resamples_excess() -> None:
    """Sizes of six means near 0, which noise makes larger."""
    values = np.random.default_rng(5).normal(0.3, 1, (12, 6))
    drawn: list[float] = []

    def size(indices: NDArray[np.int64]) -> float:
        drawn.append(float(np.abs(values[indices].mean(axis=0)).sum()))
        return drawn[-1]

    plain = bootstrap_statistic(size, 12, seed=0, resamples=500)
    excess = np.mean(drawn[:500]) - plain.estimate
    assert 0 < excess < plain.low / 2
    found = bootstrap_statistic(size, 12, seed=0, resamples=500, raised=True)
    assert found.low == pytest.approx(plain.low - 2 * excess)
    assert (found.estimate, found.high) == (plain.estimate, plain.high)
    centred = values[:, 0] - values[:, 0].mean()
    nothing = bootstrap_statistic(lambda rows: abs(float(centred[rows].mean())), 12, seed=0, raised=True)
    assert (nothing.estimate, nothing.low) == (pytest.approx(0), 0)
    fallen = bootstrap_statistic(lambda rows: float(len(set(rows.tolist()))), 12, seed=0, raised=True)
    assert fallen.low == bootstrap_statistic(lambda rows: float(len(set(rows.tolist()))), 12, seed=0).low


def test_bootstrap_statistic_leaves_out_what_is_undefined() -> None:
    def share_of_zeros(indices: NDArray[np.int64]) -> float:
        return math.nan if (indices == 0).any() else 1.0

    assert interval(bootstrap_statistic(share_of_zeros, 3, seed=0)) == (1.0, 1.0)
    never = bootstrap_statistic(lambda _: math.nan, 3, seed=0)
    assert math.isnan(never.low) and math.isnan(never.high)


def test_bootstrap_mean_of_two_values_has_the_exact_interval() -> None:
    # the mean of a resample of {0, 1} is 0, ½, 1 with chances ¼, ½, ¼
    found = bootstrap_mean([0, 1], seed=0)
    assert (found.estimate, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 2)


def test_bootstrap_mean_agrees_with_the_normal_theory_and_repeats_with_the_seed() -> None:
    values = np.random.default_rng(0).normal(3.0, 2.0, size=400)
    found = bootstrap_mean(values, seed=1)
    half = Z * values.std() / math.sqrt(400)
    assert interval(found) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.1 * half)
    assert found.estimate == pytest.approx(values.mean())
    assert found == bootstrap_mean(values, seed=1)
    assert found != bootstrap_mean(values, seed=2)


def test_bootstrap_difference_is_paired_and_signed() -> None:
    b = np.random.default_rng(0).normal(0, 100, size=50)  # prompts differ by far more than the models
    found = bootstrap_difference(b + 1, b, seed=0)
    assert (found.estimate, found.low, found.high) == pytest.approx((1.0, 1.0, 1.0))
    assert found.n == 50


def test_the_number_of_resamples_reaches_the_bootstrap() -> None:
    values = np.random.default_rng(0).normal(size=30)
    zeros = np.zeros(30)
    for few, many in (
        (bootstrap_mean(values, 0, resamples=3), bootstrap_mean(values, 0)),
        (bootstrap_difference(values, zeros, 0, resamples=3), bootstrap_difference(values, zeros, 0)),
        (win_rate(values, zeros, 0, resamples=3), win_rate(values, zeros)),
        (win_rate(values, zeros, 4), win_rate(values, zeros, 0)),
    ):
        assert interval(few) != interval(many)


def test_win_rate_by_hand() -> None:
    # a tie, a win, a loss, a win
    found = win_rate([1, 2, 3, 4], [1, 1, 5, 0])
    assert (found.estimate, found.n) == ((0.5 + 1 + 0 + 1) / 4, 4)
    assert found.low < found.estimate < found.high
    assert interval(win_rate([2, 2], [1, 1])) == (1.0, 1.0)


def test_win_rates_of_two_models_add_up_to_one() -> None:
    a, b = np.random.default_rng(0).integers(0, 4, size=(2, 60))  # with many ties
    one, other = win_rate(a, b), win_rate(b, a)
    assert one.estimate + other.estimate == pytest.approx(1)
    assert one.low + other.high == pytest.approx(1)
    assert one.estimate == pytest.approx(((a > b).sum() + (a == b).sum() / 2) / 60)


def test_average_ranks_by_hand() -> None:
    assert average_ranks([30, 10, 20, 10]).tolist() == [4.0, 1.5, 3.0, 1.5]
    assert average_ranks([7, 7, 7]).tolist() == [2.0, 2.0, 2.0]


def test_spearman_by_hand() -> None:
    # Σd² = 1 + 1 + 1 + 1 + 0: 1 − 6·4 / (5·24)
    assert spearman([1, 2, 3, 4, 5], [2, 1, 4, 3, 5]) == pytest.approx(1 - 24 / 120)
    # ranks 1.5, 1.5, 3 against 1, 2, 3: (.5 + 0 + 1) / √(1.5 · 2)
    assert spearman([1, 1, 2], [1, 2, 3]) == pytest.approx(1.5 / math.sqrt(3))


def test_spearman_knows_order_only() -> None:
    a = np.random.default_rng(0).normal(size=40)
    assert spearman(a, np.exp(3 * a)) == pytest.approx(1)
    assert spearman(a, -(a**3)) == pytest.approx(-1)
    assert math.isnan(spearman([1, 1, 1], [1, 2, 3]))


def test_agreeing_pairs_by_hand() -> None:
    # (0,1), (0,2) and (1,3) alike; (0,3) the other way round; (1,2) tied by the first, (2,3) by the second
    assert agreeing_pairs([2, 3, 3, 1], [1, 3, 2, 2]) == (3, 4)
    assert agreeing_pairs([1, 2], [2, 1]) == (0, 1)
    assert agreeing_pairs([1, 2], [1, 2]) == (1, 1)
    assert agreeing_pairs([1, 1], [1, 2]) == (0, 0)


def test_cohen_kappa_by_hand() -> None:
    # 20 both yes, 10 yes/no, 5 no/yes, 15 both no: observed .7, chance .6·.5 + .4·.5 = .5
    a = ["yes"] * 30 + ["no"] * 20
    b = ["yes"] * 20 + ["no"] * 10 + ["yes"] * 5 + ["no"] * 15
    assert cohen_kappa(a, b) == pytest.approx((0.7 - 0.5) / 0.5)
    assert cohen_kappa(a, a) == 1
    assert cohen_kappa([1, 0], [0, 1]) == -1
    assert math.isnan(cohen_kappa(["yes"], ["yes"]))


def test_statistics_leave_torch_alone() -> None:
    program = "import sys, heed.formulas.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
