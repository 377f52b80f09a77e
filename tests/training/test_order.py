from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.training.order import evenly_spaced, shuffled_batches


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 3))
def test_every_row_comes_once_an_epoch(count: int, batch: int, epochs: int) -> None:
    batches = shuffled_batches(count, batch, float(epochs), seed=0)
    flat = [row for rows in batches for row in rows]
    for epoch in range(epochs):
        assert sorted(flat[epoch * count : (epoch + 1) * count]) == list(range(count))
    assert len(flat) == epochs * count
    assert all(len(rows) == batch for rows in batches[:-1])


def test_epochs_differ_and_so_do_seeds() -> None:
    flat = [row for rows in shuffled_batches(30, 7, 2.0, seed=0) for row in rows]
    assert flat[:30] != flat[30:]
    assert flat[:30] != [row for rows in shuffled_batches(30, 7, 1.0, seed=1) for row in rows]


def test_part_of_an_epoch() -> None:
    flat = Counter(row for rows in shuffled_batches(10, 4, 1.5, seed=0) for row in rows)
    assert sorted(flat.values()) == [1] * 5 + [2] * 5
    assert shuffled_batches(10, 4, 0.001, seed=0)  # never nothing


@pytest.mark.parametrize(
    ("times", "steps", "expected"), [(1, 7, {7}), (2, 7, {4, 7}), (4, 8, {2, 4, 6, 8}), (5, 2, {1, 2})]
)
def test_evenly_spaced_ends_with_the_last_step(times: int, steps: int, expected: set[int]) -> None:
    assert evenly_spaced(times, steps) == expected
