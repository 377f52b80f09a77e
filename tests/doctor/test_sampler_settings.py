"""T0: settings of a sampler by the names of several libraries; harmless ones, harmful ones, and unknown ones."""

from __future__ import annotations

from typing import Any

import pytest

from heed.doctor.findings import CAUSES
from heed.doctor.sampler_settings import HARMLESS, IRRELEVANT, sampler_settings


def causes(settings: dict[str, Any], temperature: float = 1.0, **known: int) -> tuple[list[str], list[str]]:
    found, unknown = sampler_settings([settings], temperature, **known)
    return [one.id for one in found], unknown


HARMFUL = [
    ({"top_k": 50}, "NK1"), ({"top_p": 0.9}, "NK1"), ({"min_p": 0.05}, "NK1"), ({"typical_p": 0.9}, "NK1"),
    ({"epsilon_cutoff": 1e-4}, "NK1"), ({"eta_cutoff": 1e-4}, "NK1"), ({"temperature": 0.7}, "NK2"),
    ({"repetition_penalty": 1.1}, "NK3"), ({"presence_penalty": -0.1}, "NK3"), ({"frequency_penalty": 0.1}, "NK3"),
    ({"no_repeat_ngram_size": 3}, "NK3"), ({"logit_bias": {"7": 1}}, "NK3"), ({"bad_words": ["x"]}, "NK3"),
    ({"bad_words_ids": [[5]]}, "NK3"), ({"allowed_token_ids": [1, 2]}, "NK3"), ({"sequence_bias": [[[4], -1]]}, "NK3"),
    ({"begin_suppress_tokens": [4]}, "NK3"), ({"suppress_tokens": [4]}, "NK3"), ({"guided_json": "{}"}, "NK3"),
    ({"min_new_tokens": 4}, "NK4"), ({"min_tokens": 1}, "NK4"), ({"min_length": 9}, "NK4"),
    ({"ignore_eos": True}, "NK4"),
    ({"do_sample": False}, "NK5"), ({"num_beams": 4}, "NK5"), ({"temperature": 0}, "NK5"), ({"best_of": 4}, "NK5"),
    ({"penalty_alpha": 0.6}, "NK5"), ({"guidance_scale": 1.5}, "NK13"), ({"truncate_prompt_tokens": 64}, "NK18"),
    ({"forced_eos_token_id": 0}, "NK24"),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "cause"), HARMFUL, ids=[str(one[0]) for one in HARMFUL])
def test_a_setting_that_changes_the_draw_is_named(settings: dict[str, Any], cause: str) -> None:
    assert causes(settings) == ([cause], [])


HARMLESS_VALUES: list[dict[str, Any]] = [
    {"top_k": 0}, {"top_k": -1}, {"top_p": 1}, {"top_p": 1.0}, {"min_p": 0.0}, {"typical_p": 1.0},
    {"epsilon_cutoff": 0.0},
    {"repetition_penalty": 1.0}, {"presence_penalty": 0.0}, {"no_repeat_ngram_size": 0}, {"logit_bias": {}},
    {"bad_words": []}, {"bad_words_ids": None}, {"allowed_token_ids": None}, {"min_tokens": 0}, {"ignore_eos": False},
    {"do_sample": True}, {"num_beams": 1}, {"best_of": 1}, {"guidance_scale": 1.0}, {"forced_eos_token_id": None},
    {"temperature": 1}, {"temperature": 1.0000001}, {"max_tokens": 128}, {"seed": 7}, {"n": 4}, {"stop": ["\n\n"]},
    {"logprobs": 1}, {"something_new": None}, {"something_new": []},
]  # fmt: skip


@pytest.mark.parametrize("settings", HARMLESS_VALUES, ids=str)
def test_what_changes_nothing_is_harmless(settings: dict[str, Any]) -> None:
    assert causes(settings) == ([], [])


def test_a_setting_that_is_not_known_is_named_as_not_tested() -> None:
    assert causes({"mirostat": 2, "top_k": 0, "dry_multiplier": 0.8}) == ([], ["mirostat", "dry_multiplier"])


def test_top_k_of_the_whole_vocabulary_cuts_nothing() -> None:
    assert causes({"top_k": 320}, vocab=320) == ([], [])
    assert causes({"top_k": 319}, vocab=320) == (["NK1"], [])
    assert causes({"top_k": 320}, largest_id=300) == ([], ["top_k"])  # the vocabulary is not known
    assert causes({"top_k": 50}, largest_id=300) == (["NK1"], [])


def test_the_settings_of_every_row_are_read() -> None:
    rows = [{"top_k": 0, "temperature": 1.0}] * 3 + [{"top_k": 40, "temperature": 0.7}]
    found, _ = sampler_settings(rows, 1.0)
    assert [one.id for one in found] == ["NK1", "NK2"]
    assert "--temperature 0.7" in found[1].message


def test_switches_are_not_numbers() -> None:
    assert causes({"top_k": True})[0] == ["NK1"]
    assert causes({"do_sample": 1})[0] == ["NK5"]


def test_every_cause_is_one_and_no_setting_is_in_two_lists() -> None:
    assert {cause for cause, _ in HARMLESS.values()} <= set(CAUSES)
    assert not set(HARMLESS) & IRRELEVANT
