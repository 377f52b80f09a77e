"""Reading any text as the world's language: phrases, clauses, short answers, marks, and what is none of these."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import TypeVar

from heed.pocket.families import FAMILIES, Family
from heed.pocket.phrases import PHRASES, Phrase
from heed.pocket.slots import fields_of, first_words, reader
from heed.pocket.words import spaced

# one letter a piece: what a sentence may be made of, see SENTENCES
OPENER, CLAIM, ALONE, CLAUSE, GREETING, SHORT, COMMA, STOP, NOISE = "otscgb,.x"
Kept = TypeVar("Kept")
SENTENCES = re.compile(r"((o,)*(t?c|b|g)\.|s\.|o\.)+")


@dataclass(frozen=True)
class Piece:
    """A stretch of text that was recognised, or one word or mark that was not (`NOISE`)."""

    sort: str
    text: str
    phrase: Phrase | None = None
    claim: dict[str, str] = field(default_factory=dict)  # the fields that a clause or short answer fills

    @property
    def length(self) -> int:
        """Words, marks not counted."""
        return sum(word.isalnum() for word in self.text.split())


def pieces(text: str, family: Family) -> list[Piece]:
    """The text cut into pieces from left to right, longest match first; what is read as `family`'s goes first."""
    rest, found = spaced(text), []
    while rest:
        piece = max(_readings(rest, family), key=lambda piece: len(piece.text))  # the first of equals
        found.append(piece)
        rest = rest[len(piece.text) :].strip()
    return found


def _readings(rest: str, family: Family) -> Iterator[Piece]:
    word = rest.split(" ", 1)[0]
    for sort, pattern in _answer_patterns(family.name).get(word, ()):
        if (match := pattern.match(rest)) is not None:
            yield Piece(sort, match.group(), claim=fields_of(match))
    for phrase, pattern in _phrase_patterns().get(word, ()):
        if (match := pattern.match(rest)) is not None:
            yield Piece(_sort_of(phrase), match.group(), phrase)
    yield Piece({",": COMMA, ".": STOP, "!": STOP, "?": STOP, ":": COMMA}.get(word, NOISE), word)


def _sort_of(phrase: Phrase) -> str:
    return {"opener": OPENER, "claim": CLAIM, "before": ALONE, "after": ALONE}[phrase.position]


@cache
def _phrase_patterns() -> dict[str, list[tuple[Phrase, re.Pattern[str]]]]:
    return _by_first_word((phrase.text, phrase) for phrase in PHRASES)


@cache
def _answer_patterns(name: str) -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Clauses and short answers of all families, the named one's first."""
    ordered = sorted(FAMILIES, key=lambda family: family.name != name)
    clauses = [(text, _clause_sort(family)) for family in ordered for text in family.sentences]
    return _by_first_word([*clauses, *((text, SHORT) for family in ordered for text in family.short)])


def _by_first_word(templates: Iterable[tuple[str, Kept]]) -> dict[str, list[tuple[Kept, re.Pattern[str]]]]:
    """What matches the templates, under each word with which one may begin: most need not be tried."""
    found: dict[str, list[tuple[Kept, re.Pattern[str]]]] = {}
    for text, kept in templates:
        for word in first_words(text):
            found.setdefault(word, []).append((kept, reader(text)))
    return found


def _clause_sort(family: Family) -> str:
    return GREETING if family.name == "request" else CLAUSE


def well_formed(found: list[Piece]) -> bool:
    """Whole sentences and nothing else, none of them said twice."""
    if SENTENCES.fullmatch("".join(piece.sort for piece in found)) is None:
        return False
    said = " ".join(piece.text for piece in found).replace("!", ".").replace("?", ".").split(" .")
    sentences = [sentence.strip() for sentence in said if sentence.strip()]
    return len(sentences) == len(set(sentences))


def is_grammatical(text: str) -> bool:
    """Whether the text is whole sentences of the world's language, none of them repeated.

    A short answer ("red.") counts as a sentence, as it does among people.
    """
    return well_formed(pieces(text, FAMILIES[0]))
