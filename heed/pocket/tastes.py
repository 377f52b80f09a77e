"""Tastes of simulated labelers who use the labeling page (`heed label --simulate`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from heed.pocket.labelers import LABELERS, rank
from heed.records import Candidates, Dialogue

Taste = Callable[[Dialogue, Sequence[str], Sequence[bool]], list[int]]


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
