"""Reading any text as the world's language: phrases, clauses, short answers, marks, and what is none of these."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from heed.pocket.families import FAMILIES, Family
from heed.pocket.phrases import PHRASES, Phrase
from heed.pocket.slots import fields_of, reader
from heed.pocket.words import spaced

# one letter a piece: what a sentence may be made of, see SENTENCES
OPENER, CLAIM, ALONE, CLAUSE, GREETING, SHORT, COMMA, STOP, NOISE = "otscgb,.x"
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
    for sort, pattern in _answer_patterns(family.name):
        if (match := pattern.match(rest)) is not None:
            yield Piece(sort, match.group(), claim=fields_of(match))
    for phrase, pattern in _phrase_patterns():
        if (match := pattern.match(rest)) is not None:
            yield Piece(_sort_of(phrase), match.group(), phrase)
    word = rest.split(" ", 1)[0]
    yield Piece({",": COMMA, ".": STOP, "!": STOP, "?": STOP, ":": COMMA}.get(word, NOISE), word)


def _sort_of(phrase: Phrase) -> str:
    return {"opener": OPENER, "claim": CLAIM, "before": ALONE, "after": ALONE}[phrase.position]


@cache
def _phrase_patterns() -> list[tuple[Phrase, re.Pattern[str]]]:
    return [(phrase, reader(phrase.text)) for phrase in PHRASES]


@cache
def _answer_patterns(name: str) -> list[tuple[str, re.Pattern[str]]]:
    """Clauses and short answers of all families, the named one's first."""
    ordered = sorted(FAMILIES, key=lambda family: family.name != name)
    clauses = [(_clause_sort(family), reader(text)) for family in ordered for text in family.sentences]
    return clauses + [(SHORT, reader(text)) for family in ordered for text in family.short]


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
