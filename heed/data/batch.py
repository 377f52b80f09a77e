"""Encoded rows → padded batches. Prompts are padded on the left, everything else on the right."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from heed.batches import PromptBatch, RankingBatch, SFTBatch
from heed.data.encode import EncodedDemonstration, EncodedRanking


def prompt_batch(prompts: Sequence[list[int]], pad_id: int) -> PromptBatch:
    """Prompts padded on the left to the longest of them."""
    tokens, mask = _padded(prompts, pad_id, left=True)
    return PromptBatch(tokens, mask)


def sft_batch(examples: Sequence[EncodedDemonstration], pad_id: int) -> SFTBatch:
    """Demonstrations padded on the right, with the mask of the tokens to learn."""
    tokens, mask = _padded([example.tokens for example in examples], pad_id, left=False)
    starts = torch.tensor([example.response_start for example in examples])
    return SFTBatch(tokens, mask, mask & (torch.arange(tokens.shape[1]) >= starts[:, None]))


def ranking_batch(rankings: Sequence[EncodedRanking], pad_id: int) -> RankingBatch:
    """Every prompt once, and the responses of all rankings one after the other. A prompt's last token stands before
    each of its responses, so that an empty one has a token to be scored at."""
    starts = [ranking.response_start - 1 for ranking in rankings]
    read_once = [ranking.texts[0][:start] for ranking, start in zip(rankings, starts, strict=True)]
    rest = [text[start:] for ranking, start in zip(rankings, starts, strict=True) for text in ranking.texts]
    ranks = torch.tensor([rank for ranking in rankings for rank in ranking.ranks])
    segments = torch.tensor([i for i, ranking in enumerate(rankings) for _ in ranking.texts])
    return RankingBatch(prompt_batch(read_once, pad_id), *_padded(rest, pad_id, left=False), ranks, segments)


def token_budget_batches(
    lengths: Sequence[int], microbatch_tokens: int, rows: Sequence[int] | None = None
) -> list[list[int]]:
    """Indices parted into batches of like length, longest first, so that little is padding.

    A batch's padded area (its rows times its longest length) stays within `microbatch_tokens`, unless a single item is
    larger by itself. `rows[i]` is the number of rows that item i brings along, for example a ranking's responses.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    batches: list[list[int]] = []
    used = 0
    for i in order:
        height = 1 if rows is None else rows[i]
        if not batches or (used + height) * lengths[batches[-1][0]] > microbatch_tokens:
            batches.append([])
            used = 0
        batches[-1].append(i)
        used += height
    return batches


def text_rows(
    documents: Sequence[Int[Tensor, " time"] | Sequence[int]], sequence: int, eos_id: int
) -> Int[Tensor, "rows sequence"]:
    """Running text in rows of `sequence` tokens. Each document is followed by EOS; a short last row is dropped."""
    end = torch.tensor([eos_id], dtype=torch.int64)
    parts = [part for document in documents for part in (torch.as_tensor(document, dtype=torch.int64), end)]
    stream = torch.cat(parts) if parts else end[:0]
    rows = len(stream) // sequence
    return stream[: rows * sequence].view(rows, sequence)


def _padded(
    rows: Sequence[list[int]], pad_id: int, left: bool
) -> tuple[Int[Tensor, "batch time"], Bool[Tensor, "batch time"]]:
    longest = max(1, *(len(row) for row in rows))
    tokens = torch.full((len(rows), longest), pad_id, dtype=torch.int64)
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for i, row in enumerate(rows):
        place = slice(longest - len(row), longest) if left else slice(0, len(row))
        tokens[i, place] = torch.tensor(row, dtype=torch.int64)
        mask[i, place] = True
    return tokens, mask
