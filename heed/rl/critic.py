"""The value model's half of an update."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from heed.formulas.ppo import clipped_value_loss
from heed.models.scalar_head import ValueModel
from heed.rl.minibatch import Loss, Minibatch, add_up
from heed.rows.threads import RowThreads
from heed.settings.common import AdamWSettings
from heed.training.optimizer import make_optimizer
from heed.training.optimizer import step as optimizer_step
from heed.training.state import Weights


class Critic:
    """Learns what a response will be worth; a part of a run's state. `clip_range` is in units of the score's sd."""

    def __init__(
        self, value: ValueModel, optimizer: AdamWSettings, clip_range: float, microbatch: int, threads: RowThreads
    ) -> None:
        self.value, self.clip_range, self.microbatch, self.threads = value, clip_range, microbatch, threads
        self.max_grad_norm = optimizer.max_grad_norm
        self.parameters = value.parameters()
        with value.trainable():
            self.optimizer = make_optimizer({"value": self.parameters.values()}, optimizer)

    def backward(self, batch: Minibatch) -> dict[str, float]:
        """Add up the gradient of a minibatch's loss; returns `value/loss`."""
        tokens, pieces = batch.tokens, batch.pieces(self.microbatch, self.threads)
        losses = [partial(self._loss, batch, rows, tokens) for rows in pieces]
        with self.value.active():
            return add_up(self.threads.backward(losses, list(self.parameters.values())))

    def step(self) -> dict[str, float]:
        """Move; returns the gradient's norm before clipping."""
        return {"value/grad_norm": optimizer_step(self.optimizer, self.parameters.values(), self.max_grad_norm)}

    def _loss(self, batch: Minibatch, rows: Tensor, tokens: Tensor) -> Loss:
        prompts, responses = batch.texts(rows)
        mask, columns = responses.mask, responses.mask.shape[1]
        old, target = batch.rollout.values[rows, :columns], batch.returns[rows, :columns]
        values = self.value.values(prompts, responses)
        loss = clipped_value_loss(values, old, target, mask, self.clip_range, tokens)
        return loss, {"value/loss": float(loss.detach())}

    def state_dict(self) -> dict[str, Any]:
        """Weights and moments."""
        return {"weights": Weights(self.parameters).state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Weights and moments as they were."""
        Weights(self.parameters).load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
