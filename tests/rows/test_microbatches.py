from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from heed.rows.microbatches import PASS_COST, microbatches

lengths = st.lists(st.integers(1, 600), min_size=1, max_size=9)


def cost(groups: list[list[int]], sizes: list[int]) -> int:
    return sum(len(group) * max(sizes[i] for i in group) + PASS_COST["cpu"] for group in groups)


@given(lengths, st.integers(1, 2000))
def test_every_row_once_and_within_the_budget(sizes: list[int], budget: int) -> None:
    groups = microbatches(sizes, budget)
    assert sorted(i for group in groups for i in group) == list(range(len(sizes)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(sizes[i] for i in group) <= budget


@given(lengths, st.integers(1, 2000))
def test_no_other_partition_costs_less(sizes: list[int], budget: int) -> None:
    order = sorted(range(len(sizes)), key=lambda i: -sizes[i])
    allowed = []
    for cuts in (c for k in range(len(order)) for c in combinations(range(1, len(order)), k)):
        ends = [0, *cuts, len(order)]
        groups = [order[a:b] for a, b in pairwise(ends)]
        if all(len(group) == 1 or len(group) * sizes[group[0]] <= budget for group in groups):
            allowed.append(cost(groups, sizes))
    assert cost(microbatches(sizes, budget), sizes) == min(allowed)


def test_like_lengths_go_together() -> None:
    # four rows of 500 and four of 20 fit into one group of 8 · 500 = 4,000, of which 1,920 would be padding
    assert [len(group) for group in microbatches([500, 20] * 4, 4000)] == [4, 4]
    assert [len(group) for group in microbatches([500, 490] * 4, 4000)] == [
        8
    ]  # 40 tokens of padding cost less than a pass


def test_an_accelerator_gets_fewer_larger_groups() -> None:
    assert len(microbatches([500, 20] * 4, 4000, "cuda")) == 1


def test_heights_are_rows() -> None:
    # two items of three rows each: 6 · 10 = 60 does not fit into 59
    assert microbatches([10, 10], 59, heights=[3, 3]) == [[0], [1]]
    assert microbatches([10, 10], 60, heights=[3, 3]) == [[0, 1]]
