"""Simulated labelers: people who see the gold score through noise, and broken responses for them to rank.

A labeler of reliability ρ feels a utility for each response and orders by it:

    u = ρ·score / TEMPERATURE + g        g ~ Gumbel(0, 1)

so that a stands above b with the Bradley–Terry probability σ(ρ·(score_a − score_b) / TEMPERATURE). Neighbours that
are closer than `TIE`, and responses that are the same text, get the same rank.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from heed.formulas.statistics import Estimate, wilson
from heed.pocket.generate import LONGEST
from heed.pocket.gold import judge
from heed.pocket.words import spell, tokens
from heed.records import Candidates, Ranking

TARGET = 0.73  # share of pairs on which two labelers agree, of those that both order (the paper: 72.6 ± 1.5 %)
TEMPERATURE = 0.9  # from `temperature_for` on SFT samples, broken ones included; see docs/pocket-world.md
TIE = 0.15  # in units of the noise, whose standard deviation is 1.28
BROKEN = 0.25  # share of candidate sets that get one broken response


@dataclass(frozen=True)
class Labeler:
    """A simulated person. `reliability` divides the temperature."""

    name: str
    reliability: float


LABELERS = (
    Labeler("anton", 1.5),
    Labeler("berta", 1.2),
    Labeler("carla", 1.0),
    Labeler("dieter", 0.85),
    Labeler("ewa", 0.7),
)


def gold_scores(candidates: Candidates) -> list[float]:
    """The gold score of each response."""
    judged = zip(candidates.responses, candidates.finished, strict=True)
    return [judge(candidates.prompt, response, finished).score for response, finished in judged]


def rank(
    candidates: Candidates, labeler: Labeler, rng: np.random.Generator, temperature: float = TEMPERATURE
) -> Ranking:
    """One labeler's ranking of the candidates by their gold scores through noise."""
    noise = rng.gumbel(size=len(candidates.responses))[_alikes(candidates)]
    ranks = _felt(gold_scores(candidates), labeler, noise, temperature)
    return Ranking(
        candidates.prompt,
        candidates.responses,
        ranks,
        candidates.finished,
        labeler=labeler.name,
        source=candidates.source,
        group=candidates.group,
    )


def simulate(
    candidates: Iterable[Candidates], seed: int, people: int = 1, temperature: float = TEMPERATURE
) -> list[Ranking]:
    """Each set of candidates ranked by `people` different labelers, drawn at random, one after the other."""
    rng = np.random.default_rng(seed)
    return [
        rank(each, LABELERS[i], rng, temperature)
        for each in candidates
        for i in rng.permutation(len(LABELERS))[:people]
    ]


def ranks_of(utilities: ArrayLike) -> tuple[int, ...]:
    """1 for the highest; the next rank begins where the utility falls by `TIE` or more."""
    values = np.asarray(utilities)
    order = np.argsort(-values, kind="stable")
    falls = [values[above] - values[below] >= TIE for above, below in pairwise(order)]
    ranks = np.empty(len(order), dtype=int)
    ranks[order] = 1 + np.cumsum([0, *falls])
    return tuple(ranks.tolist())


def agreement(rankings: Iterable[Ranking], others: Iterable[Ranking]) -> Estimate:
    """How often two rankings of the same responses order a pair alike, of the pairs that both order."""
    both = zip(rankings, others, strict=True)
    alike = [same for a, b in both for same in _alike(a.ranks, b.ranks)]
    return wilson(sum(alike), len(alike))


def temperature_for(candidates: Sequence[Candidates], target: float = TARGET, seed: int = 0) -> float:
    """The temperature at which two random labelers agree on `target` of the pairs of these sets of responses.

    Found by bisection on the logarithm, with the same labelers and the same noise at every temperature.
    """
    rng, scores = np.random.default_rng(seed), [gold_scores(each) for each in candidates]
    two = [[LABELERS[i] for i in rng.integers(len(LABELERS), size=2)] for _ in candidates]
    noise = [rng.gumbel(size=(2, len(each.responses)))[:, _alikes(each)] for each in candidates]

    def agreed(temperature: float) -> float:
        ranks = [
            [_felt(each, labeler, own, temperature) for labeler, own in zip(labelers, noises, strict=True)]
            for each, labelers, noises in zip(scores, two, noise, strict=True)
        ]
        same = [alike for a, b in ranks for alike in _alike(a, b)]
        return sum(same) / len(same)

    low, high = 0.05, 50.0
    for _ in range(20):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if agreed(middle) > target else (low, middle)
    return math.sqrt(low * high)


def degenerate(candidates: Iterable[Candidates], seed: int, share: float = BROKEN) -> list[Candidates]:
    """The candidates, with one response broken in a `share` of the sets.

    Broken: cut off, looping until the length limit, said twice, shuffled, or a mark only.
    """
    rng = random.Random(f"broken {seed}")
    return [_with_broken(each, rng) if rng.random() < share else each for each in candidates]


def _felt(scores: Sequence[float], labeler: Labeler, noise: NDArray[np.float64], temperature: float) -> tuple[int, ...]:
    return ranks_of(np.asarray(scores) * labeler.reliability / temperature + noise)


def _alikes(candidates: Candidates) -> list[int]:
    """For each response the first that is the same: the same text is felt the same."""
    pairs = list(zip(candidates.responses, candidates.finished, strict=True))
    return [pairs.index(pair) for pair in pairs]


def _alike(ranks: Sequence[int], others: Sequence[int]) -> list[bool]:
    """For each pair that both order: whether in the same order."""
    return [
        (ranks[i] < ranks[j]) == (others[i] < others[j])
        for i, j in combinations(range(len(ranks)), 2)
        if ranks[i] != ranks[j] and others[i] != others[j]
    ]


def _with_broken(candidates: Candidates, rng: random.Random) -> Candidates:
    place = rng.randrange(len(candidates.responses))
    said = tokens(candidates.responses[place]) or ["."]
    breakage, finished = rng.choice(BREAKAGES)
    broken = spell(breakage(said, rng)[:LONGEST])
    responses, ends = list(candidates.responses), list(candidates.finished)
    responses[place], ends[place] = broken, finished
    return replace(candidates, responses=tuple(responses), finished=tuple(ends))


Breakage = Callable[[list[str], random.Random], list[str]]
BREAKAGES: tuple[tuple[Breakage, bool], ...] = (  # what becomes of the words, and whether the text still ends itself
    (lambda said, rng: said[: max(1, len(said) // 2)], False),
    (lambda said, rng: said + said[-rng.randint(1, 3) :] * LONGEST, False),
    (lambda said, rng: said + said, True),
    (lambda said, rng: rng.sample(said, len(said)), True),
    (lambda said, rng: ["."], True),
)
