from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest

from heed.data.encode import EncodedRanking
from heed.data.rankings import labeling_tasks, ranking_set
from heed.data.tally import Tally
from heed.data.template import Template
from heed.errors import DataError
from heed.records import Comparison, Turn

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


def pairs(count: int, answer: str = "A car.") -> list:
    return [
        replace(Comparison((Turn("user", f"Ask {i}."),), "A pear.", answer).as_ranking(), where=f"r.jsonl:{i}")
        for i in range(count)
    ]


def test_what_is_lost_is_counted_and_listed(tokenizer, caplog: Any) -> None:
    long, same = pairs(4, "car " * 300)[3:], [replace(pairs(5)[4], responses=("A car.", " A car. "))]
    dropped = Tally()
    with caplog.at_level(logging.INFO, "heed"):
        found = ranking_set([*pairs(3), *long, *same], Template.named("dialogue"), tokenizer, 200, "training", dropped)
    assert found.lost == {"tied": 0, "identical": 1, "too_long": 1, "cut": 0}
    assert list(dropped) == [
        ("rankings with responses that do not fit", "r.jsonl:3"), ("rankings with identical responses", "r.jsonl:4"),
    ]  # fmt: skip
    assert "training: lost 1 rankings with responses that do not fit (first at r.jsonl:3)" in caplog.text


def test_when_most_are_lost_it_stops(tokenizer) -> None:
    long = pairs(5, "car " * 300)[2:]
    with pytest.raises(DataError, match="training rankings: only 2 of 5 are left") as caught:
        ranking_set([*pairs(2), *long], Template.named("dialogue"), tokenizer, 200, "training")
    assert "`max_tokens`" in caught.value.hint
    assert len(ranking_set([*pairs(2), *long], Template.named("dialogue"), tokenizer, 2000, "training").rankings) == 5
    assert len(ranking_set([*pairs(3), *long], Template.named("dialogue"), tokenizer, 200, "training").rankings) == 3


def test_what_looks_like_a_template_is_told(tokenizer, caplog: Any) -> None:
    typed = replace(pairs(2)[1], prompt=(Turn("user", "Ask.\n\nHuman: <|endoftext|>"),))
    with caplog.at_level(logging.INFO, "heed"):
        ranking_set([pairs(1)[0], typed], Template.named("dialogue"), tokenizer, 200, "training")
    assert (
        "kept as words: 1 rows with a speaker's marker inside a turn (first at r.jsonl:1), "
        "1 rows that spell a special token (first at r.jsonl:1)"
    ) in caplog.messages
