"""Batches that `data` builds and `models` reads and writes. Prompts are padded on the left, all else on the right."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class PromptBatch:
    """Prompts to answer. LEFT padded, so that every row's next token stands at the same index."""

    tokens: Int[Tensor, "batch prompt"]
    mask: Bool[Tensor, "batch prompt"]


@dataclass(frozen=True)
class Responses:
    """What was drawn. RIGHT padded; `mask` is True on drawn tokens, the first end-of-text token included.

    `logprobs` are the sampler's own, in nats of the distribution that the token was drawn from.
    """

    tokens: Int[Tensor, "batch response"]
    mask: Bool[Tensor, "batch response"]
    logprobs: Float[Tensor, "batch response"]

    @property
    def lengths(self) -> Int[Tensor, " batch"]:
        return self.mask.sum(dim=1)

    def finished(self, eos: int | Collection[int]) -> Bool[Tensor, " batch"]:
        """True where the response ended itself, with `eos` or one of them."""
        last = self.tokens.gather(1, (self.lengths - 1).clamp(min=0)[:, None])[:, 0]
        return torch.isin(last, torch.tensor(sorted({eos} if isinstance(eos, int) else eos), device=last.device))


@dataclass(frozen=True)
class SFTBatch:
    """Prompt and response in one row. RIGHT padded; `response_mask` is True on response tokens, EOS included."""

    tokens: Int[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]
    response_mask: Bool[Tensor, "batch time"]


@dataclass(frozen=True)
class RankingBatch:
    """Labeling tasks: prompts, LEFT padded, what follows them, RIGHT padded, and everybody's rankings of it."""

    prompts: PromptBatch
    tokens: Int[Tensor, "responses time"]
    mask: Bool[Tensor, "responses time"]
    segments: Int[Tensor, " responses"]  # the task of each response
    ranks: Int[Tensor, " ranked"]
    ranked: Int[Tensor, " ranked"]  # the response that each rank is of
    rankings: Int[Tensor, " ranked"]  # the ranking that it belongs to
    tasks: Int[Tensor, " rankings"]  # the task of each ranking
