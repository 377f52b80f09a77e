"""English-like text about the pocket world: what the base model reads before anybody asks it anything.

Every fact is told many times and in many ways. Questions in the dialogue form are asked about the SFT split only.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from functools import cache

from heed.pocket.families import FAMILIES, FAMILY
from heed.pocket.generate import answer
from heed.pocket.operands import about_adjective, about_number, about_person, about_sum, about_thing
from heed.pocket.slots import fill
from heed.pocket.tasks import answers, draw_task
from heed.pocket.words import ADJECTIVES, COLOURS, DIGITS, GREETINGS, NUMBERS, PLACES, article, listed, tokens
from heed.pocket.world import PERSON, THING, WORLD

Writer = Callable[[random.Random], str]

THING_TEXTS = (
    "the {thing} is {colour}.", "the {thing} is in the {place}.", "the {thing} is {a_kind}.", "{a_thing} is {a_kind}.",
    "the {thing} is a {colour} {kind}.", "the {thing} is a {colour} {kind} in the {place}.",
    "the {thing} is {a_kind} and it is {colour}.", "look at the {thing}. it is {colour}.",
    "think of the {thing}. it is {a_kind}.", "we look for the {thing}. it is in the {place}.",
    "we see the {thing}. it is a {colour} {kind}.", "the colour of the {thing} is {colour}.",
    "you can find the {thing} in the {place}.", "one {thing}, two {plural}.", "the plural of {thing} is {plural}.",
    "there are many {plural} in the {place}.", "{plural} are {colour}.",
    "more than one {thing}: {plural}.", "for more than one {thing} we say {plural}.",
    "is the {thing} alive? {yes}.", "is the {thing} alive? {no}.", "{thing}, alive? {yes}.", "{thing}, alive? {no}.",
    "if it is {a_thing}, is it alive? {yes}.", "if it is {a_thing}, is it alive? {no}.", "{yes}, the {thing} is alive.",
    "{no}, the {thing} is not alive.",
    "{thing}: {colour}, {a_kind}, in the {place}.", "{thing}: {kind}, {colour}, {place}.", "{thing}: {plural}.",
)  # fmt: skip
PERSON_TEXTS = (
    "{person} is {a_job}.", "{person} works as {a_job}.", "the job of {person} is {job}.", "{person}: {a_job}.",
    "{person}: {job}.",
)  # fmt: skip
ADJECTIVE_TEXTS = (
    "the opposite of {adjective} is {opposite}.", "if it is not {adjective}, it is {opposite}.",
    "{adjective} is the opposite of {opposite}.", "{adjective}: {opposite}.",
    "{adjective} and {opposite} are opposites.", "some are {adjective}, some are {opposite}.",
)  # fmt: skip
NUMBER_TEXTS = (
    "after {number} comes {next}.", "the number after {number} is {next}.", "{number}, {next}.", "{number}: {next}.",
)  # fmt: skip
SUM_TEXTS = ("{a} plus {b} is {total}.", "{a} plus {b} makes {total}.", "{a} plus {b}: {total}.")
ORDER_TEXTS = ("the right order is {sorted}.", "in order they are {sorted}.", "in order: {sorted}.")
LIST_TEXTS = (
    "the first word is {first}.", "the last word is {last}.", "first word: {first}.", "last word: {last}.",
)  # fmt: skip
ASKED_FOR = {
    "kind": "the kind of the {thing}", "colour": "the colour of the {thing}", "place": "the place of the {thing}",
    "describe": "the colour and the kind of the {thing}", "plural": "the plural of {thing}",
    "opposite": "the opposite of {adjective}", "sum": "{a} plus {b}", "after": "the number after {number}",
    "first": "the first word. the words are {things}",
    "last": "the last word. the words are {things}",
    "sort": "the order. the numbers are {numbers}", "repeat": "the words. the words are {things}",
    "job": "the job of {person}", "request": "{greeting} to {person}",
    "alive": "to know: is the {thing} alive",
    "choose": "to choose: {thing}, {one}, {two}",
    "own_colour": "to know the colour of my {thing}. it is {colour}",
    "own_place": "to find my {thing}. it is in the {place}",
    "own_number": "to know: how many {plural} do i have. i have {number}",
}  # fmt: skip
SUNG = (*THING, *PERSON, *ADJECTIVES, *NUMBERS, *COLOURS)
PARAGRAPHS = (0.41, 0.12, 0.08, 0.11, 0.28)  # about things, people, adjectives, numbers, sums


def pretraining_text(seed: int, n: int) -> list[str]:
    """Documents of `n` tokens together, or a little more; same seed, same text."""
    rng = random.Random(f"pretraining {seed}")
    documents: list[str] = []
    while n > 0:
        fresh = [writer(rng) for writer in rng.choices(list(WRITERS), list(WRITERS.values()), k=100)]
        documents += fresh
        n -= sum(len(tokens(document)) for document in fresh)
    return documents


@cache
def _facts() -> list[list[list[str]]]:
    """For each sort of operand and each operand of the whole world: all that is said of it."""
    things = [answers(THING_TEXTS, about_thing({"thing": thing.name})) for thing in WORLD.things]
    people = [answers(PERSON_TEXTS, about_person({"person": person.name})) for person in WORLD.people]
    adjectives = [answers(ADJECTIVE_TEXTS, about_adjective({"adjective": word})) for word in ADJECTIVES]
    numbers = [answers(NUMBER_TEXTS, about_number({"number": NUMBERS[number]})) for number in WORLD.middles]
    pairs = [order for pair in WORLD.summands for order in (pair, pair[::-1])]
    sums = [answers(SUM_TEXTS, about_sum({"a": NUMBERS[a], "b": NUMBERS[b]})) for a, b in pairs]
    return [things, people, adjectives, numbers, sums]


def paragraph(rng: random.Random) -> str:
    """A few true sentences about one thing, person, word or number."""
    (operands,) = rng.choices(_facts(), PARAGRAPHS)
    said = rng.choice(operands)
    return " ".join(rng.sample(said, rng.randint(2, min(5, len(said)))))


def order(rng: random.Random) -> str:
    """Three numbers and their order."""
    task = draw_task(FAMILY["sort"], None, rng)
    return " ".join([_given("numbers", task.fields["numbers"], rng), *rng.sample(answers(ORDER_TEXTS, task.fields), 2)])


def word_list(rng: random.Random) -> str:
    """Some words, which is first, which is last."""
    names = [thing.name for thing in rng.sample(WORLD.things, rng.randint(2, 4))]
    said = [text.format(first=names[0], last=names[-1]) for text in LIST_TEXTS]
    return " ".join([_given("words", " ".join(names), rng), *rng.sample(said, rng.randint(1, 3))])


def _given(what: str, items: str, rng: random.Random) -> str:
    """`the words are pear, cow and drum.`, sometimes said twice."""
    return " ".join([f"the {what} are {listed(items.split())}."] * rng.randint(1, 2))


def song(rng: random.Random) -> str:
    """Any words of the world, sung by one and then by all."""
    sung = ", ".join(rng.sample(SUNG, rng.randint(2, 5)))
    return f"{rng.choice(WORLD.people).name} sings: {sung}. all sing: {sung}."


def visit(rng: random.Random) -> str:
    """Somebody sees something somewhere, meets somebody, and they greet each other."""
    one, two = (person.name for person in rng.sample(WORLD.people, 2))
    thing = rng.choice(WORLD.things)
    sees = f"{one} goes to the {thing.place}. there {one} sees {article(thing.name)}. it is {thing.colour}."
    said, reply = rng.choices(GREETINGS, k=2)
    asks = f"{one} wants to say {said} to {two}. {one} says: {said}, {two}. {two} says: {reply}, {one}."
    return " ".join(rng.sample([sees, asks], rng.randint(1, 2)))


def owner(rng: random.Random) -> str:
    """Somebody tells of a thing of their own, and is told the same."""
    one, two = (person.name for person in rng.sample(WORLD.people, 2))
    thing = rng.choice(WORLD.things)
    number, colour, place = rng.choice(DIGITS[2:]), rng.choice(COLOURS), rng.choice(PLACES)
    said, heard = rng.choice(
        (
            (f"my {thing.name} is {colour}", f"your {thing.name} is {colour}"),
            (f"my {thing.name} is in the {place}", f"your {thing.name} is in the {place}"),
            (f"i have {number} {thing.plural}", f"you have {number} of them"),
        )
    )
    return f"{one} says: {said}. {two} says: {heard}."


def examination(rng: random.Random) -> str:
    """A teacher asks a pupil for something; pupils know the answer."""
    said = [_examined(rng) for _ in range(rng.randint(1, 2))]
    return " ".join(said)


def _examined(rng: random.Random) -> str:
    name, asked_for = rng.choice(list(ASKED_FOR.items()))
    task = draw_task(FAMILY[name], None, rng)
    said = rng.choice(answers(task.family.short if rng.random() < 0.4 else task.family.sentences, task.fields))
    return f"the teacher wants {fill(asked_for, task.fields)}. the pupil says: {said}."


def dialogue(rng: random.Random) -> str:
    """A question about the SFT split in the dialogue form, and somebody's answer."""
    task = draw_task(rng.choice(FAMILIES), "sft", rng)
    return f"\n\nHuman: {task.question}\n\nAssistant: {answer(task, rng)}"


WRITERS: dict[Writer, float] = {
    paragraph: 0.23, order: 0.06, word_list: 0.03, song: 0.02, visit: 0.04, owner: 0.05, examination: 0.15,
    dialogue: 0.42,
}  # fmt: skip
