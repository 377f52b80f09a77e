from __future__ import annotations

import pytest

from heed.training.loop import evenly_spaced


@pytest.mark.parametrize(
    ("times", "steps", "expected"), [(1, 7, {7}), (2, 7, {4, 7}), (4, 8, {2, 4, 6, 8}), (5, 2, {1, 2})]
)
def test_evenly_spaced_ends_with_the_last_step(times: int, steps: int, expected: set[int]) -> None:
    assert evenly_spaced(times, steps) == expected
