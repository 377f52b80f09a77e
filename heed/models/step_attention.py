"""Attention of one new token to a roomy cache, as two products over all of the cache's room.

The processor's fused attention is made for many queries: for one it takes four times as long as the two products do
(64 rows of GPT-2's shape, 64 to 100 tokens). Products want contiguous operands, which the part of a cache that is in
use is not, but all of its room is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface

from heed.models import attention
from heed.models.attention import BEYOND, attention_forward, mask_in_rows

NAME = "heed_step"
FEWEST = 1 << 19  # numbers in the keys below which Python's time for several products is more than they save


def step_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    **told: Any,
) -> tuple[Tensor, Tensor | None]:
    """As `attention_forward`: `query` is `[rows, heads, 1, size]`, the result `[rows, 1, heads, size]`. Whatever is
    no step over a roomy cache on a processor is left to it."""
    room = _room(query, key, value)
    if room is None or any(told.get(name) is not None for name in BEYOND):
        return attention_forward(module, query, key, value, attention_mask, scaling=scaling, **told)
    rows, heads, length, size = key.shape
    scale = size**-0.5 if scaling is None else scaling
    asked = query.reshape(rows * heads, -1, size)  # the query heads that share a key head
    keys, values = (_whole(part, room) for part in (key, value))
    weights = torch.bmm(asked, keys.transpose(1, 2)).view(rows, heads, -1, room).float().mul_(scale)
    weights[..., length:] = -torch.inf
    if attention_mask is not None:
        seen = weights[..., :length]
        mask = attention_mask[..., :length]
        if mask.shape[1] != 1:
            mask = mask.reshape(rows, heads, -1, length)
        seen.masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else seen.add_(mask)
    shares = weights.softmax(dim=-1).to(value.dtype).view(rows * heads, -1, room)
    drawn = torch.bmm(shares, values).view(rows, 1, -1, value.shape[-1])
    return drawn, None


def _room(query: Tensor, key: Tensor, value: Tensor) -> int | None:
    """Tokens that the cache behind `key` and `value` has room for; None where there is no such cache, or no gain."""
    if query.shape[2] != 1 or query.device.type != "cpu" or key.numel() < FEWEST or key.dtype != query.dtype:
        return None
    room = key.stride(1) // max(1, key.stride(2))
    for part in (key, value):
        heads, size = part.shape[1], part.shape[-1]
        if part.stride() != (heads * room * size, room * size, size, 1) or part.storage_offset() != 0:
            return None
    return room


def _whole(part: Tensor, room: int) -> Tensor:
    rows, heads, _, size = part.shape
    return part.as_strided((rows * heads, room, size), (room * size, size, 1))


@contextmanager
def stepping(model: PreTrainedModel) -> Iterator[None]:
    """Steps of `model` attend as above inside the block, where they would else by `sdpa`, or by what training takes
    in its place."""
    before = model.config._attn_implementation
    changed = before in ("sdpa", attention.NAME) and model.device.type == "cpu"
    changed = changed and model._can_set_attn_implementation()
    if changed:
        model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        if changed:
            model.set_attn_implementation(before)


AttentionInterface.register(NAME, step_attention)
AttentionMaskInterface.register(NAME, mask_in_rows)
