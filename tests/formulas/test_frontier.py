"""The attainable ceiling and the alarm of over-optimisation, by hand, by enumeration, and against what they bound."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heed.formulas.frontier import ceiling, over_optimised, tilted


def test_two_samples_by_hand() -> None:
    # β = 1: w = 1 and 2, so E[r] = 2·ln2/3, log mean w = ln 1.5, effective = 3²/(1² + 2²)
    found = tilted([[0.0, math.log(2)]], beta=1.0)
    expected = 2 * math.log(2) / 3
    np.testing.assert_allclose(found.worth, [expected], rtol=1e-12)
    np.testing.assert_allclose(found.kl, [expected - math.log(1.5)], rtol=1e-12)
    np.testing.assert_allclose(found.effective, [9 / 5], rtol=1e-12)


def test_beta_divides_the_scores() -> None:
    # β = 2 over scores of 0 and 2·ln3: w = 1 and 3, E[r] = 3·2·ln3/4, KL = E[r]/2 − ln 2
    found = tilted([[0.0, 2 * math.log(3)]], beta=2.0)
    np.testing.assert_allclose(found.worth, [1.5 * math.log(3)], rtol=1e-12)
    np.testing.assert_allclose(found.kl, [0.75 * math.log(3) - math.log(2)], rtol=1e-12)


def test_against_the_full_enumeration_of_a_small_distribution() -> None:
    # ref = (1/2, 1/4, 1/4) over rewards (0.3, −1, 2): four samples in these proportions hold the whole distribution
    reference, rewards, beta = np.array([0.5, 0.25, 0.25]), np.array([0.3, -1.0, 2.0]), 0.7
    policy = reference * np.exp(rewards / beta)
    policy /= policy.sum()
    found = tilted([[0.3, 2.0, 0.3, -1.0]], beta)
    np.testing.assert_allclose(found.worth, [(policy * rewards).sum()], rtol=1e-12)
    np.testing.assert_allclose(found.kl, [(policy * np.log(policy / reference)).sum()], rtol=1e-12)


def test_another_judge_pays_for_what_the_first_one_chose() -> None:
    # w = 1 and 2 by the scores: worth (5·1 + 8·2)/3, whatever the worth is the KL stays
    scores = [[0.0, math.log(2)]]
    found = tilted(scores, 1.0, worth=[[5.0, 8.0]])
    np.testing.assert_allclose(found.worth, [7.0], rtol=1e-12)
    np.testing.assert_array_equal(found.kl, tilted(scores, 1.0).kl)


def test_a_prompts_own_level_moves_its_score_and_not_its_kl() -> None:
    scores = np.array([[0.1, -0.4, 1.2], [2.0, 0.0, 0.5]])
    level = np.array([[1000.0], [-3.0]])
    plain, moved = tilted(scores, 0.1), tilted(scores + level, 0.1)
    np.testing.assert_allclose(moved.kl, plain.kl, rtol=1e-9)
    np.testing.assert_allclose(moved.worth, plain.worth + level[:, 0], rtol=1e-12)


def test_no_policy_is_above_the_ceiling() -> None:
    # best of 2 of a uniform ref over four rewards: P(i-th lowest) = (2i − 1)/16
    rewards = np.array([0.0, 0.2, 1.5, 1.6])
    best = np.array([1, 3, 5, 7]) / 16
    kl, score = (best * np.log(best / 0.25)).sum(), (best * rewards).sum()
    betas = np.geomspace(0.05, 50, 4000)
    reached = [tilted(rewards[None], beta) for beta in betas]
    nearest = min(reached, key=lambda found: abs(found.kl[0] - kl))
    assert nearest.worth[0] > score + 0.005  # 0.0066 above, and the grid is finer than that


def test_ceiling_starts_weak_and_ends_where_too_few_samples_count() -> None:
    scores = np.random.default_rng(0).normal(size=(40, 256))
    points = ceiling(scores, enough=30.0)
    assert points[0].beta == pytest.approx(8 * math.sqrt(scores.var(axis=1).mean()))
    assert points[0].kl == pytest.approx(1 / (2 * 8**2), rel=0.1)  # σ²/2β² for a normal score
    assert points[4].beta == pytest.approx(points[0].beta / 2)
    assert [point.kl for point in points] == sorted(point.kl for point in points)
    assert [point.score.estimate for point in points] == sorted(point.score.estimate for point in points)
    assert all(point.effective >= 30 for point in points)
    assert ceiling(scores, enough=10.0)[len(points)].effective < 30


def test_effective_size_is_that_of_the_mean_of_unequal_prompts() -> None:
    # one prompt whose responses are all alike (effective 4) and one with weights 1, 0, 0, 0 nearly (effective 1):
    # 1/mean(1/4, 1/1) = 1.6, and not (4 + 1)/2
    scores = [[0.0, 0.0, 0.0, 0.0], [60.0, 0.0, 0.0, 0.0]]
    assert ceiling(scores, enough=1.59)[-1].effective == pytest.approx(1.6, abs=1e-2)


def test_there_is_no_ceiling_from_few_samples_or_equal_scores() -> None:
    assert ceiling(np.random.default_rng(0).normal(size=(100, 16)), enough=30.0) == []
    assert ceiling(np.ones((10, 64)), enough=30.0) == []


@pytest.mark.parametrize(
    ("proxy", "gold", "expected"),
    [
        ([0.0, 1.0, 2.0, 3.0], [3.0, 3.5, 3.0, 2.0], 3),  # gold turns at the second, has fallen twice at the fourth
        ([0.0, 1.0, 2.0], [3.0, 2.0, 1.0], 2),
        ([0.0, 1.0, 0.9, 1.1], [3.0, 2.0, 1.0, 0.5], None),  # the proxy wavers
        ([0.0, 1.0, 2.0], [3.0, 2.0, 2.0], None),  # gold only fell once
        ([0.0, 1.0], [3.0, 2.0], None),
        ([2.0, 1.0, 0.0], [3.0, 2.0, 1.0], None),  # both fall: not over-optimisation but ruin
    ],
)
def test_alarm(proxy: list[float], gold: list[float], expected: int | None) -> None:
    assert over_optimised(proxy, gold) == expected


def test_alarm_keeps_still_within_its_margin() -> None:
    proxy, gold = [0.0, 1.0, 2.0, 3.0], [3.0, 2.9, 2.8, 2.0]
    assert over_optimised(proxy, gold, margin=0.25) == 3  # the fall of 0.2 to the third is within it
    assert over_optimised(proxy, gold, margin=1.0) is None
