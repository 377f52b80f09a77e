"""The policy's half of an update: the clipped surrogate, one optimiser step a minibatch, averaged weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import Tensor

from heed.formulas.ppo import approx_kl, clip_fraction, clipped_policy_loss, probability_ratio
from heed.models.artefact import Artefact
from heed.models.policy import Policy
from heed.rl.minibatch import Loss, Minibatch, add_up
from heed.rows.threads import RowThreads
from heed.settings.common import AdamWSettings
from heed.training.optimizer import Average, make_optimizer, set_learning_rate
from heed.training.optimizer import step as optimizer_step
from heed.training.state import Weights


class PolicyUpdate:
    """Moves the policy towards what paid; a part of a run's state.

    `temperature` is the sampler's. `ema` is the decay of the averaged weights, 0 for none.
    """

    def __init__(
        self,
        policy: Policy,
        optimizer: AdamWSettings,
        clip_range: float,
        temperature: float,
        ema: float,
        microbatch: int,
        threads: RowThreads,
    ) -> None:
        self.policy, self.clip_range, self.temperature = policy, clip_range, temperature
        self.microbatch, self.threads, self.max_grad_norm = microbatch, threads, optimizer.max_grad_norm
        self.parameters = policy.parameters()
        with policy.trainable():
            self.optimizer = make_optimizer({"policy": self.parameters.values()}, optimizer)
            self.average = Average(self.parameters.values(), ema) if ema else None

    def set_learning_rate(self, factor: float) -> None:
        """A share of the peak."""
        set_learning_rate(self.optimizer, factor)

    @property
    def learning_rate(self) -> float:
        """What the next step uses."""
        return float(self.optimizer.param_groups[0]["lr"])

    def backward(self, batch: Minibatch) -> dict[str, float]:
        """Add up the gradient of a minibatch's loss; returns the loss and how far the policy has moved."""
        tokens, pieces = batch.tokens, batch.pieces(self.microbatch, self.threads)
        losses = [partial(self._loss, batch, rows, tokens) for rows in pieces]
        with self.policy.active():
            return add_up(self.threads.backward(losses, list(self.parameters.values())))

    def step(self) -> dict[str, float]:
        """Move; returns the gradient's norm before clipping."""
        norm = optimizer_step(self.optimizer, self.parameters.values(), self.max_grad_norm)
        if self.average:
            self.average.update()
        return {"policy/grad_norm": norm}

    def _loss(self, batch: Minibatch, rows: Tensor, tokens: Tensor) -> Loss:
        prompts, responses = batch.texts(rows)
        mask, columns = responses.mask, responses.mask.shape[1]
        old, gains = batch.rollout.scored.logprobs[rows, :columns], batch.advantages[rows, :columns]
        logprobs = self.policy.logprobs(prompts, responses, self.temperature)
        loss = clipped_policy_loss(logprobs, old, gains, mask, self.clip_range, tokens)
        now, share = logprobs.detach(), mask.sum() / tokens
        return loss, {
            "loss/policy": float(loss.detach()),
            "policy/approx_kl": float(approx_kl(now, old, mask) * share),
            "policy/clip_fraction": float(clip_fraction(now, old, gains, mask, self.clip_range) * share),
            "policy/ratio_first": float((probability_ratio(now, old, mask) - 1).abs().max()),
        }

    def save_average(self, artefact: Artefact, path: Path) -> None:
        """Write the policy with its averaged weights."""
        assert self.average is not None
        with self.average.applied():
            artefact.save(self.policy, path)

    def state_dict(self) -> dict[str, Any]:
        """Weights, moments, averaged weights."""
        return {
            "weights": Weights(self.parameters).state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.weights if self.average else [],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Weights, moments and averaged weights as they were."""
        Weights(self.parameters).load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.average:
            self.average.load(state["average"])
