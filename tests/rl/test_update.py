"""What a rollout does to policy and value model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from heed.formulas.advantages import shaped_rewards
from heed.rl.rollout import Rollout
from heed.rows import threads
from heed.stages.ppo import Prepared

Collected = Callable[..., tuple[Prepared, Rollout]]
MILD = {"learning_rate": 1e-3, "eps": 1e-3}


def parameters_after(collected: Collected, **changes: Any) -> torch.Tensor:
    prepared, rollout = collected(**changes)
    scored = rollout.scored
    rewards = shaped_rewards(scored.logprobs, scored.ref_logprobs, rollout.paid, rollout.mask, 0.05)
    for step in (2, 3):
        prepared.update(step, rollout, rewards)
    policy, value = prepared.roles.policy.parameters(), prepared.roles.value.parameters()
    everything = {**policy, **{f"v.{name}": parameter for name, parameter in value.items()}}
    return torch.cat([parameter.detach().flatten() for parameter in everything.values()])


@pytest.mark.parametrize("microbatch", [1, 2, 3])
def test_microbatches_change_nothing(collected: Collected, microbatch: int) -> None:
    """Terms are added up over the minibatch's tokens: rows of different lengths weigh as in one forward pass."""
    whole = parameters_after(collected, microbatch=4, optimizer=MILD)
    assert_close(parameters_after(collected, microbatch=microbatch, optimizer=MILD), whole, atol=2e-5, rtol=0)


def test_threads_change_nothing(collected: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "cores", lambda count=count: count)
        found.append(parameters_after(collected, optimizer=MILD))
    assert_close(found[1], found[0], atol=2e-5, rtol=0)


def test_reference_and_reward_model_never_change(collected: Collected) -> None:
    prepared, rollout = collected()
    roles = prepared.roles
    everything = dict(roles.policy.trunk.model.named_parameters())
    frozen = {n: p.clone() for n, p in everything.items() if ".policy." not in n and ".value." not in n}
    head = roles.reward.head.weight.clone()
    prepared.update(2, rollout, torch.ones(rollout.mask.shape).masked_fill(~rollout.mask, 0))
    assert frozen and all(torch.equal(everything[n], p) for n, p in frozen.items())
    assert torch.equal(roles.reward.head.weight, head)
    assert not torch.equal(roles.value.head.weight, head)


def test_critic_warmup_leaves_the_policy_alone(collected: Collected) -> None:
    prepared, rollout = collected()
    policy = prepared.roles.policy
    before = [p.clone() for p in policy.parameters().values()]
    metrics = prepared.update(1, rollout, torch.randn(rollout.mask.shape).masked_fill(~rollout.mask, 0))
    assert "value/loss" in metrics and "loss/policy" not in metrics
    assert all(torch.equal(p, q) for p, q in zip(policy.parameters().values(), before, strict=True))


def test_the_policy_ramps_at_its_own_first_step_and_the_critic_does_not(collected: Collected) -> None:
    """Two steps of the critic alone; then the policy begins at 10 % of its peak, whatever steps there were before."""
    prepared, rollout = collected(critic_warmup=2, warmup_steps=3, steps=9, value_optimizer={"learning_rate": 0.02})
    rewards = torch.ones(rollout.mask.shape).masked_fill(~rollout.mask, 0)
    metrics = [prepared.update(step, rollout, rewards) for step in (1, 2, 3, 4)]
    rates = [row.get("policy/learning_rate") for row in metrics]
    assert rates == [None, None, pytest.approx(0.1 * 3e-3), pytest.approx(0.4 * 3e-3)]
    assert {group["lr"] for group in prepared.update.critic.optimizer.param_groups} == {0.02}
