"""Products with weights in the order in which the processor reads them.

torch puts a bfloat16 weight into blocks for every product anew, which for the few rows of a step of drawing takes as
long as the product. What is multiplied many times is packed once: 1.3 to 1.9 times as fast up to 64 rows, a tenth
beyond, and bit for bit the same numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

MOST = 1 << 30
"""Bytes that packed copies of a model's weights take at most; a larger model is multiplied by as it stands."""


def can_pack(weight: Tensor) -> bool:
    """Whether this torch and this processor have such products for this weight."""
    usual = weight.device.type == "cpu" and weight.dtype == torch.bfloat16 and torch.backends.mkldnn.is_available()
    return usual and hasattr(torch.ops.mkldnn, "_linear_pointwise") and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def pack(weight: Float[Tensor, "out in"]) -> Tensor:
    """The weight in blocks, for `packed_product` alone."""
    packed: Tensor = torch.ops.mkldnn._reorder_linear_weight(weight.detach())
    return packed


def packed_product(x: Float[Tensor, "... in"], packed: Tensor, bias: Tensor | None = None) -> Float[Tensor, "... out"]:
    """x·Wᵀ + b, without a gradient."""
    found: Tensor = torch.ops.mkldnn._linear_pointwise(x, packed, bias, "none", [], "")
    return found


def fits(weights: Iterable[Tensor], copies: int) -> bool:
    """Whether so many packed copies of each may be kept."""
    return copies * sum(weight.nbytes for weight in weights) <= MOST


class PackedWeight:
    """A weight `[in, out]` that is not trained, packed when it is first multiplied by; not where `packs` is False."""

    def __init__(self, packs: bool) -> None:
        self.packs = packs
        self._of: tuple[int, int] | None = None
        self._packed: dict[bool, Tensor] = {}

    def __deepcopy__(self, _: object) -> PackedWeight:
        return PackedWeight(self.packs)

    def product(self, x: Tensor, weight: Tensor, bias: Tensor | None = None, back: bool = False) -> Tensor:
        """x·W + b; `back`: x·Wᵀ, for a gradient."""
        if not self.packs or not can_pack(weight):
            matrix = weight.t() if back else weight
            return x @ matrix if bias is None else torch.addmm(bias, x, matrix)
        if (of := (weight.data_ptr(), weight._version)) != self._of:  # other weights, as inside `Trunk.merged`
            self._of, self._packed = of, {}
            self._alive = weight.detach()  # or another could come to stand at its address
        if back not in self._packed:
            self._packed[back] = pack(weight if back else weight.t())
        return packed_product(x, self._packed[back], bias)


@contextmanager
def packing(body: nn.Module) -> Iterator[None]:
    """Linear layers multiply by packed copies of their weights inside the block, without a gradient."""
    linear: list[Any] = [module for module in body.modules() if type(module) in (nn.Linear, Conv1D)]
    layers = [layer for layer in linear if can_pack(layer.weight)]
    for layer in layers if fits([layer.weight for layer in layers], 1) else []:
        matrix = layer.weight if type(layer) is nn.Linear else layer.weight.t()
        layer.forward = partial(packed_product, packed=pack(matrix), bias=layer.bias)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("forward", None)
