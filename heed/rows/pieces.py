"""Rows of a batch in pieces of similar length: what is padding in all rows of a piece is not computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields

import torch
from torch import Tensor
from torch.nn.functional import pad

from heed.batches import PromptBatch, Responses
from heed.rows.microbatches import microbatches
from heed.rows.threads import SERIAL, RowThreads


def by_length(prompts: PromptBatch, responses: Responses, size: int) -> list[Tensor]:
    """Row numbers in pieces, as of `alike`."""
    return alike(prompts.mask.sum(dim=1) + responses.lengths, size)


def alike(lengths: Tensor, size: int) -> list[Tensor]:
    """Row numbers in pieces of like length, longest first; none is larger than `size` rows of the longest."""
    budget = size * int(lengths.max())
    groups = microbatches(lengths.tolist(), budget, lengths.device.type)
    return [torch.tensor(group, device=lengths.device) for group in groups]


def take(prompts: PromptBatch, responses: Responses, rows: Tensor) -> tuple[PromptBatch, Responses]:
    """Some rows, without the columns that are padding in all of them."""
    width, length = int(prompts.mask[rows].sum(dim=1).max()), int(responses.mask[rows].sum(dim=1).max())
    asked = PromptBatch(prompts.tokens[rows, -width:], prompts.mask[rows, -width:])
    answered = [getattr(responses, field.name)[rows, :length] for field in fields(Responses)]
    return asked, Responses(*answered)


def in_pieces(
    prompts: PromptBatch,
    responses: Responses,
    size: int,
    compute: Callable[[PromptBatch, Responses], Tensor],
    threads: RowThreads = SERIAL,
) -> Tensor:
    """`compute` on pieces of rows, without gradient: `[batch]` or `[batch, response]`, in the order of the rows."""
    pieces = threads.share(by_length(prompts, responses, size))
    results = list(threads.map(lambda rows: compute(*take(prompts, responses, rows)), pieces))
    return restore(results, pieces, responses)


def restore(results: Sequence[Tensor], pieces: list[Tensor], responses: Responses) -> Tensor:
    """Results of pieces back in the order of the rows; `[batch, response]` results are padded with 0."""
    restored = results[0].new_zeros(responses.mask.shape[: results[0].ndim])
    for rows, result in zip(pieces, results, strict=True):
        if result.ndim == 1:
            restored[rows] = result
        else:
            restored[rows, : result.shape[1]] = result
    return restored


def stack(drawn: Sequence[Responses], pad_id: int) -> Responses:
    """Responses of several batches below each other."""
    longest = max(part.mask.shape[1] for part in drawn)

    def column(name: str, fill: float) -> Tensor:
        return torch.cat([pad(getattr(part, name), (0, longest - part.mask.shape[1]), value=fill) for part in drawn])

    return Responses(column("tokens", pad_id), column("mask", False), column("logprobs", 0.0))


def to_device(prompts: PromptBatch, device: torch.device) -> PromptBatch:
    """The same prompts where the model is."""
    return PromptBatch(prompts.tokens.to(device), prompts.mask.to(device))
