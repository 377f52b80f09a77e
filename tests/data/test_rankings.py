from __future__ import annotations

from heed.data.encode import EncodedRanking
from heed.data.rankings import labeling_tasks

TEXTS = [[7, 1, 0], [7, 2, 0], [7, 3, 0]]


def test_rankings_of_the_same_responses_are_one_task() -> None:
    mine, yours = EncodedRanking(TEXTS, [1, 2, 3], 1), EncodedRanking(TEXTS, [2, 1, 1], 1)
    other = EncodedRanking(TEXTS[:2], [1, 2], 1)  # the same prompt, but not the same responses
    assert labeling_tasks([mine, other, yours]) == [[mine, yours], [other]]
    assert labeling_tasks([]) == []


def test_whoever_saw_them_in_another_order_ranks_the_same_responses() -> None:
    first = EncodedRanking(TEXTS, [1, 2, 3], 1)
    shuffled = EncodedRanking([TEXTS[2], TEXTS[0], TEXTS[1]], [3, 1, 2], 1)
    assert labeling_tasks([first, shuffled]) == [[first, first]]


def test_equal_responses_keep_their_order_and_their_ranks() -> None:
    twice = [TEXTS[1], TEXTS[0], TEXTS[1]]
    first, second = EncodedRanking(twice, [2, 1, 3], 1), EncodedRanking([TEXTS[0], TEXTS[1], TEXTS[1]], [3, 2, 1], 1)
    assert labeling_tasks([first, second]) == [[first, EncodedRanking(twice, [2, 3, 1], 1)]]


def test_where_the_response_begins_is_part_of_the_task() -> None:
    one, other = EncodedRanking(TEXTS, [1, 2, 3], 1), EncodedRanking(TEXTS, [1, 2, 3], 0)
    assert labeling_tasks([one, other]) == [[one], [other]]
