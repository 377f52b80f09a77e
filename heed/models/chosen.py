"""Log-probabilities of written tokens and their gradient, without a row of logits that outlives its chunk.

The gradient of log π(token) by the hidden state does not depend on the loss but for a factor a token, so it is computed
while the logits are there:  ∂ log π(v) / ∂h = (W_v − Σ_u π(u) W_u) / temperature.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel

from heed.formulas.logprobs import log_softmax


class ChosenLogprobs(torch.autograd.Function):
    """log π of one token after each hidden state, in nats; `weight` is the head's, frozen, in the dtype of the trunk.

    In bfloat16 logits are rounded to 8 bits: 0.25 at −35, where GPT-2's lie. Here the product begins at minus the
    chosen token's own logit: softmax cannot tell, what is near it is hardly rounded (random weights of GPT-2's shape:
    0.00013 nats a token against 0.002), and the error is below 2⁻⁸ of the result's nats.
    """

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Float[Tensor, "tokens width"],
        weight: Float[Tensor, "vocab width"],
        tokens: Int[Tensor, " tokens"],
        temperature: float,
        size: int,
    ) -> Float[Tensor, " tokens"]:
        lines, slopes = [], []
        for states, chosen in zip(hidden.split(size), tokens.split(size), strict=True):
            own = weight[chosen].float()
            shift = (states.float() * own).sum(dim=1).to(weight.dtype)
            logits = torch.addmm(-shift[:, None].expand(-1, len(weight)), states, weight.t())
            logprobs = log_softmax(logits, temperature)
            lines.append(logprobs.gather(1, chosen[:, None])[:, 0])
            mean = logprobs.exp_().to(weight.dtype) @ weight
            slopes.append(((own - mean.float()) / temperature).to(hidden.dtype))
        ctx.save_for_backward(torch.cat(slopes))
        return torch.cat(lines)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Float[Tensor, " tokens"]) -> tuple[Tensor | None, ...]:
        (slopes,) = ctx.saved_tensors
        return (gradient[:, None] * slopes).to(slopes.dtype), None, None, None, None


def chosen_logprobs(
    hidden: Float[Tensor, "tokens width"],
    weight: Float[Tensor, "vocab width"],
    tokens: Int[Tensor, " tokens"],
    temperature: float,
    size: int,
) -> Float[Tensor, " tokens"]:
    """`ChosenLogprobs`, `size` tokens at once. Carries the gradient of `hidden`."""
    found: Tensor = ChosenLogprobs.apply(hidden, weight, tokens, temperature, size)  # type: ignore[no-untyped-call]
    return found


def frozen_head(model: PreTrainedModel, head: nn.Module) -> Float[Tensor, "vocab width"] | None:
    """The matrix that gives the logits where that is all there is, and it is not trained; `head` is what gives them."""
    output = model.get_output_embeddings()
    if type(head) is not nn.Linear or head.bias is not None or output.weight.requires_grad:
        return None
    weight: Tensor = output.weight
    return weight
