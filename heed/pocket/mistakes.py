"""Plausible mistakes: the fields of a task with something wrong in place of what is right."""

from __future__ import annotations

import random
from collections.abc import Callable

from heed.pocket import words
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
    """No plural at all, or the plural of another thing of the kind."""
    kin = [thing for thing in WORLD.things if thing.kind == fields["kind"] and thing.name != fields["thing"]]
    return {**fields, "plural": rng.choice([fields["thing"], rng.choice(kin).plural])}


def other_verdict(fields: Fields, rng: random.Random) -> dict[str, str]:
    """Yes for no, no for yes, and a wrong colour to go with it."""
    flipped = {**fields, "verdict": "no" if fields["verdict"] == "yes" else "yes"}
    return {**flipped, "colour": other(words.COLOURS, fields["colour"], rng)}


def near_number(name: str) -> Mistake:
    """A number at most two away."""

    def mistake(fields: Fields, rng: random.Random) -> dict[str, str]:
        right = NUMBERS.index(fields[name])
        near = [n for n in range(right - 2, right + 3) if n != right and 0 <= n <= 20]
        return {**fields, name: NUMBERS[rng.choice(near)]}

    return mistake


def other_in_list(name: str) -> Mistake:
    """Another word of the list."""

    def mistake(fields: Fields, rng: random.Random) -> dict[str, str]:
        return {**fields, name: other(fields["things"].split(), fields[name], rng)}

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
