"""Tastes of simulated labelers who use the labeling page (`heed label --simulate`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from heed.pocket.gold import Judgement, judge
from heed.pocket.labelers import LABELERS, TEMPERATURE, rank, ranks_of
from heed.records import Candidates, Dialogue

Taste = Callable[[Dialogue, Sequence[str], Sequence[bool]], list[int]]
LONG = 14  # words; a thorough person has heard enough


def curt(judged: Judgement) -> float:
    """As few words as will do."""
    return -0.4 * judged.words


def courteous(judged: Judgement) -> float:
    """Warm words, and none that hurt."""
    return 3.0 * judged.warmth - 2.0 * judged.rude


def thorough(judged: Judgement) -> float:
    """Whole sentences, and something beside the bare answer."""
    return 0.4 * min(judged.words, LONG) + judged.complete


TASTES: dict[str, Callable[[Judgement], float]] = {"curt": curt, "courteous": courteous, "thorough": thorough}
"""What three people like, besides an answer that is right and comes to its end."""


def liking(name: str, prompt: Dialogue, response: str, finished: bool = True) -> float:
    """How much the person of this taste likes a response, in the unit of the gold score; as everybody they want it
    right, readable and finished."""
    judged = judge(prompt, response, finished)
    fit = 1.5 * judged.credit - 2.0 * judged.noise - judged.repeats - 2.0 * (not judged.answered) - 2.0 * (not finished)
    return fit + TASTES[name](judged)


def by_liking(name: str, seed: int) -> Taste:
    """One of `TASTES` through the noise of the steadiest of `LABELERS`."""
    rng, reliability = np.random.default_rng([seed, 7]), max(labeler.reliability for labeler in LABELERS)

    def taste(prompt: Dialogue, responses: Sequence[str], finished: Sequence[bool]) -> list[int]:
        likes = [liking(name, prompt, text, end) for text, end in zip(responses, finished, strict=True)]
        return list(ranks_of(reliability / TEMPERATURE * np.asarray(likes) + rng.gumbel(size=len(likes))))

    return taste


def by_gold(seed: int, number: int) -> Taste:
    """The gold score through the noise of one of `LABELERS`: as people of the pocket world rank."""
    labeler, rng = LABELERS[number % len(LABELERS)], np.random.default_rng([seed, number])

    def taste(prompt: Dialogue, responses: Sequence[str], finished: Sequence[bool]) -> list[int]:
        return list(rank(Candidates(prompt, tuple(responses), tuple(finished)), labeler, rng).ranks)

    return taste


def by_chance(seed: int, number: int) -> Taste:
    """A random order: what labels without any opinion look like on the quality page."""
    rng = np.random.default_rng([seed, number])

    def taste(prompt: Dialogue, responses: Sequence[str], finished: Sequence[bool]) -> list[int]:
        return [int(place) + 1 for place in rng.permutation(len(responses))]

    return taste
