"""Attention on a processor: to tokens in one line as `heed.models.line` has them, and in bfloat16 by four products.

torch's own kernel takes three times as long in bfloat16, nearly all of it in its backward pass (16 rows, 12 heads, 112
tokens, two threads: 45 ms forward and backward against 16). What is kept for the backward pass grows with the square of
the length, so long rows go to torch's kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from heed.models.line import InLine, InRows, Line, reading

NAME = "heed_sdpa"
MOST = 1 << 25
"""Probabilities of one layer that are kept at most: 64 MB."""
BEYOND = ("position_bias", "cache", "softcap", "s_aux")
"""What some models ask for, and is left to transformers."""


class Attention(torch.autograd.Function):
    """softmax(scale·QKᵀ + bias)V."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Float[Tensor, "batch heads new size"],
        key: Float[Tensor, "batch heads time size"],
        value: Float[Tensor, "batch heads time size"],
        bias: Float[Tensor, "... new time"],
        scale: float,
    ) -> Float[Tensor, "batch heads new size"]:
        weights, attended = attend(query, key, value, bias, scale)
        ctx.save_for_backward(query, key, value, weights)
        ctx.scale = scale
        return attended

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights = ctx.saved_tensors
        of_weights = gradient @ value.transpose(-1, -2)
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype).mul_(ctx.scale)
        of_value = weights.transpose(-1, -2) @ gradient
        return of_scores @ key, of_scores.transpose(-1, -2) @ query, of_value, None, None


def attend(query: Tensor, key: Tensor, value: Tensor, bias: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """The weights, rounded for the gradient, and what is attended to. Products are in float32, as in torch's kernel.

    A trained model's scores lie around 30, where neighbouring bfloat16 numbers are 0.125 apart: with rounded scores its
    log-probabilities were 0.12 nats from those of float32 at the 99th percentile, with torch's kernel 0.07.
    """
    weights = (query.float() @ key.float().transpose(-1, -2)).mul_(scale).add_(bias).softmax(dim=-1)
    attended = weights @ value.float()
    return weights.to(query.dtype), attended.to(query.dtype)


def attention_forward(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """As transformers' `sdpa_attention_forward`."""
    options = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, **kwargs}
    if (line := reading.get()) is not None:
        return line_attention_forward(module, query, key, value, line, **options), None
    new, time = query.shape[-2], key.shape[-2]
    known = query.dtype == torch.bfloat16 and query.device.type == "cpu" and not dropout and new > 1
    known = known and query.shape[:2] == key.shape[:2] and query.shape[:2].numel() * new * time <= MOST
    known = known and all(kwargs.get(name) is None for name in BEYOND)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if not known or (attention_mask is None and not (causal and new == time)):
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return found
    if attention_mask is None:
        attention_mask = causal_mask(time)
    if attention_mask.dtype == torch.bool:
        attention_mask = bias_of(attention_mask)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attended: Tensor = Attention.apply(query, key, value, attention_mask, scale)  # type: ignore[no-untyped-call]
    return attended.transpose(1, 2).contiguous(), None


def line_attention_forward(
    module: nn.Module,
    query: Float[Tensor, "1 heads tokens size"],
    key: Float[Tensor, "1 key_heads tokens size"],
    value: Float[Tensor, "1 key_heads tokens size"],
    line: Line,
    scaling: float | None = None,
    dropout: float = 0.0,
    **options: Any,
) -> Float[Tensor, "1 tokens heads size"]:
    """As `attention_forward`, of a line."""
    rows = [InRows.apply(part[0], line) for part in (query, key, value)]  # type: ignore[no-untyped-call]
    known = query.dtype == torch.bfloat16 and not dropout and len(query[0]) == len(key[0])
    known = known and len(query[0]) * line.rows * line.time**2 <= MOST
    if known and all(options.get(name) is None for name in BEYOND):
        scale = query.shape[-1] ** -0.5 if scaling is None else scaling
        found = Attention.apply(*rows, bias_of(causal_mask(line.time)), scale)  # type: ignore[no-untyped-call]
    else:
        options |= {"dropout": dropout, "scaling": scaling}
        by_row, _ = sdpa_attention_forward(module, *(part.transpose(0, 1) for part in rows), None, **options)
        found = by_row.permute(2, 0, 1, 3)
    attended: Tensor = InLine.apply(found, line)  # type: ignore[no-untyped-call]
    return attended.transpose(0, 1).contiguous()[None]


def causal_mask(time: int) -> Bool[Tensor, "time time"]:
    """What each token sees: itself and what is before it."""
    return torch.ones(time, time, dtype=torch.bool).tril()


def bias_of(mask: Bool[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """What is added to scores: 0 where a token is seen, the least number elsewhere."""
    return torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(torch.float32).min)


def mask_in_rows(*arguments: Any, **options: Any) -> Tensor | None:
    """As transformers' `sdpa_mask`; a line needs none."""
    if reading.get() is not None:
        return None
    found: Tensor | None = sdpa_mask(*arguments, **options)
    return found


def quicken_attention(model: PreTrainedModel) -> None:
    """Let a model that is on a processor use the attention that is fastest there."""
    if model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


def attends_lines(model: PreTrainedModel) -> bool:
    """Whether the attention of every layer is the one above, and every token sees all that is before it."""
    text = model.config.get_text_config()
    windowed = any(getattr(text, name, None) for name in ("sliding_window", "attention_chunk_size"))
    everything = not windowed and set(getattr(text, "layer_types", None) or ()) <= {"full_attention"}
    return everything and model.config._attn_implementation == NAME


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, mask_in_rows)
