"""Whole texts scored by a reward model, in batches of like length: what a text scores does not depend on its batch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

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


def score_texts(
    model: RewardModel,
    texts: Sequence[Sequence[int]],
    microbatch_tokens: int,
    scored: Callable[[int], object] = lambda texts: None,
) -> Float[Tensor, " texts"]:
    """Normalised scores of encoded texts, on the CPU; `scored` is told how many are done."""
    trunk, scores, done = model.trunk, torch.zeros(len(texts)), 0

    def score(rows: list[int]) -> Tensor:
        lengths = torch.tensor([len(texts[i]) for i in rows])
        tokens = pad_sequence([torch.tensor(texts[i]) for i in rows], True, trunk.tokenizer.pad_token_id)
        mask = torch.arange(tokens.shape[1]) < lengths[:, None]
        return model.scores(tokens.to(trunk.device), mask.to(trunk.device)).cpu()

    pieces = trunk.threads.share(list(_of_like_length([len(text) for text in texts], microbatch_tokens)))
    with model.active():
        for rows, found in zip(pieces, trunk.threads.map(score, pieces), strict=True):
            scores[rows] = found
            done += len(rows)
            scored(done)
    return scores


def score_rankings(
    model: RewardModel,
    rankings: Sequence[RankedTexts],
    sources: Sequence[str],
    microbatch_tokens: int,
    scored: Callable[[int], object] = lambda texts: None,
) -> ScoredRankings:
    """Raw scores of every response, in the unit of the loss; `sources[i]` is where ranking i comes from. A text that is
    ranked more than once is scored once."""
    texts = different_texts(rankings)
    raw = score_texts(RewardModel(model.trunk, model.adapter, model.head), list(texts), microbatch_tokens, scored)
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


def _of_like_length(lengths: Sequence[int], microbatch_tokens: int) -> Iterator[list[int]]:
    """Row numbers, longest first, in batches whose padded area stays within `microbatch_tokens` (one row at least)."""
    order = sorted(range(len(lengths)), key=lambda i: -lengths[i])
    while order:
        size = max(1, microbatch_tokens // lengths[order[0]])
        yield order[:size]
        order = order[size:]
