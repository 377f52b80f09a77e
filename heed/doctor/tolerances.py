"""How far apart two right scorings of a token may lie, by dtype: the one place where that is decided."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Tolerance:
    """Nats. `largest`, `p99` and `mean` are of |Δ| and of Δ over the tokens of a rollout (T2, T5); `padding` is the
    largest |Δ| of a row alone and in its batch (T4), `ratio` that of π/π_old before an update from 1 (T11)."""

    largest: float
    p99: float
    mean: float
    padding: float
    ratio: float


FLOAT32 = Tolerance(largest=1e-3, p99=1e-3, mean=1e-3, padding=1e-4, ratio=1e-3)
BFLOAT16 = Tolerance(largest=0.5, p99=0.1, mean=0.005, padding=0.5, ratio=0.3)
NUMERICAL = Tolerance(largest=float("inf"), p99=0.3, mean=0.02, padding=0.5, ratio=0.3)
"""Differences up to these may be numerical (NK16), where it is not known how the numbers were made."""


def tolerance_of(dtype: torch.dtype) -> Tolerance:
    """That of the dtype of the frozen weights."""
    return FLOAT32 if dtype in (torch.float32, torch.float64) else BFLOAT16
