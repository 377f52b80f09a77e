from __future__ import annotations

from collections import Counter

import torch
from hypothesis import given
from hypothesis import strategies as st

from heed.data.order import EndlessOrder, shuffled_batches


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


def test_endless_order_has_every_row_before_one_comes_again() -> None:
    order = EndlessOrder(7, torch.Generator().manual_seed(0))
    flat = [row for _ in range(6) for row in order.take(5)]
    for start in range(0, 28, 7):
        assert sorted(flat[start : start + 7]) == list(range(7))
    assert flat[:7] != flat[7:14]


def test_endless_order_takes_more_rows_than_there_are() -> None:
    taken = Counter(EndlessOrder(3, torch.Generator().manual_seed(0)).take(8))
    assert sorted(taken.values()) == [2, 3, 3]


def test_endless_order_goes_on_where_its_state_and_generator_stood() -> None:
    generator = torch.Generator().manual_seed(0)
    order = EndlessOrder(7, generator)
    order.take(5)
    state, position = order.state_dict(), generator.get_state()
    expected = order.take(9)
    later = EndlessOrder(7, torch.Generator().manual_seed(1))
    later.load_state_dict(state)
    later.generator.set_state(position)
    assert later.take(9) == expected
