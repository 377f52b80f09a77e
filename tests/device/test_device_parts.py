"""Parts on another device beside the processor: the sampler, the scorer, a step of PPO; and what devices refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from heed.batches import PromptBatch, Responses
from heed.data.template import Template
from heed.formulas.advantages import shaped_rewards
from heed.models.answers import left_padded
from heed.models.checkpoint import open_checkpoint
from heed.models.load import load_tokenizer
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.records import Prompt, Turn
from heed.rl.questions import Question
from heed.settings.common import LoraSettings, SamplingSettings
from heed.settings.ppo import PPOSettings
from heed.stages import ppo

from .elsewhere import accelerator

CPU = torch.device("cpu")
ASKED = [[40 + i, 50, 60 + 2 * i][: 1 + i % 3] for i in range(8)]


def moved(value: Any, device: torch.device) -> Any:
    """The same with every tensor on the device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{field.name: moved(getattr(value, field.name), device) for field in fields(value)})
    return value


def policy_on(device: torch.device, directory: Path) -> Policy:
    return Shelf(lambda parameters: torch.float32, device).policy(str(directory), "policy")


def drawn(policy: Policy, temperature: float) -> tuple[PromptBatch, Responses]:
    device = policy.trunk.device
    prompts = left_padded(ASKED, policy.trunk.tokenizer.pad_token_id, device)
    return prompts, policy.generate(prompts, 8, temperature, torch.Generator(device).manual_seed(1), size=3)


def test_logprobs(device: torch.device, tiny_directory: Path) -> None:
    prompts, responses = drawn(policy_on(CPU, tiny_directory), 1.0)
    here = policy_on(CPU, tiny_directory).logprobs(prompts, responses)
    there = policy_on(device, tiny_directory).logprobs(moved(prompts, device), moved(responses, device))
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-3)  # nats, of tokens of −1 to −20


def test_the_likeliest_tokens(device: torch.device, tiny_directory: Path) -> None:
    _, here = drawn(policy_on(CPU, tiny_directory), 0.0)
    _, there = drawn(policy_on(device, tiny_directory), 0.0)
    assert there.tokens.tolist() == here.tokens.tolist()


def test_what_is_sampled_is_what_is_scored(device: torch.device, tiny_directory: Path) -> None:
    policy = policy_on(device, tiny_directory)
    prompts, responses = drawn(policy, 0.7)
    scored = policy.logprobs(prompts, responses, 0.7)
    torch.testing.assert_close(scored.cpu(), responses.logprobs.cpu(), rtol=0, atol=1e-3)
    again = drawn(policy, 0.7)[1]
    assert again.tokens.tolist() == responses.tokens.tolist()  # one seed


def test_a_step_of_ppo(device: torch.device, tiny_runs: tuple[str, str]) -> None:
    """From one rollout, in one minibatch: the order of rows, which every device draws for itself, changes nothing."""
    settings = PPOSettings(
        model=tiny_runs[0], reward_model=tiny_runs[1], output="none", batch=8, minibatch=8, microbatch=3, epochs=1,
        critic_warmup=0, warmup_steps=0, lora=LoraSettings(rank=4, alpha=8),
        sampling=SamplingSettings(max_new_tokens=6),
    )  # fmt: skip
    sft, reward = open_checkpoint(settings.model, "policy"), open_checkpoint(settings.reward_model, "reward")
    asked = [Question(Prompt((Turn("user", "-"),)), tokens) for tokens in ASKED]
    inputs = ppo.Inputs(sft, reward, Template.named("plain"), load_tokenizer(sft.path), asked, [], None)
    here, there = (
        ppo.prepare(settings, inputs, at, torch.Generator(at).manual_seed(0)) for at in (CPU, device)
    )  # fmt: skip
    rollout = here.worker.collect(asked)
    scored = rollout.scored
    rewards = shaped_rewards(scored.logprobs, scored.ref_logprobs, rollout.paid, rollout.mask, 0.05)
    expected = here.update(1, rollout, rewards)
    found = there.update(1, moved(rollout, device), rewards.to(device))
    assert found == pytest.approx(expected, rel=1e-3, abs=1e-5)
    assert expected["policy/grad_norm"] > 1e-3


REFUSED: dict[str, Callable[[Tensor, torch.Generator], object]] = {
    "two places": lambda there, here: there + torch.ones(3),
    "a generator of the processor": lambda there, here: torch.multinomial(there, 1, generator=here),
    "a generator from elsewhere": lambda there, here: torch.rand(3, generator=torch.Generator("meta")),
    "a mask of the processor": lambda there, here: there.masked_fill(torch.ones(3, dtype=torch.bool), 0),
    "float64": lambda there, here: there.double(),
    "numpy": lambda there, here: there.numpy(),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_what_the_second_device_refuses(refused: Callable[[Tensor, torch.Generator], object]) -> None:
    with accelerator() as name:
        there = torch.ones(3, device=name)
        assert (there + 1).tolist() == there.cpu().add(1).tolist() == [2.0, 2.0, 2.0]
        with pytest.raises((RuntimeError, TypeError)):
            refused(there, torch.Generator())
