"""What is packed gives the same bits, and is packed only where it may be."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import Linear
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from heed.models import packed
from heed.models.fused_lora import FusedLoraLinear, fuse, merged_weight
from heed.models.packed import PackedWeight, can_pack, pack, packed_product, packing

DTYPES = [torch.float32, torch.bfloat16]
HAS_IT = pytest.mark.skipif(
    not can_pack(torch.zeros(1, dtype=torch.bfloat16)), reason="this processor has no products of bfloat16 numbers"
)


def seeded(*shape: int, seed: int = 0, dtype: torch.dtype = torch.bfloat16) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def layer_of(kind: type, dtype: torch.dtype = torch.bfloat16, bias: bool = True) -> nn.Module:
    torch.manual_seed(0)
    made = Conv1D(48, 96) if kind is Conv1D else nn.Linear(96, 48, bias=bias)
    made.weight.data = seeded(*made.weight.shape, seed=3, dtype=dtype)
    if made.bias is not None:
        made.bias.data = seeded(48, seed=4, dtype=dtype)
    return made.requires_grad_(False)


@HAS_IT
@pytest.mark.parametrize("rows", [1, 7, 64, 500])
@pytest.mark.parametrize("bias", [True, False])
def test_packed_products_have_the_bits_of_plain_ones(rows: int, bias: bool) -> None:
    x, weight, added = seeded(rows, 96), seeded(96, 48, seed=1), seeded(48, seed=2) if bias else None
    own = PackedWeight(packs=True)
    plain = x @ weight if added is None else torch.addmm(added, x, weight)
    assert torch.equal(own.product(x, weight, added), plain)
    assert torch.equal(own.product(plain, weight, back=True), plain @ weight.t())
    assert len(own._packed) == 2


@HAS_IT
def test_another_weight_is_packed_anew() -> None:
    x, weight = seeded(5, 96), seeded(96, 48, seed=1)
    own = PackedWeight(packs=True)
    own.product(x, weight)
    weight.mul_(2)
    assert torch.equal(own.product(x, weight), x @ weight)
    other = seeded(96, 48, seed=7)
    assert torch.equal(own.product(x, other), x @ other)
    same_version = seeded(96, 48, seed=8)
    assert same_version._version == other._version
    assert torch.equal(own.product(x, same_version), x @ same_version)
    copied = copy.deepcopy(own)
    assert copied.packs and torch.equal(copied.product(x, weight), x @ weight)


@pytest.mark.parametrize("why", ["float32", "too many", "turned off"])
def test_what_is_not_packed_is_multiplied_as_it_stands(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "packed_product", lambda *_: pytest.fail("a packed product"))
    if why == "too many":
        monkeypatch.setattr(packed, "MOST", 2 * 96 * 48 * 2 - 1)
    dtype = torch.float32 if why == "float32" else torch.bfloat16
    layer = adapted(layer_of(nn.Linear, dtype))
    fuse(nn.ModuleList([layer]))
    if why == "turned off":
        layer.frozen = PackedWeight(packs=False)
    layer(seeded(5, 96, dtype=dtype))


@HAS_IT
@pytest.mark.parametrize("kind", [nn.Linear, Conv1D])
def test_layers_are_packed_inside_the_block_only(kind: type) -> None:
    layer, x = layer_of(kind), seeded(2, 3, 96)
    body = nn.Sequential(layer, nn.LayerNorm(48, dtype=torch.bfloat16))
    plain = body(x)
    with pytest.raises(ValueError, match="inside"), packing(body):
        assert "forward" in vars(layer)
        assert torch.equal(body(x), plain)
        raise ValueError("inside")
    assert "forward" not in vars(layer)


@pytest.mark.parametrize("why", ["float32", "too many"])
def test_a_block_leaves_other_layers_alone(why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "MOST", 0 if why == "too many" else packed.MOST)
    layer = layer_of(nn.Linear, torch.float32 if why == "float32" else torch.bfloat16)
    with packing(nn.Sequential(layer)):
        assert "forward" not in vars(layer)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("make", [lambda dtype: layer_of(Conv1D, dtype), lambda dtype: layer_of(nn.Linear, dtype)])
def test_adapters_are_merged_as_peft_does(make: Callable[[torch.dtype], nn.Module], dtype: torch.dtype) -> None:
    layer = adapted(make(dtype))
    weight = layer.get_base_layer().weight
    pefts = (weight + layer.get_delta_weight("one")).to(dtype)
    fuse(nn.ModuleList([layer]))
    assert isinstance(layer, FusedLoraLinear)
    assert torch.equal(merged_weight(layer, "one"), pefts)
    assert not torch.equal(pefts, weight)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(FusedLoraLinear, "is_plain", lambda *_: False)
    assert torch.equal(merged_weight(layer, "one"), pefts)
    monkey.undo()


@HAS_IT
def test_pack_takes_a_view() -> None:
    weight, x = seeded(96, 48), seeded(4, 96, seed=1)
    assert torch.equal(packed_product(x, pack(weight.t())), x @ weight)


def adapted(base: nn.Module) -> Linear:
    layer = Linear(
        base, "one", LoraConfig(r=4, lora_alpha=6, fan_in_fan_out=type(base) is Conv1D), r=4, lora_alpha=6,
        fan_in_fan_out=type(base) is Conv1D,
    )  # fmt: skip
    layer._active_adapter = ["one"]
    for seed, matrix in enumerate((layer.lora_A["one"], layer.lora_B["one"])):
        matrix.weight.data = seeded(*matrix.weight.shape, seed=seed + 10, dtype=torch.float32)
    return layer
