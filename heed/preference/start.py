"""Where a reward model's weights begin: as the SFT model with a new head, or as an earlier reward model."""

from __future__ import annotations

import torch

from heed.errors import CheckpointError, ConfigError
from heed.models.checkpoint import Checkpoint, open_checkpoint
from heed.models.load import load_tokenizer
from heed.models.policy import Policy
from heed.models.roles import Shelf, trained_copy
from heed.models.scalar_head import RewardModel, new_head
from heed.settings.common import AdapterSettings


def check_start(name: str, lora: AdapterSettings, sft: Checkpoint) -> Checkpoint:
    """The reward model to go on from, which must read what the SFT model writes, and train as `lora` says."""
    start = open_checkpoint(name, "reward")
    if not start.is_adapter and lora.rank:
        told = f"{start.name} has weights of its own, and an adapter would need them as its base"
        raise ConfigError("lora.rank", told, "set it to 0 to go on with all weights, or start from an adapter")
    if start.metadata.get("template", sft.metadata.get("template")) != sft.metadata.get("template"):
        told = f"was trained with template {start.template}, but {sft.name} with {sft.template}"
        raise CheckpointError(start.name, told, "start from a reward model with the SFT model's template")
    if load_tokenizer(start.path).get_vocab() != load_tokenizer(sft.path).get_vocab():
        told = f"its tokenizer has other entries than that of {sft.name}"
        raise CheckpointError(start.name, told, "start from a reward model with the SFT model's tokenizer")
    return start


def untrained(reference: Policy, lora: AdapterSettings, seed: int) -> RewardModel:
    """The SFT model with a new scalar head in place of its last layer."""
    body = trained_copy(reference, "reward", lora)
    head = new_head(body.trunk.width, torch.Generator().manual_seed(seed)).requires_grad_(False)
    return RewardModel(body.trunk, body.adapter, head.to(body.trunk.device))


def earlier(shelf: Shelf, checkpoint: Checkpoint, lora: AdapterSettings) -> RewardModel:
    """The reward model to go on from: a copy of its weights and its head, without its normalisation."""
    start = shelf.reward_model(checkpoint, "start")
    body = trained_copy(Policy(start.trunk, start.adapter), "reward", lora)
    return RewardModel(body.trunk, body.adapter, start.head.requires_grad_(False))
