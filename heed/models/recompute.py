"""Activations of a layer computed again for the gradient instead of kept (gradient checkpointing, arXiv 1604.06174).

transformers has this as a mode of training, which heed's models are never in, and which takes the cache from whoever
draws. Here it is a matter of each forward pass: one that builds a gradient, and has no cache, keeps each layer's input
alone.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer

from heed.errors import CheckpointError
from heed.models.line import read_in_line, reading


def recompute_layers(model: PreTrainedModel) -> None:
    """Let every layer of a model do so. Gradients are the same to the bit. Raises `CheckpointError` where the model's
    code does not tell its layers apart."""
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if not layers:
        told = f"no layer of {type(model).__name__} can be computed again"
        raise CheckpointError(str(model.config.name_or_path), told, "set recompute to false")
    for layer in layers:
        layer.__class__ = _recomputed(type(layer))


def recomputes(model: nn.Module) -> bool:
    """Whether layers of a model do so."""
    return any(getattr(module, "is_recomputed", False) for module in model.modules())


def _recomputed(kind: type[nn.Module]) -> type[nn.Module]:
    """The class of a layer with another forward pass: a copy of the model has it too."""

    def forward(self: nn.Module, *given: Any, **named: Any) -> Any:
        plain: Callable[..., Any] = partial(kind.forward, self)
        cached = any(isinstance(value, Cache) for value in (*given, *named.values()))
        if cached or not torch.is_grad_enabled():
            return plain(*given, **named)
        again = partial(_both_times, reading.get())
        return checkpoint(partial(plain, **named), *given, use_reentrant=False, context_fn=again)

    return type(kind.__name__, (kind,), {"forward": forward, "is_recomputed": True})


def _both_times(line: Any) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """How tokens stand when a layer is computed and when it is once more, long after whoever put them in a line."""
    return nullcontext(), nullcontext() if line is None else read_in_line(line)
