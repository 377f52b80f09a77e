"""What a task asks about, drawn from a part of the world, and everything that is true of it.

A draw returns fields such as `{"thing": "apple"}`; `about_...` adds the facts: kind, colour, place, plural.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from heed.pocket import words
from heed.pocket.slots import Fields
from heed.pocket.words import NUMBERS
from heed.pocket.world import OPPOSITE, PERSON, THING, WORLD, World

OWN = {"colour": words.COLOURS, "place": words.PLACES}

SINGULAR = {thing.plural: thing.name for thing in WORLD.things}

Draw = Callable[[World, random.Random], dict[str, str]]
Solve = Callable[[Fields], dict[str, str]]


def other(values: Sequence[str], right: str, rng: random.Random) -> str:
    """Any of the values but the right one."""
    return rng.choice([value for value in values if value != right])


def any_thing(world: World, rng: random.Random) -> dict[str, str]:
    """One thing."""
    return {"thing": rng.choice(world.things).name}


def two_colours(world: World, rng: random.Random) -> dict[str, str]:
    """A thing, and two colours of which one is its own."""
    thing = rng.choice(world.things)
    one, two = rng.sample([thing.colour, other(words.COLOURS, thing.colour, rng)], 2)
    return {"thing": thing.name, "one": one, "two": two}


def living_or_not(world: World, rng: random.Random) -> dict[str, str]:
    """A thing, as often alive as not."""
    alive = rng.random() < 0.5
    return {"thing": rng.choice([thing for thing in world.things if thing.is_alive == alive]).name}


def any_adjective(world: World, rng: random.Random) -> dict[str, str]:
    """One side of a pair of opposites."""
    return {"adjective": rng.choice(rng.choice(world.opposites))}


def two_summands(world: World, rng: random.Random) -> dict[str, str]:
    """Two digits in either order, their sum below ten."""
    pair = rng.choice(world.summands)
    a, b = rng.sample(pair, 2)
    return {"a": NUMBERS[a], "b": NUMBERS[b]}


def any_number(world: World, rng: random.Random) -> dict[str, str]:
    """A number."""
    return {"number": NUMBERS[rng.choice(world.middles)]}


def three_digits(world: World, rng: random.Random) -> dict[str, str]:
    """Three different digits in any order."""
    return {"numbers": " ".join(NUMBERS[n] for n in rng.sample(rng.choice(world.triples), 3))}


def list_of(fewest: int, most: int) -> Draw:
    """Lists of different things, from `fewest` to `most` of them."""

    def draw(world: World, rng: random.Random) -> dict[str, str]:
        while True:
            names = [thing.name for thing in rng.sample(WORLD.things, rng.randint(fewest, most))]
            if world.owns(names):
                return {"things": " ".join(names)}

    return draw


def own(what: str) -> Draw:
    """Somebody's own thing, whose colour or place is not that of the world's."""

    def draw(world: World, rng: random.Random) -> dict[str, str]:
        while True:
            thing = rng.choice(WORLD.things)
            asked = {"thing": thing.name, what: other(OWN[what], getattr(thing, what), rng)}
            if world.owns(asked.values()):
                return asked

    return draw


def own_several(world: World, rng: random.Random) -> dict[str, str]:
    """Somebody's own things, two to nine of them."""
    while True:
        asked = {"plural": rng.choice(WORLD.things).plural, "number": rng.choice(words.DIGITS[2:])}
        if world.owns(asked.values()):
            return asked


def any_person(world: World, rng: random.Random) -> dict[str, str]:
    """One person."""
    return {"person": rng.choice(world.people).name}


def any_greeting(world: World, rng: random.Random) -> dict[str, str]:
    """One person and what to say to them."""
    while True:
        asked = {"person": rng.choice(WORLD.people).name, "greeting": rng.choice(words.GREETINGS)}
        if world.owns(asked.values()):
            return asked


def about_thing(fields: Fields) -> dict[str, str]:
    """The facts of the thing."""
    thing = THING[fields["thing"]]
    truth = {"plural": thing.plural, "kind": thing.kind, "colour": thing.colour, "place": thing.place}
    return {**fields, **truth, "alive": "yes" if thing.is_alive else "no"}


def about_own_thing(fields: Fields) -> dict[str, str]:
    """The facts of such a thing; what is said of this one goes before them."""
    return {**about_thing(fields), **fields}


def about_own_several(fields: Fields) -> dict[str, str]:
    """The facts of such things."""
    return about_own_thing({**fields, "thing": SINGULAR[fields["plural"]]})


def about_person(fields: Fields) -> dict[str, str]:
    """The job."""
    return {**fields, "job": PERSON[fields["person"]].job}


def about_adjective(fields: Fields) -> dict[str, str]:
    """The opposite."""
    return {**fields, "opposite": OPPOSITE[fields["adjective"]]}


def about_sum(fields: Fields) -> dict[str, str]:
    """The total."""
    return {**fields, "total": NUMBERS[NUMBERS.index(fields["a"]) + NUMBERS.index(fields["b"])]}


def about_number(fields: Fields) -> dict[str, str]:
    """The next number."""
    return {**fields, "next": NUMBERS[NUMBERS.index(fields["number"]) + 1]}


def about_list(fields: Fields) -> dict[str, str]:
    """The first word and the last."""
    names = fields["things"].split()
    return {**fields, "first_word": names[0], "last_word": names[-1]}


def about_order(fields: Fields) -> dict[str, str]:
    """The numbers, ascending."""
    return {**fields, "sorted": " ".join(sorted(fields["numbers"].split(), key=NUMBERS.index))}


def as_asked(fields: Fields) -> dict[str, str]:
    """Nothing to add: the answer repeats what was asked."""
    return dict(fields)
