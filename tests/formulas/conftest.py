"""What the proofs of the formulas share."""

from __future__ import annotations

import math

import pytest


@pytest.fixture(params=[99.0, 1e6, -math.inf, math.nan])
def nonsense(request: pytest.FixtureRequest) -> float:
    """What padding holds: nothing of it may reach a value or a gradient."""
    return float(request.param)
