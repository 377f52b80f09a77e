"""Typed batches: what `data` builds and `models` reads. Prompts are padded on the left, all else on the right."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True)
class PromptBatch:
    """Prompts to answer. LEFT padded, so that every row's next token stands at the same index."""

    tokens: Int[Tensor, "batch prompt"]
    mask: Bool[Tensor, "batch prompt"]


@dataclass(frozen=True)
class SFTBatch:
    """Prompt and response in one row. RIGHT padded; `response_mask` is True on response tokens, EOS included."""

    tokens: Int[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]
    response_mask: Bool[Tensor, "batch time"]


@dataclass(frozen=True)
class RankingBatch:
    """Prompts, LEFT padded, and what follows them, RIGHT padded; `segments` numbers the prompt of each response."""

    prompts: PromptBatch
    tokens: Int[Tensor, "responses time"]
    mask: Bool[Tensor, "responses time"]
    ranks: Int[Tensor, " responses"]
    segments: Int[Tensor, " responses"]
