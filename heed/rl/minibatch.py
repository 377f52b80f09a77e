"""A rollout in minibatches, and each of them in pieces that go through a model together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heed.batches import PromptBatch, Responses
from heed.rl.rollout import Rollout
from heed.rows.pieces import alike, take
from heed.rows.threads import RowThreads

Loss = tuple[Tensor, dict[str, float]]
"""A scalar to go back from, and the metrics of the rows that it is of."""


@dataclass(frozen=True)
class Minibatch:
    """Rows of a rollout for one optimiser step of each model, with what they are to learn.

    `advantages` are whitened over the rollout, `returns` are not; both `[batch, response]` of the whole rollout.
    """

    rows: Int[Tensor, " rows"]
    rollout: Rollout
    advantages: Float[Tensor, "batch response"]
    returns: Float[Tensor, "batch response"]

    @property
    def tokens(self) -> Int[Tensor, ""]:
        """Counted tokens."""
        return self.rollout.mask[self.rows].sum()

    def pieces(self, size: int, threads: RowThreads) -> list[Tensor]:
        """Rows of like length, as much together as `size` of the longest, shared among threads."""
        rollout, rows = self.rollout, self.rows
        lengths = rollout.prompts.mask[rows].sum(dim=1) + rollout.responses.lengths[rows]
        return threads.share([rows[piece] for piece in alike(lengths, size)])

    def texts(self, rows: Tensor) -> tuple[PromptBatch, Responses]:
        """Prompts and responses of some rows, without the columns that are padding in all of them."""
        return take(self.rollout.prompts, self.rollout.responses, rows)


def minibatches(
    rollout: Rollout,
    advantages: Tensor,
    returns: Tensor,
    size: int,
    epochs: int,
    generator: torch.Generator,
) -> Iterator[Minibatch]:
    """`epochs` passes over a rollout, each in an order of its own."""
    mask: Bool[Tensor, "batch response"] = rollout.mask
    for _ in range(epochs):
        order = torch.randperm(len(mask), generator=generator, device=generator.device)
        for rows in order.split(size):
            yield Minibatch(rows.to(mask.device), rollout, advantages, returns)


def add_up(parts: Sequence[dict[str, float]]) -> dict[str, float]:
    """What pieces tell, added up; of `ratio_first`, the distance of the ratio from 1, the largest."""
    sums: dict[str, float] = {}
    for part in parts:
        for name, value in part.items():
            together = max if name == "policy/ratio_first" else sum
            sums[name] = together((sums.get(name, 0.0), value))
    return sums
