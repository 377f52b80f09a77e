"""How far apart two right scorings of a token may lie, by dtype: the one place where that is decided.

Measured by experiments/doctor/tolerances.py (nats; T2 the sampler against the scorer, T4 a row alone against its batch,
T11 a rollout in other batches; a few hundred to two thousand tokens each; GPT-2 small's shape has random weights):

    shape                        dtype     T2: |mean|   p99      largest   T4: largest   T11: largest
    tiny GPT-2 (2 layers, 64)    float32   4e-9         1e-6     2e-6      1e-6          1e-6
    tiny GPT-2                   bfloat16  4e-8         0.007    0.011     0.002         0.009
    the demo's models            float32   6e-8         4e-6     9e-6      3e-6          4e-6
    the demo's models            bfloat16  5e-4         0.055    0.11      0.017         0.029
    Llama (6 layers, 256)        float32   5e-8         4e-6     5e-6      2e-6          2e-6
    Llama (6 layers, 256)        bfloat16  4e-4         0.052    0.065     0.030         0.031
    GPT-2 small (12, 768)        float32   4e-8         2e-6     2e-6      2e-6          2e-6
    GPT-2 small, peaked          bfloat16  3e-4         0.002    0.085     0.004         0.002
    GPT-2 small                  bfloat16  4e-4         0.019    0.026     0.019         0.016

The limits leave room for other kernels and deeper models: a mistake is larger by far, or has a mean. A trained GPT-2 in
bfloat16 was off by up to 0.4 at single tokens (its logits lie around −35).
"""

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
