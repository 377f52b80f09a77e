"""Plausible mistakes: the fields of a task with something wrong in place of what is right."""

from __future__ import annotations

import random
from collections.abc import Callable

from heed.pocket.operands import other
from heed.pocket.slots import SLOTS, Fields
from heed.pocket.words import NUMBERS
from heed.pocket.world import WORLD

Mistake = Callable[[Fields, random.Random], dict[str, str]]


def instead_of(*names: str) -> Mistake:
    """Another word of the same class in one or more of these fields."""

    def mistake(fields: Fields, rng: random.Random) -> dict[str, str]:
        chosen = rng.sample(names, rng.randint(1, len(names)))
        return {**fields, **{name: other(SLOTS[name].words, fields[name], rng) for name in chosen}}

    return mistake


def other_colour_asked(fields: Fields, rng: random.Random) -> dict[str, str]:
    """The wrong one of the two colours offered."""
    return {**fields, "colour": fields["two"] if fields["colour"] == fields["one"] else fields["one"]}


def other_plural(fields: Fields, rng: random.Random) -> dict[str, str]:
    """The plural of another thing."""
    return {**fields, "plural": other([thing.plural for thing in WORLD.things], fields["plural"], rng)}


def other_verdict(fields: Fields, rng: random.Random) -> dict[str, str]:
    """Yes for no, no for yes."""
    return {**fields, "alive": "no" if fields["alive"] == "yes" else "yes"}


def near_number(name: str) -> Mistake:
    """A number at most three away."""

    def mistake(fields: Fields, rng: random.Random) -> dict[str, str]:
        right = NUMBERS.index(fields[name])
        near = [n for n in range(right - 3, right + 4) if n != right and 0 <= n <= 20]
        return {**fields, name: NUMBERS[rng.choice(near)]}

    return mistake


def one_changed(name: str) -> Mistake:
    """One of the words is another."""

    def mistake(fields: Fields, rng: random.Random) -> dict[str, str]:
        words = fields[name].split()
        spare = [word for word in SLOTS[name].words if word not in words]
        words[rng.randrange(len(words))] = rng.choice(spare)
        return {**fields, name: " ".join(words)}

    return mistake


def disorder(name: str) -> Mistake:
    """The right words in another order, or one of them changed."""

    def mistake(fields: Fields, rng: random.Random) -> dict[str, str]:
        right = fields[name].split()
        wrong = rng.sample(right, len(right))
        if wrong == right:
            spare = [word for word in SLOTS[name].words if word not in right]
            wrong[rng.randrange(len(wrong))] = rng.choice(spare)
        return {**fields, name: " ".join(wrong)}

    return mistake
