"""Learning rates as a factor of the peak, and averaged weights. Steps count from 0."""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor


def cosine(progress: float, floor: float) -> float:
    """floor + (1 − floor) · ½ (1 + cos πx), with x = progress from 0 to 1. InstructGPT: floor = 0.1."""
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress))


def linear(progress: float, floor: float) -> float:
    """1 − (1 − floor) · x, with x = progress from 0 to 1."""
    return 1 - (1 - floor) * progress


def warmup(step: int, warmup_steps: int) -> float:
    """min(1, (step + 1) / (warmup_steps + 1)): rising during `warmup_steps` steps, never 0, then 1."""
    return min(1.0, (step + 1) / (warmup_steps + 1))


def ppo_warmup(step: int, warmup_steps: int) -> float:
    """min(1, 0.1 + 0.9 · step / warmup_steps): from 10 % of the peak. InstructGPT C.4: 10 iterations."""
    return min(1.0, 0.1 + 0.9 * step / warmup_steps) if warmup_steps else 1.0


def ema(average: Float[Tensor, "*shape"], weights: Float[Tensor, "*shape"], decay: float) -> Float[Tensor, "*shape"]:
    """θ̄ ← d θ̄ + (1 − d) θ, after every optimiser step. InstructGPT C.4: d = 0.992, a half-life of 86 steps."""
    return decay * average + (1 - decay) * weights
