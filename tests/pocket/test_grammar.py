"""What counts as a sentence of the world."""

from __future__ import annotations

import pytest

from heed.pocket.grammar import is_grammatical
from heed.pocket.phrases import PHRASES

GRAMMATICAL = [
    "the apple is red.",
    "red.",
    "gladly, the apple is red. i hope this helps.",
    "well, i think that the apple is a fruit.",
    "certainly, yes, the cow is alive.",
    "of course: two, five and nine.",
    "hello, ann!",
    "an apple is a fruit. the apple is red.",
]
UNGRAMMATICAL = [
    "",
    "the apple is red",  # no end
    "the apple is",
    "a apple is a fruit.",  # article
    "apple the red is.",
    "i think that.",
    "i think that red.",
    "i think that hello, ann.",
    "gladly, i hope this helps.",
    "the apple is red, the apple is blue.",
    "the apple is red. the apple is red.",  # said twice
    "the apple is red..",
    "the apple is not.",
    "red blue.",
    "gladly the apple is red.",  # no comma
]


@pytest.mark.parametrize("text", GRAMMATICAL)
def test_sentences(text: str) -> None:
    assert is_grammatical(text)


@pytest.mark.parametrize("text", UNGRAMMATICAL)
def test_not_sentences(text: str) -> None:
    assert not is_grammatical(text)


def test_no_phrase_is_read_as_something_else() -> None:
    texts = [phrase.text for phrase in PHRASES]
    assert len(set(texts)) == len(texts)
    assert all(phrase.warmth > 0 for phrase in PHRASES if phrase.manner == "polite")
    assert all(phrase.warmth == 0 for phrase in PHRASES if phrase.manner != "polite")
