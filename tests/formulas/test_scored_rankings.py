from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heed.formulas import scored_rankings
from heed.formulas.preference import expected_calibration_error
from heed.formulas.scored_rankings import (
    ScoredRankings,
    accuracy_and_nll,
    headline,
    numbered,
    over_prompts,
    pairs_of,
    reliability,
    reward_report,
    share,
)
from heed.formulas.statistics import wilson

LN2 = math.log(2)


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


@pytest.fixture(autouse=True)
def _few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scored_rankings, "RESAMPLES", 30)


@pytest.fixture
def rankings() -> ScoredRankings:
    """Three prompts: K = 3 with a tie for second place, a pair ordered wrongly, and a pair of equal scores."""
    return ScoredRankings(
        scores=torch.tensor([2.0, 0.5, 3.0, -1.0, 1.0, 0.7, 0.7]),
        ranks=torch.tensor([1, 2, 2, 1, 2, 2, 1]),
        segments=torch.tensor([0, 0, 0, 1, 1, 2, 2]),
        lengths=torch.tensor([10, 20, 10, 105, 100, 7, 7]),
        sources=["a", "b", "a"],
        prompts=torch.tensor([0, 1, 2]),
    )


def test_accuracy_and_nll_by_hand(rankings: ScoredRankings) -> None:
    found = reward_report(rankings, seed=0)
    # prompt 0: 2 > 0.5 right, 2 > 3 wrong → 1/2; prompt 1: wrong → 0; prompt 2: equal → 1/2
    assert found["accuracy"]["estimate"] == pytest.approx((0.5 + 0 + 0.5) / 3)
    assert found["accuracy"]["n"] == found["nll"]["n"] == 3
    losses = [(softplus(-1.5) + softplus(1.0)) / 2, softplus(2.0), LN2]
    assert found["nll"]["estimate"] == pytest.approx(sum(losses) / 3)
    assert found["counts"] == {"prompts": 3, "rankings": 3, "comparisons": 4, "tied_scores": 1}


def test_by_source_by_hand(rankings: ScoredRankings) -> None:
    found = reward_report(rankings, seed=0)
    assert set(found["by_source"]) == {"a", "b"}
    assert found["by_source"]["a"]["accuracy"]["estimate"] == pytest.approx(0.5)
    assert found["by_source"]["b"]["accuracy"]["estimate"] == 0.0
    assert found["by_source"]["b"]["nll"]["estimate"] == pytest.approx(softplus(2.0))
    assert found["by_source"]["b"]["accuracy"]["n"] == 1
    assert found["macro_accuracy"] == pytest.approx(0.25)


def test_by_gap_by_hand(rankings: ScoredRankings) -> None:
    assert {gap: found["estimate"] for gap, found in reward_report(rankings, seed=0)["by_gap"].items()} == {
        "1": pytest.approx(1 / 3)
    }
    third = ScoredRankings(
        rankings.scores[:3], torch.tensor([1, 2, 3]), rankings.segments[:3], rankings.lengths[:3], ["a"],
        rankings.prompts[:1],
    )  # fmt: skip
    found = reward_report(third, seed=0)["by_gap"]  # 2 > 0.5 right, 0.5 > 3 wrong; two ranks apart 2 > 3 wrong
    assert (found["1"]["estimate"], found["2"]["estimate"]) == (0.5, 0.0)


def test_the_calibration_error_is_a_figure_that_noise_can_only_raise(rankings: ScoredRankings) -> None:
    """So its lower end lies lower than a plain bootstrap over prompts has it."""
    pairs = pairs_of(rankings)
    found = reward_report(rankings, seed=0)["calibration"]["ece"]

    def error(rows: Tensor) -> float:
        sure = torch.sigmoid(pairs.margins.double().abs())[rows]
        return float(expected_calibration_error(sure, pairs.correct.double()[rows], 10))

    plain, raised = (over_prompts(error, pairs.prompts, 0, raised=raised) for raised in (False, True))
    assert raised.low < plain.low
    assert found == pytest.approx(raised.as_dict())


