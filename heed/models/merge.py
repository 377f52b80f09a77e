"""Models without adapters and without a normalisation of their own: what other libraries load and serve.

A reward model's score is `gain · head(h) + bias`. The gain goes into the head's weights; the bias has no place in the
stock classes, whose heads add none. It goes into the bias of the last layer norm, along the head: with
δ = bias · v / |v|², v·(h + δ) = v·h + bias for every h.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from heed.errors import CheckpointError
from heed.models.layout import layout_of
from heed.models.policy import Policy, save_policy
from heed.models.scalar_head import RewardModel, kind_of, save_scalar
from heed.models.trunk import Trunk

CLOSE = 1e-4
"""How exactly a shift of the last hidden states must be the one that was asked for."""


def merged_policy(policy: Policy, dtype: torch.dtype) -> Policy:
    """The policy as a model of its own: its adapter is added to the weights in float32, and rounded to `dtype` then."""
    trunk = policy.trunk.merged_copy(policy.adapter)
    trunk.model.to(dtype)
    return Policy(trunk, None)


def merged_reward(model: RewardModel) -> tuple[RewardModel, float]:
    """The reward model as a float32 model of its own whose raw score is the normalised one, less what is returned: the
    bias where the architecture has no place for it (a last norm without bias), else 0.

    Raises `CheckpointError` where transformers has no class for a reward model of this architecture.
    """
    layout = layout_of(model.trunk.model, kind_of(model))
    if layout.stock is None:
        hint = "use it with heed, or train the reward model on another architecture (docs/architectures.md)"
        raise CheckpointError(model.trunk.name, layout.why, hint)
    trunk = model.trunk.merged_copy(model.adapter)
    head = nn.Linear(trunk.width, 1, bias=False).requires_grad_(False)
    head.weight.data.copy_(model.gain * model.head.weight)
    line = head.weight[0]
    delta = model.bias * line / line.square().sum()
    left = 0.0 if model.bias == 0 or _shifted(trunk, delta) else model.bias
    return RewardModel(trunk, None, head, 1.0, left), left


def save_merged(model: Policy | RewardModel, path: Path) -> None:
    """Write weights, config and tokenizer; `score` of a reward model's stock class is the normalised score."""
    if isinstance(model, Policy):
        save_policy(model, path)
    else:
        save_scalar(model, path)


@torch.no_grad()
def _shifted(trunk: Trunk, delta: Tensor) -> bool:
    """Whether all last hidden states could be moved by `delta`, and then they are: by the bias of the last norm."""
    tokens = torch.arange(min(8, trunk.vocabulary))[None]
    mask = torch.ones_like(tokens, dtype=torch.bool)
    for norm in reversed(_norms(trunk)):
        before, bias = trunk.hidden(tokens, mask), norm.bias.clone()
        norm.bias.data = bias + delta.to(bias)
        moved = trunk.hidden(tokens, mask) - before - delta
        if float(moved.abs().max()) <= CLOSE * max(1.0, float(delta.abs().max())):
            return True
        norm.bias.copy_(bias)
    return False


def _norms(trunk: Trunk) -> list[nn.LayerNorm]:
    """Layer norms of the transformer outside its blocks, which have numbers in their names."""
    return [
        module
        for name, module in trunk.body.named_modules()
        if isinstance(module, nn.LayerNorm)
        and module.bias is not None
        and not any(part.isdigit() for part in name.split("."))
    ]
