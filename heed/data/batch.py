"""Encoded rows → padded batches. Prompts are padded on the left, everything else on the right."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

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


def ranking_batch(tasks: Sequence[Sequence[EncodedRanking]], pad_id: int) -> RankingBatch:
    """Labeling tasks (`labeling_tasks`): every prompt once, every response once, all rankings of them.

    A prompt's last token stands before each of its responses, so that an empty one has a token to be scored at.
    """
    read_once = [own.texts[0][: own.response_start - 1] for own, *_ in tasks]
    rest = [text[own.response_start - 1 :] for own, *_ in tasks for text in own.texts]
    firsts = accumulate((len(own.texts) for own, *_ in tasks), initial=0)
    rankings = [
        (i, first, own.ranks) for i, (first, task) in enumerate(zip(firsts, tasks, strict=False)) for own in task
    ]
    return RankingBatch(
        prompt_batch(read_once, pad_id),
        *_padded(rest, pad_id, left=False),
        segments=torch.tensor([i for i, (own, *_) in enumerate(tasks) for _ in own.texts]),
        ranks=torch.tensor([rank for _, _, ranks in rankings for rank in ranks]),
        ranked=torch.tensor([first + k for _, first, ranks in rankings for k in range(len(ranks))]),
        rankings=torch.tensor([number for number, (_, _, ranks) in enumerate(rankings) for _ in ranks]),
        tasks=torch.tensor([i for i, _, _ in rankings]),
    )


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
