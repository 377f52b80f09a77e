"""How a step's time grows: the arithmetic of it. Nothing is timed here."""

from __future__ import annotations

import random
from pathlib import Path
from runpy import run_path

import pytest

PLACE = Path(__file__).parents[2] / "benchmarks"


def test_slope_of_a_run_that_slows_down_and_of_one_that_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(PLACE))
    slope = run_path(str(PLACE / "scaling.py"))["slope"]
    rng = random.Random(0)
    noise = [rng.gauss(0, 0.05) for _ in range(200)]
    rise, error = slope([1 + one for one in noise])
    assert abs(rise) < 3 * error and 0.005 < error < 0.02
    rise, error = slope([1 + 0.5 * i / 199 + one for i, one in enumerate(noise)])
    assert rise == pytest.approx(0.4, abs=0.05) and rise > 10 * error  # from 1 to 1.5 around a mean of 1.25
