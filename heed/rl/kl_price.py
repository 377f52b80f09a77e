"""The price of KL, β: fixed, or moved towards a target by the controller of Ziegler et al. (arXiv 1909.08593)."""

from __future__ import annotations

from typing import Any

from heed.formulas.kl import adaptive_coefficient


class KLPrice:
    """`coef` is what a nat of KL costs in the next step; a part of a run's state.

    It moves only where there is a `target` (nats per response), and only after a KL that the doctor believes.
    """

    def __init__(self, coef: float, target: float, horizon: float, batch: int) -> None:
        self.coef, self.target, self.horizon, self.batch = coef, target, horizon, batch

    def follow(self, kl: float | None, is_valid: bool) -> None:
        """Take in the exact KL of a step."""
        if self.target and kl is not None:
            self.coef = adaptive_coefficient(self.coef, kl, self.target, self.horizon, self.batch, is_valid)

    def state_dict(self) -> dict[str, Any]:
        """β."""
        return {"coef": self.coef}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """β as it was."""
        self.coef = float(state["coef"])
