"""PPO's parts as `heed ppo` puts them together, on tiny models, and a rollout of eight questions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from heed.data.template import Template
from heed.models.checkpoint import open_checkpoint
from heed.models.load import load_tokenizer
from heed.records import Prompt, Turn
from heed.rl.questions import Question
from heed.rl.rollout import Rollout
from heed.settings.common import DecaySettings, LoraSettings, SamplingSettings
from heed.settings.ppo import PPOSettings
from heed.stages import ppo

Collected = Callable[..., tuple[ppo.Prepared, Rollout]]


def questions(count: int) -> list[Question]:
    texts = [f"q{i}" + "z" * (i % 3) for i in range(count)]
    return [Question(Prompt((Turn("user", text),)), [2 + ord(c) % 90 for c in text]) for text in texts]


@pytest.fixture
def collected(tiny_runs: tuple[str, str]) -> Collected:
    """`collected(**changes)`: the parts that settings with these changes give, and the first rollout."""
    small = {
        "model": tiny_runs[0], "reward_model": tiny_runs[1], "output": "none", "batch": 8, "minibatch": 4,
        "microbatch": 3, "epochs": 2, "critic_warmup": 1, "warmup_steps": 0, "lora": LoraSettings(rank=4, alpha=8),
        "sampling": SamplingSettings(max_new_tokens=6),
        "optimizer": DecaySettings(learning_rate=3e-3, schedule="constant"),
    }  # fmt: skip

    def collect(**changes: Any) -> tuple[ppo.Prepared, Rollout]:
        settings = PPOSettings(**{**small, **changes})
        sft, reward = open_checkpoint(settings.model, "policy"), open_checkpoint(settings.reward_model, "reward")
        inputs = ppo.Inputs(sft, reward, Template.named("plain"), load_tokenizer(sft.path), questions(8), [], None)
        prepared = ppo.prepare(settings, inputs, torch.device("cpu"), torch.Generator().manual_seed(0))
        with prepared.roles.policy.trunk.active(None):  # every model switches its own adapter on
            return prepared, prepared.worker.collect(inputs.questions)

    return collect
