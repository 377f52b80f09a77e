"""Step 3c: one rollout's worth of clipped policy and value steps."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor
from torch.nn import Parameter

from heed.formulas.advantages import gae, returns
from heed.formulas.masked import masked_whiten
from heed.formulas.ppo import approx_kl, clip_fraction, explained_variance, policy_terms, probability_ratio, value_terms
from heed.formulas.schedules import ppo_warmup
from heed.models.roles import Roles
from heed.rl.rollout import Rollout
from heed.rows.pieces import take
from heed.rows.threads import RowThreads
from heed.settings.ppo import PPOSettings
from heed.training.optimizer import Average, make_optimizer, require_finite, set_learning_rate
from heed.training.optimizer import step as optimizer_step

Loss = tuple[Tensor, dict[str, float]]
"""A scalar to go back from, and the metrics of the rows that it is of."""


class Update:
    """The optimisers of a run, and what they do with a rollout.

    `text` is pretraining text for PPO-ptx, `[rows, sequence]`, or None.
    """

    def __init__(self, roles: Roles, settings: PPOSettings, text: Tensor | None, generator: torch.Generator) -> None:
        self.roles, self.settings, self.text, self.generator = roles, settings, text, generator
        self.threads = RowThreads.for_model(roles.policy.trunk.model)
        with roles.policy.trainable() as policy, roles.value.trainable() as value:
            self.policy_parameters: list[Parameter] = list(policy.values())
            self.value_parameters: list[Parameter] = list(value.values())
            self.policy_optimizer = make_optimizer({"policy": self.policy_parameters}, settings.optimizer)
            rates = {"value": settings.value_learning_rate}
            self.value_optimizer = make_optimizer({"value": self.value_parameters}, settings.optimizer, rates)
            self.average = Average(self.policy_parameters, settings.ema) if settings.ema else None

    def __call__(self, step: int, rollout: Rollout, rewards: Tensor) -> dict[str, float | None]:
        """`epochs` passes over a rollout in minibatches; the first `critic_warmup` steps train the value model alone.

        Advantages are whitened over the whole rollout; returns are taken before that. Gives the metrics of the update.
        """
        settings, mask = self.settings, rollout.mask
        advantages = gae(rewards, rollout.values, mask, settings.gamma, settings.gae_lambda)
        targets = returns(advantages, rollout.values)
        whitened = masked_whiten(advantages, mask)
        with_policy = step > settings.critic_warmup
        for optimizer in (self.policy_optimizer, self.value_optimizer):
            set_learning_rate(optimizer, ppo_warmup(step - 1, settings.warmup_steps))
        seen: list[dict[str, float]] = []
        with ExitStack() as gradients:
            gradients.enter_context(self.roles.value.trainable())
            if with_policy:
                gradients.enter_context(self.roles.policy.trainable())
            for _ in range(settings.epochs):
                for rows in torch.randperm(len(mask), generator=self.generator).split(settings.minibatch):
                    seen.append(self._minibatch(rows.to(mask.device), rollout, whitened, targets, with_policy))
        means: dict[str, float | None] = {name: sum(row[name] for row in seen) / len(seen) for name in seen[0]}
        if with_policy:
            means["policy/ratio_first"] = seen[0]["policy/ratio_first"]  # later minibatches have moved on purpose
        return {**means, "value/explained_variance": float(explained_variance(rollout.values, targets, mask))}

    def _minibatch(
        self, rows: Tensor, rollout: Rollout, advantages: Tensor, targets: Tensor, with_policy: bool
    ) -> dict[str, float]:
        """One optimiser step of each model. Microbatches add up terms over the minibatch's count of tokens."""
        clip, tokens = self.settings.optimizer.max_grad_norm, rollout.mask[rows].sum()
        lengths = rollout.prompts.mask[rows].sum(dim=1) + rollout.responses.lengths[rows]
        pieces = self.threads.share(rows[lengths.argsort(stable=True)].split(self.settings.microbatch))
        sums: dict[str, float] = {}
        with self.roles.value.active():
            losses = [partial(self._value_loss, piece, rollout, targets, tokens) for piece in pieces]
            _add(sums, self.threads.backward(losses, self.value_parameters))
        if with_policy:
            with self.roles.policy.active():
                losses = [partial(self._policy_loss, piece, rollout, advantages, tokens) for piece in pieces]
                _add(sums, self.threads.backward(losses, self.policy_parameters))
        if with_policy and self.text is not None:
            sums["loss/ptx"] = self._ptx(len(rows))
        require_finite(sum(sums.values()), "the loss")
        sums["value/grad_norm"] = optimizer_step(self.value_optimizer, self.value_parameters, clip)
        if with_policy:
            sums["policy/grad_norm"] = optimizer_step(self.policy_optimizer, self.policy_parameters, clip)
            if self.average:
                self.average.update()
        return sums

    def _value_loss(self, rows: Tensor, rollout: Rollout, targets: Tensor, tokens: Tensor) -> Loss:
        prompts, responses = take(rollout.prompts, rollout.responses, rows)
        mask, columns = responses.mask, responses.mask.shape[1]
        old, target = rollout.values[rows, :columns], targets[rows, :columns]
        values = self.roles.value.values(prompts, responses)
        loss = value_terms(values, old, target, mask, self.settings.value_clip_range).sum() / tokens
        return loss, {"value/loss": float(loss.detach())}

    def _policy_loss(self, rows: Tensor, rollout: Rollout, advantages: Tensor, tokens: Tensor) -> Loss:
        clip_range, temperature = self.settings.clip_range, self.settings.sampling.temperature
        prompts, responses = take(rollout.prompts, rollout.responses, rows)
        mask, columns = responses.mask, responses.mask.shape[1]
        old, gains = rollout.scored.logprobs[rows, :columns], advantages[rows, :columns]
        logprobs = self.roles.policy.logprobs(prompts, responses, temperature)
        loss = policy_terms(logprobs, old, gains, mask, clip_range).sum() / tokens
        now, share = logprobs.detach(), mask.sum() / tokens
        return loss, {
            "loss/policy": float(loss.detach()),
            "policy/approx_kl": float(approx_kl(now, old, mask) * share),
            "policy/clip_fraction": float(clip_fraction(now, old, gains, mask, clip_range) * share),
            "policy/ratio_first": float((probability_ratio(now, old, mask) - 1).abs().max()),
        }

    def _ptx(self, episodes: int) -> float:
        """PPO-ptx: add `coef` times the token-mean cross-entropy of some text to the policy's gradient."""
        assert self.text is not None
        ptx, policy = self.settings.ptx, self.roles.policy
        rows = torch.randint(len(self.text), (max(1, round(ptx.ratio * episodes)),), generator=self.generator)

        def loss(piece: Tensor) -> Loss:
            tokens = self.text[piece].to(policy.trunk.device)
            everything = torch.ones_like(tokens, dtype=torch.bool)
            counted = everything.clone()
            counted[:, 0] = False
            nats = -policy.flat_logprobs(tokens, everything, counted).mean() * len(piece) / len(rows)
            return ptx.coef * nats, {"loss/ptx": float(nats.detach())}

        pieces = [partial(loss, piece) for piece in self.threads.share(rows.split(self.settings.microbatch))]
        with policy.active():
            return sum(told["loss/ptx"] for told in self.threads.backward(pieces, self.policy_parameters))


def _add(sums: dict[str, float], pieces: list[dict[str, float]]) -> None:
    """Add up what pieces tell; of `ratio_first`, the distance of the ratio from 1, keep the largest."""
    for more in pieces:
        for name, value in more.items():
            together = max if name == "policy/ratio_first" else sum
            sums[name] = together((sums.get(name, 0.0), value))
