"""Attention in bfloat16 on a processor: four batched products and a softmax.

torch's own kernel takes three times as long there, nearly all of it in its backward pass (16 rows, 12 heads, 112
tokens, one thread: 83 ms forward and backward against 24). What is kept for the backward pass grows with the square of
the length, so long rows go to torch's kernel.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

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
        weights = ((query * scale) @ key.transpose(-1, -2)).add_(bias).softmax(dim=-1)
        ctx.save_for_backward(query, key, value, weights)
        ctx.scale = scale
        return weights @ value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, weights = ctx.saved_tensors
        of_weights = gradient @ value.transpose(-1, -2)
        of_scores = torch.ops.aten._softmax_backward_data(of_weights, weights, -1, weights.dtype).mul_(ctx.scale)
        of_value = weights.transpose(-1, -2) @ gradient
        return of_scores @ key, of_scores.transpose(-1, -2) @ query, of_value, None, None


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
    new, time = query.shape[-2], key.shape[-2]
    known = query.dtype == torch.bfloat16 and query.device.type == "cpu" and not dropout and new > 1
    known = known and query.shape[:2] == key.shape[:2] and query.shape[:2].numel() * new * time <= MOST
    known = known and all(kwargs.get(name) is None for name in BEYOND)
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    if not known or (attention_mask is None and not (causal and new == time)):
        options = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal, **kwargs}
        found: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return found
    if attention_mask is None:
        attention_mask = torch.ones(new, time, dtype=torch.bool).tril()
    if attention_mask.dtype == torch.bool:
        least = torch.finfo(query.dtype).min
        attention_mask = torch.zeros(attention_mask.shape, dtype=query.dtype).masked_fill(~attention_mask, least)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attended: Tensor = Attention.apply(query, key, value, attention_mask, scale)  # type: ignore[no-untyped-call]
    return attended.transpose(1, 2).contiguous(), None


def quicken_attention(model: PreTrainedModel) -> None:
    """Let a model use the attention that is fastest where it is: its own, but for bfloat16 on a processor."""
    if model.dtype == torch.bfloat16 and model.device.type == "cpu" and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(NAME)


AttentionInterface.register(NAME, attention_forward)
AttentionMaskInterface.register(NAME, sdpa_mask)
