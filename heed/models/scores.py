"""Whole texts scored by a reward model, in batches of like length: what a text scores does not depend on its batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from heed.formulas.scored_rankings import ScoredRankings, numbered
from heed.models.scalar_head import RewardModel


class RankedTexts(Protocol):
    """A ranking as tokens: whole texts, of which the first `response_start` tokens are the prompt."""

    @property
    def texts(self) -> list[list[int]]: ...

    @property
    def ranks(self) -> list[int]: ...

    @property
    def response_start(self) -> int: ...


class Scoring:
    """Encoded texts that are being scored, piece by piece; a part of a run's state. Scores are normalised."""

    def __init__(self, model: RewardModel, texts: Sequence[Sequence[int]], microbatch_tokens: int) -> None:
        self.model, self.texts = model, texts
        self.pieces: list[list[int]] = model.trunk.threads.share(list(_of_like_length(texts, microbatch_tokens)))
        self.scores, self.done = torch.zeros(len(texts)), 0

    def rest(self) -> Iterator[list[int]]:
        """Score the pieces that are not scored yet, one for each that is taken. Call inside `model.active()`."""
        left = self.pieces[self.done :]
        for rows, scores in zip(left, self.model.trunk.threads.map(self._score, left), strict=True):
            self.scores[rows] = scores
            self.done += 1
            yield rows

    def _score(self, rows: list[int]) -> Tensor:
        trunk, texts = self.model.trunk, self.texts
        lengths = torch.tensor([len(texts[i]) for i in rows])
        tokens = pad_sequence([torch.tensor(texts[i]) for i in rows], True, trunk.tokenizer.pad_token_id)
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]
        return self.model.scores(tokens.to(trunk.device), mask.to(trunk.device)).cpu()

    def state_dict(self) -> dict[str, Any]:
        """The scores so far."""
        return {"scores": self.scores, "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The scores as they were."""
        self.scores, self.done = state["scores"].clone(), int(state["done"])


def score_texts(model: RewardModel, texts: Sequence[Sequence[int]], microbatch_tokens: int) -> Float[Tensor, " texts"]:
    """Normalised scores of encoded texts, on the CPU."""
    scoring = Scoring(model, texts, microbatch_tokens)
    with model.active():
        for _ in scoring.rest():
            pass
    return scoring.scores


def score_rankings(
    model: RewardModel, rankings: Sequence[RankedTexts], sources: Sequence[str], microbatch_tokens: int
) -> ScoredRankings:
    """Raw scores of every response, in the unit of the loss; `sources[i]` is where ranking i comes from. A text that is
    ranked more than once is scored once."""
    raw = score_texts(raw_model(model), list(different_texts(rankings)), microbatch_tokens)
    return scored_rankings(rankings, sources, raw)


def raw_model(model: RewardModel) -> RewardModel:
    """The same model without its normalisation: it scores in the unit of the loss."""
    return RewardModel(model.trunk, model.adapter, model.head)


def scored_rankings(
    rankings: Sequence[RankedTexts], sources: Sequence[str], raw: Float[Tensor, " texts"]
) -> ScoredRankings:
    """Rankings with the scores of their responses; `raw` are those of `different_texts(rankings)`."""
    texts = different_texts(rankings)
    return ScoredRankings(
        scores=raw[[texts[tuple(text)] for ranking in rankings for text in ranking.texts]],
        ranks=torch.tensor([rank for ranking in rankings for rank in ranking.ranks]),
        segments=torch.tensor([i for i, ranking in enumerate(rankings) for _ in ranking.texts]),
        lengths=torch.tensor([len(text) - ranking.response_start for ranking in rankings for text in ranking.texts]),
        sources=sources,
        prompts=numbered(tuple(ranking.texts[0][: ranking.response_start]) for ranking in rankings),
    )


def different_texts(rankings: Sequence[RankedTexts]) -> dict[tuple[int, ...], int]:
    """The texts of rankings, each once, numbered from 0: several people may have ranked the same responses."""
    found: dict[tuple[int, ...], int] = {}
    for ranking in rankings:
        for text in ranking.texts:
            found.setdefault(tuple(text), len(found))
    return found


def _of_like_length(texts: Sequence[Sequence[int]], microbatch_tokens: int) -> Iterator[list[int]]:
    """Row numbers, longest first, in batches whose padded area stays within `microbatch_tokens` (one row at least).
    Neighbours that begin alike stay together, because what they begin with may be read once."""
    groups: list[list[int]] = []
    for i, text in enumerate(texts):
        room = microbatch_tokens // max(1, *(len(texts[j]) for j in [*groups[-1], i])) if groups else 0
        if i and _begin_alike(texts[i - 1], text) and len(groups[-1]) < room:
            groups[-1].append(i)
        else:
            groups.append([i])
    rows: list[int] = []
    longest = 0
    for most, group in sorted(((max(len(texts[i]) for i in group), group) for group in groups), reverse=True):
        if rows and (len(rows) + len(group)) * longest > microbatch_tokens:
            yield rows
            rows = []
        longest = longest if rows else most
        rows = rows + group
    if rows:
        yield rows


def _begin_alike(one: Sequence[int], other: Sequence[int]) -> bool:
    """Whether the first half of the shorter is the same in both."""
    half = max(1, min(len(one), len(other)) // 2)
    return list(one[:half]) == list(other[:half])
