"""Who is who: models by role, on as few trunks as their checkpoints allow.

Checkpoints that are adapters of one base share one frozen trunk in memory, each under a name of its own. Stages see
policies and reward models and cannot tell whether weights are shared.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from heed.errors import CheckpointError
from heed.models.checkpoint import Checkpoint, open_checkpoint
from heed.models.external_reward import ExternalReward
from heed.models.load import parameter_count
from heed.models.policy import Policy
from heed.models.reader import same_reader
from heed.models.recompute import recompute_layers
from heed.models.scalar_head import RewardModel, ScalarModel, ValueModel, load_head
from heed.models.trunk import Trunk
from heed.settings.common import AdapterSettings


class Shelf:
    """Loads checkpoints, each base only once. `pick` gives the dtype of frozen weights for so many parameters;
    `recomputes`: activations are computed again for the gradient."""

    def __init__(self, pick: Callable[[int], torch.dtype], device: torch.device, recomputes: bool = False) -> None:
        self.pick, self.device, self.recomputes = pick, device, recomputes
        self.trunks: dict[str, Trunk] = {}

    def trunk(self, checkpoint: Checkpoint, headless: bool = False) -> Trunk:
        """The frozen weights under a checkpoint; `headless`: they need not predict tokens."""
        name = checkpoint.weights
        place = str(Path(name).resolve()) if Path(name).is_dir() else name
        if place not in self.trunks:
            self.trunks[place] = Trunk.load(checkpoint, self.pick(parameter_count(name)), self.device, headless)
            if self.recomputes:
                recompute_layers(self.trunks[place].model)
        return self.trunks[place]

    def policy(self, name: str | Checkpoint, role: str) -> Policy:
        """A language model by checkpoint or its name; `role` names its adapter in the trunk."""
        checkpoint = open_checkpoint(name, "policy") if isinstance(name, str) else name
        trunk = self.trunk(checkpoint)
        if trunk.headless:
            told = "is the transformer of a reward model, which predicts no tokens"
            raise CheckpointError(checkpoint.name, told, "give a language model")
        return Policy(trunk, self._adapter(trunk, checkpoint, role))

    def reward_model(self, name: str | Checkpoint, role: str) -> RewardModel:
        """A reward model by checkpoint or its name, with the normalisation that its training measured."""
        checkpoint = open_checkpoint(name, "reward") if isinstance(name, str) else name
        head, bias = load_head(checkpoint)
        trunk = self.trunk(checkpoint, headless=True)
        if head.in_features != trunk.width:
            told = (
                f"its head reads {head.in_features:,} numbers, but hidden states of {trunk.name} have {trunk.width:,}"
            )
            raise CheckpointError(checkpoint.name, told, "use the base model that the reward model was trained on")
        measured = checkpoint.metadata.get("reward", {})
        gain = measured.get("gain", 1.0)
        adapter = self._adapter(trunk, checkpoint, role, head=True)
        return RewardModel(trunk, adapter, head.to(self.device), gain, gain * bias + measured.get("bias", 0.0))

    def _adapter(self, trunk: Trunk, checkpoint: Checkpoint, role: str, head: bool = False) -> str | None:
        if not checkpoint.is_adapter:
            return None
        trunk.attach(role, checkpoint, head)
        return role


def weight_count(checkpoint: Checkpoint) -> int:
    """Weights of the transformer under a checkpoint, from its config alone."""
    return parameter_count(checkpoint.weights)


@dataclass(frozen=True)
class Roles:
    """The four models of PPO. `reference` and `reward` never change."""

    policy: Policy
    reference: Policy
    reward: RewardModel | ExternalReward
    value: ValueModel


def trained_copy(policy: Policy, role: str, lora: AdapterSettings) -> Policy:
    """A policy that starts equal to `policy` and may be trained: a copy of its adapter, a fresh adapter (rank > 0),
    or a float32 model of its own (rank 0)."""
    if lora.rank == 0:
        return Policy(policy.trunk.merged_copy(policy.adapter), None)
    if policy.adapter is not None:
        policy.trunk.copy_adapter(policy.adapter, role)
    else:
        policy.trunk.add_adapter(role, lora)
    return Policy(policy.trunk, role)


def load_roles(
    shelf: Shelf, model: str | Checkpoint, reward: RewardModel | ExternalReward, lora: AdapterSettings
) -> Roles:
    """The roles as PPO begins: policy = reference = SFT model, value model = reward model.

    With an external reward model the value model starts from the SFT model with a head of zeros. Raises
    `CheckpointError` where the reward model does not read the tokens that the policy writes.
    """
    reference = shelf.policy(model, "reference")
    if isinstance(reward, RewardModel) and (why := same_reader(reward.trunk.reader, reference.trunk.reader)):
        name = model if isinstance(model, str) else model.name
        raise CheckpointError(reward.trunk.name, why, f"give a reward model that was trained from {name}")
    policy = trained_copy(reference, "policy", lora)
    if isinstance(reward, ExternalReward):
        body = trained_copy(reference, "value", lora)
        head = nn.Linear(body.trunk.width, 1, bias=False).to(shelf.device).requires_grad_(False)
        nn.init.zeros_(head.weight)
        return Roles(policy, reference, reward, ValueModel(body.trunk, body.adapter, head))
    body = trained_copy(Policy(reward.trunk, reward.adapter), "value", lora)
    return Roles(policy, reference, reward, value_model_from(reward, body))


def value_model_from(reward: ScalarModel, body: Policy) -> ValueModel:
    """A value model with the reward model's head and normalisation: before training its value at the end-of-text
    token is the reward model's score, to the bit."""
    head = copy.deepcopy(reward.head).requires_grad_(False)
    return ValueModel(body.trunk, body.adapter, head, reward.gain, reward.bias)
