"""Sentences with slots: one template writes a sentence and reads it back.

`the {thing} is {a_kind}` writes "the apple is a fruit" from `{"thing": "apple", "kind": "fruit"}`, and finds the same
fields in any text. A list is kept as its words ("pear cow drum") and written out ("pear, cow and drum").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from heed.pocket import words
from heed.pocket.words import article, listed, spaced
from heed.pocket.world import PERSON, THING, WORLD

Fields = Mapping[str, str]


@dataclass(frozen=True)
class Slot:
    """A place in a template: the field that fills it, the words that may stand there, and whether it is a list."""

    field: str
    words: tuple[str, ...]
    is_list: bool = False

    @property
    def pattern(self) -> str:
        word = "|".join(sorted(self.words, key=len, reverse=True))
        return f"(?:{word})(?: , (?:{word}))*(?: and (?:{word}))?" if self.is_list else word

    def write(self, value: str) -> str | None:
        """The value as it stands in a sentence; None where it does not fit."""
        if self.is_list:
            return listed(value.split())
        if value in self.words:
            return value
        with_article = article(value)
        return with_article if with_article in self.words else None

    def read(self, text: str) -> str:
        """The value in its bare form: no article, no commas."""
        if self.is_list:
            return " ".join(word for word in text.split() if word in self.words)
        return text.removeprefix("an ").removeprefix("a ")


def _slots() -> dict[str, Slot]:
    things, people = tuple(THING), tuple(PERSON)
    plurals = tuple(thing.plural for thing in WORLD.things)
    plain = {
        "thing": things, "first_word": things, "last_word": things, "plural": plurals, "kind": words.KINDS,
        "colour": words.COLOURS, "one": words.COLOURS, "two": words.COLOURS,
        "place": words.PLACES, "person": people, "job": words.JOBS,
        "adjective": words.ADJECTIVES, "opposite": words.ADJECTIVES, "greeting": words.GREETINGS,
        "a": words.DIGITS, "b": words.DIGITS, "total": words.NUMBERS,
        "number": words.NUMBERS, "next": words.NUMBERS,
    }  # fmt: skip
    slots = {name: Slot(name, values) for name, values in plain.items()}
    for name in ("thing", "kind", "job"):
        slots[f"a_{name}"] = Slot(name, tuple(article(word) for word in plain[name]))
    slots["any_plural"] = Slot("plural", plurals + things)  # what people may take for a plural
    slots["yes"], slots["no"] = Slot("alive", ("yes",)), Slot("alive", ("no",))
    slots["things"] = Slot("things", things, is_list=True)
    slots["numbers"] = Slot("numbers", words.DIGITS, is_list=True)
    slots["sorted"] = Slot("sorted", words.DIGITS, is_list=True)
    return slots


SLOTS = _slots()
_PLACE = re.compile(r"\{(\w+)\}")


def fill(template: str, fields: Fields) -> str | None:
    """The template's sentence, or None where a field does not fit its slot (a "no" in `{yes}`, say)."""
    written = {}
    for slot in _places(template):
        written[slot] = SLOTS[slot].write(fields[SLOTS[slot].field])
        if written[slot] is None:
            return None
    return template.format(**written)


@cache
def _places(template: str) -> tuple[str, ...]:
    """The names of a template's slots."""
    return tuple(_PLACE.findall(template))


@cache
def reader(template: str) -> re.Pattern[str]:
    """What matches the template's sentences in `spaced` text, with a named group for each slot."""
    parts = _PLACE.split(template)
    patterns = [re.escape(spaced(part)) if i % 2 == 0 else _group(part) for i, part in enumerate(parts)]
    return re.compile(" ".join(pattern for pattern in patterns if pattern) + r"(?!\S)")


def first_words(template: str) -> frozenset[str]:
    """The words, or marks, with which the template's sentences may begin."""
    text, *rest = _PLACE.split(template)
    starts = (text,) if text.strip() else SLOTS[rest[0]].words
    return frozenset(spaced(start).split()[0] for start in starts)


def _group(slot: str) -> str:
    return f"(?P<{slot}>{SLOTS[slot].pattern})"


def fields_of(match: re.Match[str]) -> dict[str, str]:
    """The fields that a match of `reader` found."""
    return {SLOTS[name].field: SLOTS[name].read(text) for name, text in match.groupdict().items()}
