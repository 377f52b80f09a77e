"""Which rows each optimiser step sees."""

from __future__ import annotations

import math

import torch


def shuffled_batches(count: int, batch: int, epochs: float, seed: int) -> list[list[int]]:
    """Row numbers of each step: every row once an epoch, each epoch in an order of its own. Only the last batch of all
    may be smaller; half an epoch is the first half of one."""
    generator = torch.Generator().manual_seed(seed)
    passes = [torch.randperm(count, generator=generator) for _ in range(math.ceil(epochs))]
    rows = torch.cat(passes)[: max(1, round(epochs * count))]
    return [piece.tolist() for piece in rows.split(batch)]


def evenly_spaced(times: int, steps: int) -> set[int]:
    """`times` steps (fewer if there are fewer) at even distances, the last step among them."""
    return {math.ceil(i * steps / times) for i in range(1, times + 1)}
