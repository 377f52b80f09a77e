"""Which rows each step sees."""

from __future__ import annotations

import math
from typing import Any

import torch


def shuffled_batches(count: int, batch: int, epochs: float, seed: int) -> list[list[int]]:
    """Row numbers of each step: every row once an epoch, each epoch in an order of its own. Only the last batch of all
    may be smaller; half an epoch is the first half of one."""
    generator = torch.Generator().manual_seed(seed)
    passes = [torch.randperm(count, generator=generator) for _ in range(math.ceil(epochs))]
    rows = torch.cat(passes)[: max(1, round(epochs * count))]
    return [piece.tolist() for piece in rows.split(batch)]


class EndlessOrder:
    """Row numbers without end, every row once before one comes again; a part of a run's state."""

    def __init__(self, count: int, generator: torch.Generator) -> None:
        self.count, self.generator = count, generator
        self.waiting: list[int] = []

    def take(self, size: int) -> list[int]:
        """The next `size` row numbers."""
        while len(self.waiting) < size:
            self.waiting += torch.randperm(self.count, generator=self.generator, device=self.generator.device).tolist()
        taken, self.waiting = self.waiting[:size], self.waiting[size:]
        return taken

    def state_dict(self) -> dict[str, Any]:
        """The rows that are waiting; where the generator stands is the state of the generator."""
        return {"waiting": list(self.waiting)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The rows that were waiting."""
        self.waiting = list(state["waiting"])