def test_length_by_hand(rankings: ScoredRankings) -> None:
    found = reward_report(rankings, seed=0)["length_bias"]
    # the longer response is the better one: prompt 0: no, equal → 1/4; prompt 1: yes → 1; prompt 2: equal → 1/2
    assert found["longer_wins"]["estimate"] == pytest.approx((0.25 + 1 + 0.5) / 3)
    # matched within 10 %: 10 and 10 (wrong), 105 and 100 (wrong), 7 and 7 (½)
    assert found["accuracy_at_matched_length"]["estimate"] == pytest.approx((0 + 0 + 0.5) / 3)
    # ranks of scores 6, 2, 7, 1, 5, 3.5, 3.5; of lengths 3.5, 5, 3.5, 7, 6, 1.5, 1.5
    a = [6, 2, 7, 1, 5, 3.5, 3.5]
    b = [3.5, 5, 3.5, 7, 6, 1.5, 1.5]
    top = sum((x - 4) * (y - 4) for x, y in zip(a, b, strict=True))
    scale = math.sqrt(sum((x - 4) ** 2 for x in a) * sum((y - 4) ** 2 for y in b))
    assert found["spearman"]["estimate"] == pytest.approx(top / scale)


def test_calibration_table_adds_up(rankings: ScoredRankings) -> None:
    found = reward_report(rankings, seed=0)["calibration"]
    # preferred with probability σ(1.5) right, σ(1) wrong, σ(2) wrong, ½ equal
    assert sum(row["n"] for row in found["reliability"]) == 4
    p = {d: 1 / (1 + math.exp(-d)) for d in (0.0, 1.0, 1.5, 2.0)}
    # ½ in [.5, .6), σ(1) = .73 in [.7, .8), σ(1.5) = .818 and σ(2) = .881 in [.8, .9)
    expected = (abs(0.5 - p[0]) + abs(0 - p[1]) + abs(1 + 0 - p[1.5] - p[2])) / 4
    assert found["ece"]["estimate"] == pytest.approx(expected, abs=1e-6)
    rows = [(row["predicted"], row["observed"], row["n"]) for row in found["reliability"]]
    by_hand = [(0.5, 0.5, 1), (p[1.0], 0.0, 1), ((p[1.5] + p[2.0]) / 2, 0.5, 2)]
    assert rows == [pytest.approx(row) for row in by_hand]
    # the margins 1.5, −1, −2 and 0 are wrong on balance: the best temperature is the highest there is
    assert found["temperature"]["estimate"] == pytest.approx(100)


def test_ties_and_a_source_of_ties_are_dropped() -> None:
    tied = ScoredRankings(
        torch.tensor([5.0, -5.0, 1.0, 0.0]), torch.tensor([1, 1, 1, 2]), torch.tensor([0, 0, 1, 1]),
        torch.tensor([1, 2, 3, 4]), ["ties", "pairs"], torch.tensor([0, 1]),
    )  # fmt: skip
    found = reward_report(tied, seed=0)
    assert set(found["by_source"]) == {"pairs"}
    assert found["accuracy"]["n"] == 1
    assert found["nll"]["estimate"] == pytest.approx(softplus(-1.0))


def test_of_source_keeps_what_belongs_together(rankings: ScoredRankings) -> None:
    part = rankings.of_source("a")
    assert part.segments.tolist() == [0, 0, 0, 1, 1]
    assert_close(part.scores, torch.tensor([2.0, 0.5, 3.0, 0.7, 0.7]))
    assert len(pairs_of(part).correct) == 3


def test_several_people_who_ranked_one_prompt_are_one_prompt(rankings: ScoredRankings) -> None:
    """A second person orders the first prompt's responses otherwise: right on 2 of its 4 strict pairs now."""
    first, rest = slice(0, 3), slice(3, None)
    again = ScoredRankings(
        scores=torch.cat([rankings.scores[first], rankings.scores[first], rankings.scores[rest]]),
        ranks=torch.cat(
            [rankings.ranks[first], torch.tensor([2, 1, 2]), rankings.ranks[rest]]
        ),  # 0.5 above 2.0 and 3.0
        segments=torch.cat([rankings.segments[first], torch.tensor([1, 1, 1]), rankings.segments[rest] + 1]),
        lengths=torch.cat([rankings.lengths[first], rankings.lengths[first], rankings.lengths[rest]]),
        sources=["a", "a", "b", "a"],
        prompts=torch.tensor([0, 0, 1, 2]),
    )
    once, twice = reward_report(rankings, seed=0), reward_report(again, seed=0)
    assert (once["accuracy"]["estimate"], once["accuracy"]["n"]) == (pytest.approx((0.5 + 0 + 0.5) / 3), 3)
    assert (twice["accuracy"]["estimate"], twice["accuracy"]["n"]) == (pytest.approx((0.25 + 0 + 0.5) / 3), 3)
    assert twice["counts"] == {"prompts": 3, "rankings": 4, "comparisons": 6, "tied_scores": 1}
    assert once["length_bias"]["spearman"]["n"] == twice["length_bias"]["spearman"]["n"] == 3
    assert twice["by_source"]["a"]["accuracy"]["n"] == 2


