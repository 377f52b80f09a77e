"""A model that is not as it should be, for the length of a block: in lower precision, or with dropout on."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from heed.models.policy import Policy


@contextmanager
def in_dtype(policy: Policy, dtype: torch.dtype, folded: bool) -> Iterator[Policy]:
    """A copy of the policy in another dtype, its head too, with the adapter `folded` in or beside the weights."""
    trunk = policy.trunk
    with trunk.merged(policy.adapter) if folded else trunk.active(policy.adapter):
        other = copy.copy(trunk)
        other.model = copy.deepcopy(trunk.model).to(dtype)
    other.body = other.model.base_model
    other.head = other.model.get_output_embeddings()
    yield Policy(other, None if folded else policy.adapter)


@contextmanager
def dropping(model: nn.Module, modules: Sequence[nn.Dropout], share: float) -> Iterator[None]:
    """Training mode with that share of dropout in some modules, and none elsewhere, for the block."""
    modes = [(module, module.training) for module in model.modules()]
    shares = [(module, module.p) for module in model.modules() if isinstance(module, nn.Dropout)]
    for one, _ in shares:
        one.p = 0.0
    for chosen in modules:
        chosen.p = share
    model.train()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for one, before in shares:
            one.p = before
