"""Step 3c: one rollout's worth of clipped policy and value steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

import torch
from torch import Tensor

from heed.formulas.advantages import gae, returns
from heed.formulas.masked import masked_whiten
from heed.formulas.ppo import explained_variance
from heed.rl.critic import Critic
from heed.rl.minibatch import Minibatch, minibatches
from heed.rl.policy_update import PolicyUpdate
from heed.rl.ptx import Ptx
from heed.rl.rollout import Rollout
from heed.training.guards import require_finite

LOSSES = ("value/loss", "loss/policy", "loss/ptx")


@dataclass(frozen=True)
class Update:
    """What a run does with a rollout. The first `critic_warmup` steps train the value model alone; after them
    `schedule` gives the share of the policy's peak learning rate, at its own first, second … step."""

    critic: Critic
    policy: PolicyUpdate
    ptx: Ptx | None
    epochs: int
    minibatch: int
    gamma: float
    gae_lambda: float
    critic_warmup: int
    schedule: Callable[[int], float]
    generator: torch.Generator

    def __call__(self, step: int, rollout: Rollout, rewards: Tensor) -> dict[str, float | None]:
        """`epochs` passes over a rollout in minibatches; returns the metrics of the update.

        Advantages are whitened over the whole rollout; returns are taken before that.
        """
        mask = rollout.mask
        advantages = gae(rewards, rollout.values, mask, self.gamma, self.gae_lambda)
        targets = returns(advantages, rollout.values)
        whitened = masked_whiten(advantages, mask)
        with_policy = step > self.critic_warmup
        if with_policy:
            self.policy.set_learning_rate(self.schedule(step - self.critic_warmup))
        with ExitStack() as gradients:
            gradients.enter_context(self.critic.value.trainable())
            if with_policy:
                gradients.enter_context(self.policy.policy.trainable())
            batches = minibatches(rollout, whitened, targets, self.minibatch, self.epochs, self.generator)
            seen = [self._step(batch, with_policy) for batch in batches]
        means: dict[str, float | None] = {name: sum(row[name] for row in seen) / len(seen) for name in seen[0]}
        if with_policy:
            means["policy/learning_rate"] = self.policy.learning_rate
            means["policy/ratio_first"] = seen[0]["policy/ratio_first"]  # later minibatches have moved on purpose
        return {**means, "value/explained_variance": float(explained_variance(rollout.values, targets, mask))}

    def _step(self, batch: Minibatch, with_policy: bool) -> dict[str, float]:
        """One optimiser step of each model."""
        metrics = self.critic.backward(batch)
        if with_policy:
            metrics |= self.policy.backward(batch)
            if self.ptx:
                metrics |= self.ptx.backward(len(batch.rows))
        losses = [value for name, value in metrics.items() if name in LOSSES]
        require_finite(sum(losses), "the loss")
        metrics |= self.critic.step()
        return metrics | self.policy.step() if with_policy else metrics
