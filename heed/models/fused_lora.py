"""A linear layer and its adapter as one function: y = xW + b + s·(xAᵀ)Bᵀ.

peft computes the second term in float32 and keeps a float32 copy of the input for its backward pass. Here both terms
are in the dtype of the frozen weights, which is how autocast would compute them: A and B stay float32 parameters, and
are rounded for the product only. Parameters, their names and files are peft's.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from peft.tuners.lora.layer import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.pytorch_utils import Conv1D

from heed.models.packed import PackedWeight, fits


class LoraProduct(torch.autograd.Function):
    """The product of flat inputs; `weight` is `[in, out]` and frozen, and so gets no gradient. Kept for the backward
    pass: the input, and what A makes of it."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "tokens in"],
        a: Float[Tensor, "rank in"],
        b: Float[Tensor, "out rank"],
        weight: Float[Tensor, "in out"],
        bias: Float[Tensor, " out"] | None,
        scale: float,
        frozen: PackedWeight,
    ) -> Float[Tensor, "tokens out"]:
        inner = x @ a.to(x.dtype).t()
        y = frozen.product(x, weight, bias)
        ctx.save_for_backward(x, inner, a, b, weight)
        ctx.scale, ctx.frozen = scale, frozen
        if x.dtype == torch.bfloat16:
            return y.addmm_(inner, (b * scale).to(x.dtype).t())
        return y.add_((inner @ b.to(x.dtype).t()).mul_(scale))  # peft's bits

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, inner, a, b, weight = ctx.saved_tensors
        of_inner = gradient @ (b * ctx.scale).to(x.dtype)
        of_x = None
        if ctx.needs_input_grad[0]:
            of_x = ctx.frozen.product(gradient, weight, None, back=True).addmm_(of_inner, a.to(x.dtype))
        of_a = (of_inner.t() @ x).to(a.dtype) if ctx.needs_input_grad[1] else None
        of_b = (gradient.t() @ inner).to(b.dtype) * ctx.scale if ctx.needs_input_grad[2] else None
        return of_x, of_a, of_b, None, None, None, None


class FusedLoraLinear(Linear):
    """peft's layer with another forward, where it is a frozen linear layer with one plain adapter; elsewhere its own
    (dropout on the adapter's input, weights that are trained, autocast)."""

    frozen: PackedWeight

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        name = self._understood(x) if not args and not kwargs else None
        if name is None:
            found: Tensor = super().forward(x, *args, **kwargs)
            return found
        base = self.get_base_layer()
        weight = base.weight if isinstance(base, Conv1D) else base.weight.t()
        matrices = self.lora_A[name].weight, self.lora_B[name].weight
        rest = weight, base.bias, self.scaling[name], self.frozen
        y = LoraProduct.apply(x.reshape(-1, x.shape[-1]), *matrices, *rest)  # type: ignore[no-untyped-call]
        result: Tensor = y.view(*x.shape[:-1], y.shape[-1])
        return result

    def is_plain(self, name: str) -> bool:
        """Whether an adapter is two matrices and nothing beside."""
        return (
            type(self.get_base_layer()) in (nn.Linear, Conv1D)
            and name not in self.lora_variant
            and self.lora_A[name].bias is None
            and self.lora_B[name].bias is None
        )

    def _understood(self, x: Tensor) -> str | None:
        """The adapter to use; None where peft's own forward is."""
        base, names = self.get_base_layer(), self._active_adapter
        if len(names) != 1 or names[0] not in self.lora_A:
            return None
        name: str = names[0]
        plain = self.is_plain(name) and not self.merged and not self.disable_adapters
        drops = self.training and not isinstance(self.lora_dropout[name], nn.Identity)
        frozen = not any(parameter.requires_grad for parameter in base.parameters())
        kind = x.device.type
        cast = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        cast = cast or x.dtype != base.weight.dtype
        return name if plain and frozen and not drops and not cast else None


def fuse(model: nn.Module) -> None:
    """Let every adapted linear layer of a model use the fused form. Layers of other kinds stay as they are."""
    layers: list[Any] = [layer for layer in model.modules() if type(layer) in (Linear, FusedLoraLinear)]
    packs = fits([layer.get_base_layer().weight for layer in layers], copies=2)
    for layer in layers:
        if type(layer) is Linear:
            layer.__class__, layer.frozen = FusedLoraLinear, PackedWeight(packs)


@torch.no_grad()
def merged_weight(layer: Any, name: str) -> Tensor:
    """The weight of a layer with an adapter in it, to the bit as peft merges them."""
    base = layer.get_base_layer()
    weight: Tensor = base.weight
    if not isinstance(layer, FusedLoraLinear) or not layer.is_plain(name):
        peft: Tensor = (weight + layer.get_delta_weight(name)).to(weight.dtype)
        return peft
    a, b = layer.lora_A[name].weight, layer.lora_B[name].weight
    delta = a.t() @ b.t() if type(base) is Conv1D else b @ a  # in the weight's own layout: four times as fast
    merged: Tensor = delta.mul_(layer.scaling[name]).add_(weight).to(weight.dtype)
    return merged
