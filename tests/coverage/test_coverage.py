"""95 % intervals hold the truth about as often as they say. `make coverage` does it with 2,000 samples a kind."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from heed.formulas.statistics import Estimate

FAST = [
    "Wilson, n = 128",
    "mean, n = 16",
    "paired difference, n = 128",
    "win rate with ties, n = 128",
    "reward accuracy, 120 prompts of 4",
    "share by task, 60 tasks",
    "shade of a chart: a rollout of 64",
]


@pytest.fixture(scope="module")
def intervals() -> ModuleType:
    path = Path(__file__).with_name("intervals.py")
    spec = importlib.util.spec_from_file_location("intervals", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules["intervals"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", FAST)
def test_an_interval_holds_the_truth_as_often_as_it_says(name: str, intervals: ModuleType) -> None:
    """With 300 samples of an honest interval 91 to 98.5 % is what to expect, three standard errors to either side."""
    assert 0.91 <= intervals.coverage(name, 300) <= 0.985


def test_a_wrong_interval_is_found(intervals: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    kind = intervals.KINDS["mean, n = 128"]

    def narrow(generator: object) -> Estimate:
        found = kind.sample(generator)
        return Estimate(
            found.estimate,
            *((found.estimate + 0.7 * (end - found.estimate)) for end in (found.low, found.high)),
            found.n,
        )

    monkeypatch.setitem(intervals.KINDS, "narrow", intervals.Kind(kind.truth, narrow))
    assert intervals.coverage("narrow", 300) < 0.91
