"""Pretraining text: every word of the closed vocabulary, nothing else, and no question that a later stage asks."""

from __future__ import annotations

import pytest

from heed.pocket import words
from heed.pocket.generate import demonstrations, evaluation_prompts, ranking_prompts
from heed.pocket.prose import pretraining_text
from heed.pocket.words import spell, tokens
from heed.pocket.world import WORLD


@pytest.fixture(scope="module")
def documents() -> list[str]:
    return pretraining_text(0, 300_000)


def test_the_vocabulary_is_closed_and_wholly_used(documents: list[str]) -> None:
    used = {token for document in documents for token in tokens(document)}
    assert used == set(words.VOCABULARY)
    assert len(words.VOCABULARY) == len(set(words.VOCABULARY))
    assert len(words.VOCABULARY) + len(words.SPECIAL) <= 512


def test_rows_use_words_of_the_vocabulary_only() -> None:
    rows = demonstrations(0, 3000)
    texts = [row.response for row in rows] + [row.prompt[0].content for row in rows]
    texts += [row.prompt[0].content for row in ranking_prompts(0, 1000) + evaluation_prompts(0, 400)]
    assert {token for text in texts for token in tokens(text)} <= set(words.VOCABULARY)


def test_text_survives_being_cut_into_tokens(documents: list[str]) -> None:
    for document in documents[:2000]:
        if "\n" not in document:
            assert spell(tokens(document)) == document
    for row in demonstrations(1, 500):
        assert spell(tokens(row.response)) == row.response


def test_length_is_as_asked(documents: list[str]) -> None:
    assert 300_000 <= sum(len(tokens(document)) for document in documents) < 304_000
    assert max(len(tokens(document)) for document in documents) <= 64


def test_every_fact_is_told(documents: list[str]) -> None:
    text = " ".join(documents)
    for thing in WORLD.things:
        assert f"the {thing.name} is {thing.colour}." in text
        told = f"the {thing.name} is in the {thing.place}.", f"find the {thing.name} in the {thing.place}."
        assert any(sentence in text for sentence in told)
        told = f"the plural of {thing.name} is {thing.plural}.", f"one {thing.name}, two {thing.plural}."
        assert any(sentence in text for sentence in told)
    for person in WORLD.people:
        assert f"{person.name} is" in text and person.job in text


def test_nothing_is_asked_that_is_ranked_or_evaluated(documents: list[str]) -> None:
    asked = {document.split("\n\n")[1].removeprefix("Human: ") for document in documents if "Human:" in document}
    assert len(asked) > 500
    later = ranking_prompts(0, 2000) + evaluation_prompts(0, 600)
    assert not asked & {row.prompt[0].content for row in later}


def test_the_seed_decides() -> None:
    assert pretraining_text(1, 2000) == pretraining_text(1, 2000) != pretraining_text(2, 2000)
