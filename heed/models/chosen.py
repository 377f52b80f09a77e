"""Log-probabilities of written tokens and their gradient, without a row of logits that outlives its chunk.

The gradient of log π(token) by the hidden state does not depend on the loss but for a factor a token, so it is computed
while the logits are there:  ∂ log π(v) / ∂h = (W_v − Σ_u π(u) W_u) / temperature.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from heed.formulas.logprobs import log_softmax
from heed.models.readout import PackedHead


class ChosenLogprobs(torch.autograd.Function):
    """log π of one token after each hidden state, in nats; `logits` makes float32 logits of hidden states, those that
    written tokens are scored with, so that the ratio of a policy that has not moved is 1 exactly. `weight` is the
    head's, frozen, in the dtype of the trunk: the gradient's product is in that."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "tokens width"],
        weight: Float[Tensor, "vocab width"],
        tokens: Int[Tensor, " tokens"],
        temperature: float,
        size: int,
        logits: Callable[[Tensor], Tensor],
    ) -> Float[Tensor, " tokens"]:
        lines, slopes = [], []
        for states, chosen in zip(hidden.split(size), tokens.split(size), strict=True):
            logprobs = log_softmax(logits(states), temperature)
            lines.append(logprobs.gather(1, chosen[:, None])[:, 0])
            mean = logprobs.exp_().to(weight.dtype) @ weight
            slopes.append(((weight[chosen].float() - mean.float()) / temperature).to(hidden.dtype))
        ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(lines)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, " tokens"]) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return (gradient[:, None] * slopes).to(slopes.dtype), None, None, None, None, None


def chosen_logprobs(
    hidden: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocab width"],
    tokens: Int[Tensor, " tokens"],
    temperature: float,
    size: int,
    logits: Callable[[Tensor], Tensor],
) -> Float[Tensor, " tokens"]:
    """`ChosenLogprobs`, `size` tokens at once. Carries the gradient of `hidden`."""
    arguments = hidden, weight, tokens, temperature, size, logits
    found: Tensor = ChosenLogprobs.apply(*arguments)  # type: ignore[no-untyped-call]
    return found


def frozen_head(model: PreTrainedModel, head: nn.Module) -> Float[Tensor, "vocab width"] | None:
    """The matrix that gives the logits where that is all there is, and it is not trained; `head` is what gives them."""
    output = model.get_output_embeddings()
    if type(head) not in (nn.Linear, PackedHead) or head.bias is not None or output.weight.requires_grad:
        return None
    weight: Tensor = output.weight
    return weight
