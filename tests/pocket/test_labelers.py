"""Simulated labelers: Bradley–Terry odds, ties, agreement, broken responses."""

from __future__ import annotations

import random
from itertools import pairwise

import numpy as np
import pytest

from heed.pocket.generate import answer, ranking_prompts
from heed.pocket.gold import judge
from heed.pocket.labelers import (
    BROKEN,
    LABELERS,
    TIE,
    Labeler,
    agreement,
    degenerate,
    gold_scores,
    rank,
    ranks_of,
    simulate,
    temperature_for,
)
from heed.pocket.tasks import task_of
from heed.records import Candidates, Ranking, Turn


def like_sft_samples(seed: int, n: int, wrong: float = 0.5) -> list[Candidates]:
    """Four answers a prompt in the demonstrations' styles."""
    rng = random.Random(seed)
    return [
        Candidates(row.prompt, tuple(answer(task_of(row.prompt), rng, wrong) for _ in range(4)), (True,) * 4)
        for row in ranking_prompts(seed, n)
    ]


def test_ranks_by_hand() -> None:
    #  2.0 best · 1.0 second · 0.95 is within 0.15 of it · −1.0 last
    assert ranks_of([1.0, -1.0, 2.0, 0.95]) == (2, 3, 1, 2)
    assert ranks_of([0.5]) == (1,)
    # neighbours within the margin chain into one rank
    assert ranks_of([0.0, 0.9 * TIE, 1.8 * TIE]) == (1, 1, 1)


def test_the_odds_are_bradley_terry() -> None:
    """Of the strict pairs, the better one wins with σ(ρ·Δ / temperature), up to the margin for ties."""
    prompt = (Turn("user", "what colour is the apple?"),)
    candidates = Candidates(prompt, ("it is red.", "it is blue."), (True, True))  # gold 3.5 and 1: Δ = 2.5
    rng = np.random.default_rng(0)
    ranks = [rank(candidates, Labeler("zoe", 0.8), rng, temperature=2.5).ranks for _ in range(20_000)]
    # the difference of two Gumbels is logistic; P(strictly better) = σ(x − TIE), P(strictly worse) = σ(−x − TIE)
    x = 0.8 * 2.5 / 2.5
    better, worse = 1 / (1 + np.exp(-(x - TIE))), 1 / (1 + np.exp(x + TIE))
    assert np.mean([r == (1, 2) for r in ranks]) == pytest.approx(better, abs=0.012)
    assert np.mean([r == (2, 1) for r in ranks]) == pytest.approx(worse, abs=0.012)
    assert np.mean([r == (1, 1) for r in ranks]) == pytest.approx(1 - better - worse, abs=0.012)


def test_the_same_text_gets_the_same_rank() -> None:
    prompt = (Turn("user", "what colour is the apple?"),)
    candidates = Candidates(prompt, ("red.", "it is red.", "red.", "red."), (True, True, True, False))
    for seed in range(50):
        ranks = rank(candidates, LABELERS[4], np.random.default_rng(seed)).ranks
        assert ranks[0] == ranks[2]
    unfinished_alone = [rank(candidates, LABELERS[4], np.random.default_rng(seed)).ranks for seed in range(50)]
    assert any(ranks[3] != ranks[0] for ranks in unfinished_alone)  # cut off, so another response


def test_two_labelers_agree_as_the_papers_do() -> None:
    train, held_out = like_sft_samples(0, 800), like_sft_samples(1, 800)
    temperature = temperature_for(train)
    measured = agreement(simulate(held_out, 5, temperature=temperature), simulate(held_out, 6, temperature=temperature))
    assert measured.n > 3000
    assert measured.estimate == pytest.approx(0.73, abs=0.015 + (measured.high - measured.low) / 2)


def test_agreement_by_hand() -> None:
    def ranking(*ranks: int) -> Ranking:
        return Ranking((), ("a", "b", "c"), ranks, (True,) * 3)

    # pairs ab, ac, bc: the first ties ab; of ac and bc only ac is ordered alike
    measured = agreement([ranking(1, 1, 2)], [ranking(1, 3, 2)])
    assert (measured.estimate, measured.n) == (0.5, 2)


def test_a_higher_temperature_means_less_agreement() -> None:
    candidates = like_sft_samples(2, 300)
    shares = [agreement(*(simulate(candidates, s, temperature=t) for s in (0, 1))).estimate for t in (0.3, 1.5, 8.0)]
    assert shares[0] > shares[1] + 0.1 > shares[1] > shares[2] + 0.05


def test_reliable_labelers_follow_the_gold_order_more() -> None:
    candidates = like_sft_samples(3, 400)
    truth = [
        Ranking(each.prompt, each.responses, ranks_of(np.array(gold_scores(each)) * 1e6), each.finished)
        for each in candidates
    ]
    shares = [
        agreement(truth, [rank(each, labeler, np.random.default_rng(i)) for i, each in enumerate(candidates)]).estimate
        for labeler in (LABELERS[0], LABELERS[-1])
    ]
    assert shares[0] > shares[1] + 0.03


def test_broken_responses() -> None:
    whole = like_sft_samples(4, 600, wrong=0.0)
    broken = degenerate(whole, seed=0)
    pairs = [(a, b) for a, b in zip(whole, broken, strict=True) if a != b]
    assert len(pairs) / len(whole) == pytest.approx(BROKEN, abs=0.06)
    changed = [
        (judge(a.prompt, old).score, judge(b.prompt, new, finished).score)
        for a, b in pairs
        for old, new, finished in zip(a.responses, b.responses, b.finished, strict=True)
        if (old, True) != (new, finished)
    ]
    assert len(changed) == len(pairs)  # one a set
    assert np.mean([new < old for old, new in changed]) > 0.9
    assert any(not finished for each in broken for finished in each.finished)
    assert all(response for each in broken for response in each.responses)


def test_the_seed_decides() -> None:
    candidates = like_sft_samples(5, 30)
    assert simulate(candidates, 1) == simulate(candidates, 1) != simulate(candidates, 2)
    assert degenerate(candidates, 1) == degenerate(candidates, 1) != degenerate(candidates, 2)
    assert {ranking.labeler for ranking in simulate(candidates, 1)} <= {labeler.name for labeler in LABELERS}


def test_several_different_people_rank_a_set() -> None:
    candidates = like_sft_samples(6, 20)
    rankings = simulate(candidates, 0, people=3)
    assert [ranking.prompt for ranking in rankings] == [each.prompt for each in candidates for _ in range(3)]
    asked = [{ranking.labeler for ranking in rankings[i : i + 3]} for i in range(0, 60, 3)]
    assert all(len(people) == 3 for people in asked) and len({frozenset(people) for people in asked}) > 3
    assert any(a.ranks != b.ranks for a, b in pairwise(rankings[:3]))
