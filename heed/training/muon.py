"""Muon: momentum whose matrix is made orthogonal before it becomes a step.

torch has one too, which orthogonalises in bfloat16 always. Many processors emulate such products: there that takes
seventeen times as long (measured: AVX2, matrices of 96 × 384), and half a million weights train three times slower.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Parameter

QUINTIC = (3.4445, -4.7750, 2.0315)  # Jordan et al.: steepest at 0 of those that keep singular values near 1
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Matrices only: a step of Nesterov's momentum, orthogonalised and scaled to the size of AdamW's.

        m ← μ·m + (1−μ)·g        θ ← (1 − lr·wd)·θ − lr · 0.2·√max(rows, columns) · orthogonal((1−μ)·g + μ·m)

    Jordan et al. 2024; the scale is Liu et al.'s (arXiv 2502.16982), so that one learning rate serves AdamW too.
    """

    def __init__(self, matrices: Iterable[Parameter], lr: float, weight_decay: float, momentum: float = 0.95) -> None:
        defaults: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum}
        super().__init__(matrices, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move every matrix that has a gradient."""
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is not None:
                    self._move(matrix, group)

    def _move(self, matrix: Parameter, group: dict[str, Any]) -> None:
        gradient, state = matrix.grad, self.state[matrix]
        assert gradient is not None
        if not state:
            state["momentum"] = torch.zeros_like(matrix)
        momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
        update = orthogonal(gradient.lerp(momentum, group["momentum"]))
        matrix.mul_(1 - group["lr"] * group["weight_decay"])
        matrix.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(matrix.shape)))


def orthogonal(matrix: Float[Tensor, "rows columns"]) -> Float[Tensor, "rows columns"]:
    """The matrix with its singular values, but for tiny ones, brought to 0.7 – 1.2 by five Newton–Schulz iterations.

    Each iteration is X ← S·X with S = a·I + b·G + c·G² and G = X·Xᵀ. Until the end only G and the product of all S
    change, small squares for a wide matrix: two fifths less to multiply for 96 × 384. In float32, for nothing calls G
    back to X·Xᵀ: rounding to bfloat16 would add up.
    """
    a, b, c = QUINTIC
    x = matrix.float()
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    x = x / x.norm().clamp(min=1e-7)
    gram, steps = x @ x.T, None
    for iteration in range(ITERATIONS):
        step = torch.addmm(gram, gram, gram, beta=b, alpha=c)
        step.diagonal().add_(a)
        steps = step if steps is None else step @ steps
        if iteration < ITERATIONS - 1:
            gram = step @ gram @ step
    x = steps @ x
    return (x.T if matrix.shape[0] > matrix.shape[1] else x).to(matrix.dtype)
