"""Padding, masks, batches of like length, rows of running text."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from heed.data.batch import prompt_batch, ranking_batch, sft_batch, text_rows, token_budget_batches
from heed.data.encode import EncodedDemonstration, EncodedRanking

PAD = 9
rows = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=8), min_size=1, max_size=6)  # 9 is a word too


def test_prompts_are_padded_on_the_left() -> None:
    batch = prompt_batch([[1, 2, 3], [4], [9, 5]], PAD)
    assert batch.tokens.tolist() == [[1, 2, 3], [9, 9, 4], [9, 9, 5]]
    assert batch.mask.tolist() == [[True] * 3, [False, False, True], [False, True, True]]
    assert (batch.tokens.dtype, batch.mask.dtype) == (torch.int64, torch.bool)


def test_demonstrations_are_padded_on_the_right() -> None:
    batch = sft_batch([EncodedDemonstration([1, 2, 3, 0], 2), EncodedDemonstration([4, 0], 1)], PAD)
    assert batch.tokens.tolist() == [[1, 2, 3, 0], [4, 0, 9, 9]]
    assert batch.mask.tolist() == [[True] * 4, [True, True, False, False]]
    assert batch.response_mask.tolist() == [[False, False, True, True], [False, True, False, False]]


def test_every_response_stands_once_whoever_ranked_it() -> None:
    first = EncodedRanking([[7, 1, 2, 0], [7, 1, 3, 4, 0], [7, 1]], [2, 1, 2], 2)  # the last response is empty
    second = EncodedRanking([[5, 6, 0], [5, 0]], [1, 2], 1)
    batch = ranking_batch([[first, first._replace(ranks=[1, 2, 3])], [second]], PAD)
    assert batch.prompts.tokens.tolist() == [[7], [PAD]]
    assert batch.prompts.mask.tolist() == [[True], [False]]
    assert batch.tokens.tolist() == [[1, 2, 0, 9], [1, 3, 4, 0], [1, 9, 9, 9], [5, 6, 0, 9], [5, 0, 9, 9]]
    assert batch.mask.sum(1).tolist() == [3, 4, 1, 3, 2]
    assert batch.segments.tolist() == [0, 0, 0, 1, 1]
    assert batch.ranks.tolist() == [2, 1, 2, 1, 2, 3, 1, 2]
    assert batch.ranked.tolist() == [0, 1, 2, 0, 1, 2, 3, 4]
    assert batch.rankings.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert batch.tasks.tolist() == [0, 0, 1]


@given(rows)
def test_the_mask_gives_back_the_rows(sequences: list[list[int]]) -> None:
    left = prompt_batch(sequences, PAD)
    right = sft_batch([EncodedDemonstration(row, 0) for row in sequences], PAD)
    for batch in (left, right):
        assert [tokens[mask].tolist() for tokens, mask in zip(batch.tokens, batch.mask, strict=True)] == sequences
        assert (batch.tokens[~batch.mask] == PAD).all()
    assert left.mask[:, -1].all()
    assert right.mask[:, 0].all()


def test_batches_by_hand() -> None:
    # longest first: 7 alone (7·2 > 12), then 5 and 4 (5·2 = 10), then 3, 2 and 1 (3·3 = 9)
    assert token_budget_batches([3, 7, 1, 5, 2, 4], 12) == [[1], [3, 5], [0, 4, 2]]


def test_a_single_item_may_be_larger_than_the_budget() -> None:
    assert token_budget_batches([20, 3, 30], 10) == [[2], [0], [1]]
    assert token_budget_batches([], 10) == []


def test_items_of_several_rows() -> None:
    # areas: 4 rows of 5 = 20; with the next one 6 rows of 5 = 30 > 24
    assert token_budget_batches([5, 4, 2], 24, rows=[4, 2, 9]) == [[0], [1], [2]]
    assert token_budget_batches([5, 4, 2], 30, rows=[4, 2, 9]) == [[0, 1], [2]]


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(1, 9))), st.integers(1, 400))
def test_batches_are_a_partition_within_the_budget(items: list[tuple[int, int]], budget: int) -> None:
    lengths, heights = [length for length, _ in items], [height for _, height in items]
    batches = token_budget_batches(lengths, budget, heights)
    assert sorted(i for batch in batches for i in batch) == list(range(len(items)))
    for batch in batches:
        area = sum(heights[i] for i in batch) * max(lengths[i] for i in batch)
        assert area <= budget or len(batch) == 1
    flat = [lengths[i] for batch in batches for i in batch]
    assert flat == sorted(flat, reverse=True)


def test_running_text_by_hand() -> None:
    documents = [torch.tensor([1, 2, 3]), [4], [], [5, 6, 7, 8]]
    # 1 2 3 0 4 0 0 5 6 7 8 0: a row of five, a row of five, two tokens too few for a third
    assert text_rows(documents, 5, eos_id=0).tolist() == [[1, 2, 3, 0, 4], [0, 0, 5, 6, 7]]
    assert text_rows([[1]], 5, eos_id=0).shape == (0, 5)
    assert text_rows([], 5, eos_id=0).shape == (0, 5)