def test_equal_things_have_one_number() -> None:
    assert numbered(["b", "a", "b", "c", "a"]).tolist() == [0, 1, 0, 2, 1]


def test_intervals_are_over_prompts_not_pairs() -> None:
    """Each prompt's pairs are copies of one another: ten times the pairs tell nothing new."""
    few = over_prompts(lambda rows: float(rows.float().mean()), torch.arange(6), seed=0)
    copied = torch.arange(6).repeat_interleave(10)
    many = over_prompts(lambda rows: float((rows // 10).float().mean()), copied, seed=0)
    assert (few.low, few.high, few.n) == pytest.approx((many.low, many.high, many.n))


def test_headline_has_every_source(rankings: ScoredRankings) -> None:
    shown = headline(reward_report(rankings, seed=0))
    assert {"accuracy", "accuracy: a", "accuracy: b"} <= set(shown)
    assert all(set(figure) == {"estimate", "low", "high", "n"} for figure in shown.values())


def test_headline_gives_each_figure_its_own_name(rankings: ScoredRankings) -> None:
    report = reward_report(rankings, seed=0)
    shown = headline(report)
    assert shown["accuracy"] == report["accuracy"]
    assert shown["accuracy: b"] == report["by_source"]["b"]["accuracy"]
    assert shown["accuracy of the longer answer"] == report["length_bias"]["longer_wins"]
    assert shown["calibration error"] == report["calibration"]["ece"]
    assert "accuracy: a" not in headline(reward_report(rankings.of_source("a"), seed=0))  # it would be said twice


def test_reliability_by_hand() -> None:
    found = reliability(torch.tensor([0.55, 0.62, 0.68, 1.0]).double(), torch.tensor([1.0, 0.0, 1.0, 1.0]).double())
    rows = [(row["predicted"], row["observed"], row["n"]) for row in found]
    assert rows == [pytest.approx(row) for row in [(0.55, 1.0, 1), (0.65, 0.5, 2), (1.0, 1.0, 1)]]


def test_rankings_without_a_strict_pair_say_that_nothing_is_known() -> None:
    ranks, segments, lengths = torch.tensor([1, 1]), torch.tensor([0, 0]), torch.tensor([1, 2])
    tied = ScoredRankings(torch.zeros(2), ranks, segments, lengths, ["ties"], torch.tensor([0]))
    found = accuracy_and_nll(pairs_of(tied), seed=0)
    assert found["accuracy"] == found["nll"] == {"estimate": None, "low": 0.0, "high": 1.0, "n": 0}
    nothing = over_prompts(lambda _: 1.0, torch.zeros(0, dtype=torch.long), seed=0)
    assert math.isnan(nothing.estimate)
    assert nothing.n == 0


def test_rows_of_a_prompt_are_resampled_together_wherever_they_stand() -> None:
    segments = torch.tensor([0, 1, 0, 1])
    found = over_prompts(lambda rows: float((segments[rows] == 0).float().mean()), segments, seed=0)
    assert (found.estimate, found.low, found.high, found.n) == (0.5, 0.0, 1.0, 2)  # one prompt twice, or both


def test_a_prompts_mean_of_several_pairs_counts_for_more_than_one_trial():
    # means 1, ½, ½, 0 of two pairs each: variance 1/6, error 1/24, so .25 · 24 = 6 trials
    outcomes, prompts = torch.tensor([1.0, 1, 1, 0, 0, 1, 0, 0]), torch.tensor([0, 0, 1, 1, 2, 2, 3, 3])
    found, six = share(outcomes, prompts), wilson(3, 6)
    assert (found.estimate, found.low, found.high, found.n) == (0.5, six.low, six.high, 4)
    # prompts that are wholly right or wrong are a trial each, however many pairs they have
    whole = share(torch.tensor([1.0, 1, 0, 0, 1, 1]), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert (whole.low, whole.high) == (wilson(2, 3).low, wilson(2, 3).high)
    alike = share(torch.ones(6), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert (alike.low, alike.high, alike.n) == (wilson(3, 3).low, 1.0, 3)
    # a mean over prompts, not over pairs
    uneven = share(torch.tensor([1.0, 1, 1, 1, 0]), torch.tensor([0, 0, 0, 0, 1]))
    assert uneven.estimate == 0.5
