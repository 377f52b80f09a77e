"""Simulated labelers: people who see the gold score through noise, and broken responses for them to rank.

A labeler of reliability ρ feels a utility for each response and orders by it:

    u = ρ·score / TEMPERATURE + g        g ~ Gumbel(0, 1)

so that a stands above b with the Bradley–Terry probability σ(ρ·(score_a − score_b) / TEMPERATURE). Responses that are
the same text, or next to each other by less than `TIE`, get the same rank.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, pairwise

import numpy as np

from heed.pocket.generate import LONGEST
from heed.pocket.gold import judge
from heed.pocket.words import spell, tokens
from heed.records import Candidates, Ranking

TARGET = 0.73  # agreement of two labelers on the pairs that both order (the paper's labelers: 72.6 ± 1.5 %)
TEMPERATURE = 2.0
TIE = 0.15  # in units of the Gumbel noise, whose standard deviation is 1.28


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


def rank(
    candidates: Candidates, labeler: Labeler, rng: np.random.Generator, temperature: float = TEMPERATURE
) -> Ranking:
    """One labeler's ranking of the candidates by their gold scores through noise."""
    same = [candidates.responses.index(response) for response in candidates.responses]  # a text is judged once
    judged = zip(candidates.responses, candidates.finished, strict=True)
    scores = np.array([judge(candidates.prompt, response, finished).score for response, finished in judged])
    noise = rng.gumbel(size=len(scores))
    ranks = ranks_of((scores * labeler.reliability / temperature + noise)[same])
    return Ranking(
        candidates.prompt, candidates.responses, ranks, candidates.finished, labeler.name, None, candidates.source,
        candidates.group,
    )  # fmt: skip


def ranks_of(utilities: Sequence[float]) -> tuple[int, ...]:
    """1 for the best; the next rank begins where the utility falls by `TIE` or more."""
    order = np.argsort(-np.asarray(utilities), kind="stable")
    falls = [utilities[above] - utilities[below] >= TIE for above, below in pairwise(order)]
    ranks = np.empty(len(order), dtype=int)
    ranks[order] = 1 + np.cumsum([0, *falls])
    return tuple(ranks.tolist())


def simulate(candidates: Iterable[Candidates], seed: int, temperature: float = TEMPERATURE) -> list[Ranking]:
    """Each set of candidates ranked by one labeler, drawn at random."""
    rng = np.random.default_rng(seed)
    return [rank(each, LABELERS[rng.integers(len(LABELERS))], rng, temperature) for each in candidates]


def agreement(rankings: Iterable[Ranking], others: Iterable[Ranking]) -> Estimate:
    """How often two rankings of the same responses order a pair alike, of the pairs that both order (ties dropped)."""
    alike = [
        (a.ranks[i] < a.ranks[j]) == (b.ranks[i] < b.ranks[j])
        for a, b in zip(rankings, others, strict=True)
        for i, j in combinations(range(len(a.ranks)), 2)
        if a.ranks[i] != a.ranks[j] and b.ranks[i] != b.ranks[j]
    ]
    return wilson(sum(alike), len(alike))
