"""T0: what the sampler was told, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from heed.doctor.sampler_settings import sampler_settings

NEUTRAL = {
    "do_sample": True, "num_beams": 1, "top_k": 0, "top_p": 1.0, "min_p": 0, "repetition_penalty": 1.0,
    "presence_penalty": 0.0, "no_repeat_ngram_size": 0, "min_new_tokens": 0, "temperature": 0.7, "max_new_tokens": 24,
    "bad_words_ids": None, "min_length": None, "suppress_tokens": [],
}  # fmt: skip


def causes(rows: list[dict[str, Any]], **known: Any) -> list[str]:
    return [found.id for found in sampler_settings(rows, **known)[0]]


def test_settings_that_change_nothing() -> None:
    assert sampler_settings([NEUTRAL, NEUTRAL], scored_temperature=0.7) == ([], [])


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"top_k": 5}, "NK1"),
        ({"top_p": 0.95}, "NK1"),
        ({"temperature": 1.0}, "NK2"),
        ({"repetition_penalty": 1.1}, "NK3"),
        ({"suppress_tokens": [3]}, "NK3"),
        ({"min_new_tokens": 4}, "NK4"),
        ({"do_sample": False}, "NK5"),
        ({"temperature": 0}, "NK5"),
        ({"forced_eos_token_id": 0}, "NK24"),
    ],
)
def test_a_setting_that_the_scorer_does_not_know_of(changes: dict[str, Any], cause: str) -> None:
    assert causes([NEUTRAL, {**NEUTRAL, **changes}, {**NEUTRAL, **changes}], scored_temperature=0.7) == [cause]


def test_a_temperature_is_compared_where_both_are_known() -> None:
    assert causes([{"temperature": 1.3}]) == []
    assert causes([{"temperature": None}], scored_temperature=0.7) == []
    assert causes([{"temperature": 1}], scored_temperature=1) == []


def test_a_setting_that_is_not_known_is_named_and_no_finding() -> None:
    assert sampler_settings([{"mystery": 3, "top_k": 5}])[1] == ["mystery"]
    assert causes([{"mystery": 3, "top_k": 5}]) == ["NK1"]


def test_a_top_k_of_the_whole_vocabulary_cuts_nothing() -> None:
    assert sampler_settings([{"top_k": 50}], vocab=50) == ([], [])
    assert causes([{"top_k": 49}], vocab=50) == ["NK1"]
    assert causes([{"top_k": 50}], largest_id=60) == ["NK1"]  # the vocabulary is larger than k
    assert sampler_settings([{"top_k": 50}], largest_id=40) == ([], ["top_k"])
