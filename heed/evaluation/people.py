"""People as judges: what the rankings of the labeling page say of the very answers that are evaluated."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from heed.records import Dialogue, Ranking
from heed.words import clean

Outcomes = list[float | None]
"""By prompt, how far a model's answer was preferred to the baseline's: 1, ½, 0, a mean of several; None: not judged."""


class Rankings:
    """Rankings by people, looked up by prompt and responses."""

    def __init__(self, rankings: Iterable[Ranking]) -> None:
        self._by_prompt: dict[Dialogue, list[Ranking]] = defaultdict(list)
        for ranking in rankings:
            self._by_prompt[ranking.prompt].append(ranking)

    def outcomes(self, prompts: Sequence[Dialogue], ours: Sequence[str], theirs: Sequence[str]) -> Outcomes:
        """Mean over the people who ranked both answers to a prompt; equal answers and equal ranks are half a win.

        Rankings were mended where they were read (no control characters), so the answers are looked up mended.
        """
        cleaned = (map(clean, side) for side in (ours, theirs))
        return [self._outcome(*one) for one in zip(prompts, *cleaned, strict=True)]

    def _outcome(self, prompt: Dialogue, ours: str, theirs: str) -> float | None:
        told = []
        for ranking in self._by_prompt.get(prompt, ()):
            if ours in ranking.responses and theirs in ranking.responses:
                a, b = (ranking.ranks[ranking.responses.index(text)] for text in (ours, theirs))
                told.append(0.5 * (1 + (a < b) - (a > b)))
        return sum(told) / len(told) if told else None
