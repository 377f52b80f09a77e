"""What is true in the pocket world, and which part of it each stage may ask about.

The facts never change; a seed only decides what is drawn. Every thing, person, pair of opposites and set of numbers
belongs to exactly one split, in every family of tasks: what one stage asks about, no other stage asks about.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache
from itertools import combinations, combinations_with_replacement
from typing import Literal, TypeVar

from heed.pocket import words

Split = Literal["pretraining", "sft", "ranking", "evaluation"]
SHARES: dict[Split, int] = {"pretraining": 2, "sft": 2, "ranking": 2, "evaluation": 2}  # of every eight operands

Operand = TypeVar("Operand")


@dataclass(frozen=True, slots=True)
class Thing:
    """A thing and its four facts."""

    name: str
    plural: str
    kind: str
    colour: str
    place: str


@dataclass(frozen=True, slots=True)
class Person:
    """A person, what they do and what they live near."""

    name: str
    job: str
    home: str


@dataclass(frozen=True)
class World:
    """What there is to ask about: the whole world, or one split of it."""

    things: tuple[Thing, ...]
    people: tuple[Person, ...]
    opposites: tuple[tuple[str, str], ...]
    summands: tuple[tuple[int, ...], ...]  # a ≤ b, a + b < 10
    triples: tuple[tuple[int, ...], ...]  # three different digits, ascending
    middles: tuple[int, ...]  # numbers with one before and one after


def _things() -> tuple[Thing, ...]:
    rows = ((kind, row.split()) for kind, table in words.THINGS.items() for row in table.split(";"))
    return tuple(Thing(name, plural, kind, colour, place) for kind, (name, plural, colour, place) in rows)


WORLD = World(
    things=_things(),
    people=tuple(Person(*row.split()) for row in words.PEOPLE.split(";")),
    opposites=words.OPPOSITES,
    summands=tuple(pair for pair in combinations_with_replacement(range(10), 2) if sum(pair) < 10),
    triples=tuple(combinations(range(10), 3)),
    middles=tuple(range(1, 20)),
)
THING = {thing.name: thing for thing in WORLD.things}
PERSON = {person.name: person for person in WORLD.people}
OPPOSITE = {a: b for pair in WORLD.opposites for a, b in (pair, pair[::-1])}


def _deal(operands: Sequence[Operand], split: Split, seed: str) -> tuple[Operand, ...]:
    """The operands of `split`: every run of eight is dealt out at random in the proportion of `SHARES`."""
    rng = random.Random(f"pocket {seed}")
    pattern = [name for name, share in SHARES.items() for _ in range(share)]
    dealt = (name for _ in range(0, len(operands), len(pattern)) for name in rng.sample(pattern, len(pattern)))
    return tuple(operand for operand, name in zip(operands, dealt, strict=False) if name == split)


@cache
def part(split: Split) -> World:
    """The split's own part of the world."""
    return World(**{field.name: _deal(getattr(WORLD, field.name), split, field.name) for field in fields(World)})
