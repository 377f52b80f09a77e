"""What is true in the pocket world, and which part of it each stage may ask about.

The facts never change; a seed only decides what is drawn. In each area of knowledge (colours, plurals, sums ...) every
operand belongs to exactly one split: whose colour one stage asks for, no other stage asks for.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import combinations, combinations_with_replacement
from typing import Literal, TypeVar
from zlib import crc32

from heed.pocket import words

Split = Literal["sft", "ranking", "evaluation"]
SHARES: dict[Split, int] = {"sft": 4, "ranking": 2, "evaluation": 2}  # of every eight operands
_PATTERN: list[Split] = [split for split, share in SHARES.items() for _ in range(share)]

Operand = TypeVar("Operand")


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing and its facts."""

    name: str
    plural: str
    kind: str
    colour: str
    place: str

    @property
    def is_alive(self) -> bool:
        return self.kind in words.LIVING


@dataclass(frozen=True, slots=True)
class Person:
    """A person and what they do."""

    name: str
    job: str


@dataclass(frozen=True)
class World:
    """What there is to ask about: everything, or one split's part of it."""

    things: tuple[Thing, ...]
    people: tuple[Person, ...]
    opposites: tuple[tuple[str, ...], ...]  # pairs
    summands: tuple[tuple[int, ...], ...]  # 1 ≤ a ≤ b, a + b < 10
    triples: tuple[tuple[int, ...], ...]  # three different digits, ascending
    middles: tuple[int, ...]  # numbers with one before and one after
    split: Split | None = None  # None: everything

    def owns(self, names: Iterable[str]) -> bool:
        """Whether lists of these names, in any order, belong to this part."""
        return self.split is None or self.split == _PATTERN[crc32(" ".join(sorted(names)).encode()) % len(_PATTERN)]


def _things() -> tuple[Thing, ...]:
    rows = ((kind, row.split()) for kind, table in words.THINGS.items() for row in table.split(";"))
    return tuple(Thing(name, plural, kind, colour, place) for kind, (name, plural, colour, place) in rows)


WORLD = World(
    things=_things(),
    people=tuple(Person(*row.split()) for row in words.PEOPLE.split(";")),
    opposites=words.OPPOSITES,
    summands=tuple(pair for pair in combinations_with_replacement(range(1, 10), 2) if sum(pair) < 10),
    triples=tuple(combinations(range(10), 3)),
    middles=tuple(range(1, 20)),
)
THING = {thing.name: thing for thing in WORLD.things}
PERSON = {person.name: person for person in WORLD.people}
OPPOSITE = {word: other for pair in WORLD.opposites for word, other in (pair, pair[::-1])}


def _deal(operands: Sequence[Operand], split: Split, seed: str) -> tuple[Operand, ...]:
    """The operands of `split`: every run of eight is dealt out at random in the proportion of `SHARES`."""
    rng = random.Random(f"pocket {seed}")
    dealt = (name for _ in range(0, len(operands), len(_PATTERN)) for name in rng.sample(_PATTERN, len(_PATTERN)))
    return tuple(operand for operand, name in zip(operands, dealt, strict=False) if name == split)


@cache
def part(split: Split, area: str) -> World:
    """What belongs to the split in an area of knowledge."""
    names = [field.name for field in fields(World) if field.name != "split"]
    return World(**{name: _deal(getattr(WORLD, name), split, f"{area} {name}") for name in names}, split=split)
