"""From hidden states to logits, as the model's own forward does it: head, bias, scale and cap.

Some models do more than multiply by a matrix: Gemma 2 caps its logits, Cohere and Granite scale them, BERT transforms
what goes in. Instead of a list of what each does, the model's own forward is called with its transformer taken out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import PreTrainedModel
from transformers.utils import ModelOutput

from heed.errors import CheckpointError
from heed.models.packed import can_pack, pack, packed_product
from heed.rows.threads import is_small

PROBE = 8
"""Tokens that the model is asked about, spread over its vocabulary."""
HINT = "use a decoder-only language model, such as those in docs/architectures.md"
FAILURES = (TypeError, ValueError, KeyError, IndexError, AttributeError, NotImplementedError, RuntimeError)
"""What an architecture's own code may raise where it cannot be run as it is run here."""


@dataclass
class Passed(ModelOutput):
    """What a transformer gives, where it only hands on what it was given."""

    last_hidden_state: Tensor | None = None
    past_key_values: None = None
    hidden_states: None = None
    attentions: None = None
    cross_attentions: None = None
    router_logits: None = None


class Passing(nn.Module):
    """Stands where the transformer was."""

    def forward(self, *_: Any, inputs_embeds: Tensor, **__: Any) -> Passed:
        return Passed(last_hidden_state=inputs_embeds)


class Readout(nn.Module):
    """Logits from flat hidden states, by the model's own forward without its transformer."""

    def __init__(self, shell: nn.Module) -> None:
        super().__init__()
        self.shell = shell

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.shell(inputs_embeds=hidden[None]).logits[0]
        return logits


def readout_of(model: PreTrainedModel) -> nn.Module:
    """What gives a model's logits from its last hidden states, in float32: GPT-2's logits lie around −35, where
    neighbouring bfloat16 numbers are 0.25 apart.

    The output head alone where that is all there is. Weights are the model's own where they are float32, a copy
    elsewhere. Raises `CheckpointError` where neither gives the logits of the stock forward.
    """
    found = _exact_readout(model)
    if model.dtype == torch.float32:
        return found
    if type(found) is nn.Linear and can_pack(found.weight) and not is_small(model):
        return PackedHead(found)
    return copy.deepcopy(found).float().requires_grad_(False)


class PackedHead(nn.Module):
    """A frozen linear head of bfloat16 weights, in float32; what was rounded to bfloat16 is multiplied as that."""

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = head.weight, None if head.bias is None else head.bias.detach().float()
        with bfloat16_operands():
            self.packed = pack(head.weight.float())

    def forward(self, hidden: Float[Tensor, "tokens width"]) -> Float[Tensor, "tokens vocab"]:
        found: Tensor = HeadProduct.apply(hidden, self)  # type: ignore[no-untyped-call]
        return found


class HeadProduct(torch.autograd.Function):
    """The logits of a `PackedHead`, with the gradient of what it read."""

    @staticmethod
    def forward(ctx: Any, hidden: Float[Tensor, "tokens width"], head: PackedHead) -> Tensor:
        ctx.weight, ctx.dtype = head.weight, hidden.dtype
        with bfloat16_operands() if hidden.dtype == torch.bfloat16 else nullcontext():
            return packed_product(hidden.float(), head.packed, head.bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return (gradient @ ctx.weight.float()).to(ctx.dtype), None


@contextmanager
def bfloat16_operands() -> Iterator[None]:
    """Float32 products inside the block take their operands as bfloat16, where the processor has instructions for it,
    and add in float32: exact where the operands are such numbers, and half the time (64 × 768 × 50,257: 99 → 55 ms).

    The switch is the process's: no other thread may multiply meanwhile.
    """
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before, products.fp32_precision = products.fp32_precision, "bf16"
    try:
        yield
    finally:
        products.fp32_precision = before


def probe_tokens(model: PreTrainedModel) -> Tensor:
    """A row of tokens to ask a model about."""
    rows = model.config.get_text_config().vocab_size
    return torch.linspace(0, rows - 1, PROBE + 2, device=model.device).long()[None, 1:-1]


@torch.no_grad()
def _exact_readout(model: PreTrainedModel) -> nn.Module:
    tokens = probe_tokens(model)
    try:
        stock = model(input_ids=tokens, use_cache=False).logits[0]
        hidden = model.base_model(input_ids=tokens, use_cache=False).last_hidden_state[0]
    except torch.OutOfMemoryError:
        raise
    except FAILURES as error:
        raise _refused(model, f"its forward fails: {type(error).__name__}: {error}") from None
    if not stock.isfinite().all():
        hint = "its weights are damaged: copy the file or train it again"
        raise CheckpointError(str(model.config.name_or_path), "its logits are not finite", hint)
    head: nn.Module | None = model.get_output_embeddings()
    if head is not None and torch.equal(head(hidden), stock):
        return head
    names = {id(module): name for name, module in model.named_modules()}
    for body in (model.get_decoder(), model.base_model):
        readout = Readout(without(model, names[id(body)]))
        try:
            if torch.equal(readout(hidden), stock):
                return readout
        except FAILURES:
            continue
    raise _refused(model, "its logits cannot be had from its last hidden states")


def without(model: nn.Module, path: str) -> nn.Module:
    """The same modules, by reference, with another that hands on its input at the dotted `path`."""
    name, _, rest = path.partition(".")
    shell = copy.copy(model)
    shell._modules = {**model._modules, name: without(model.get_submodule(name), rest) if rest else Passing()}
    return shell


def _refused(model: PreTrainedModel, why: str) -> CheckpointError:
    told = f"{type(model).__name__} cannot be trained here: {why}"
    return CheckpointError(str(model.config.name_or_path), " ".join(told.split()), HINT)
