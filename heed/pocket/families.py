"""The families of short tasks: how each is asked, what answers it, and how one errs plausibly."""

from __future__ import annotations

from dataclasses import dataclass

from heed.pocket.mistakes import Mistake, disorder, instead_of, near_number, other_colour_asked, other_in_list, other_verdict
from heed.pocket.operands import (
    Draw, Solve, about_adjective, about_count, about_first, about_last, about_number, about_order, about_person,
    about_sum, about_thing, any_adjective, any_greeting, any_number, any_person, any_thing, as_asked, asked_colour,
    list_of, three_digits, two_colours, two_summands,
)  # fmt: skip

@dataclass(frozen=True)
class Family:
    """One family of tasks. All texts are templates of `slots`; `answer` names the fields that an answer must get right.

    `draw` picks operands from a part of the world, `solve` adds everything that is true of them, and `mistake` returns
    fields with plausible wrong values in place of right ones.
    """

    name: str
    answer: tuple[str, ...]
    questions: tuple[str, ...]
    sentences: tuple[str, ...]
    short: tuple[str, ...]
    draw: Draw
    solve: Solve
    mistake: Mistake
    operands: tuple[str, ...] = ("thing",)
    area: str = ""  # families of one area share their split of the operands


FAMILIES: tuple[Family, ...] = (
    Family(
        "kind", ("kind",),
        ("what kind of thing is {a_thing}?", "what is {a_thing}?", "what sort of thing is the {thing}?"),
        ("{a_thing} is {a_kind}", "the {thing} is {a_kind}", "it is {a_kind}"), ("{a_kind}", "{kind}"),
        any_thing, about_thing, instead_of("kind"), ("thing",), "kind",
    ),
    Family(
        "colour", ("colour",),
        ("what colour is the {thing}?", "which colour does the {thing} have?", "tell me the colour of the {thing}."),
        ("the {thing} is {colour}", "the colour of the {thing} is {colour}", "it is {colour}"), ("{colour}",),
        any_thing, about_thing, instead_of("colour"), ("thing",), "colour",
    ),
    Family(
        "place", ("place",),
        ("where is the {thing}?", "where can i find the {thing}?", "in which place is the {thing}?"),
        ("the {thing} is in the {place}", "you can find the {thing} in the {place}", "it is in the {place}"),
        ("in the {place}", "the {place}", "{place}"),
        any_thing, about_thing, instead_of("place"), ("thing",), "place",
    ),
    Family(
        "choose", ("colour",),
        ("is the {thing} {one} or {two}?", "which is right for the {thing}: {one} or {two}?"),
        ("the {thing} is {colour}", "the colour of the {thing} is {colour}", "it is {colour}"), ("{colour}",),
        two_colours, about_thing, other_colour_asked, ("thing",), "colour",
    ),
    Family(
        "is_colour", ("verdict",),
        ("is the {thing} {asked}?", "is it true that the {thing} is {asked}?", "do you think the {thing} is {asked}?"),
        ("{yes}, the {thing} is {asked}", "{yes}, it is {asked}", "{no}, the {thing} is not {asked}",
         "{no}, it is not {asked}", "{no}, the {thing} is {colour}"), ("{yes}", "{no}"),
        asked_colour, about_thing, other_verdict, ("thing",), "colour",
    ),
    Family(
        "describe", ("colour", "kind"),
        ("describe the {thing}.", "tell me about the {thing}.", "what can you say about the {thing}?"),
        ("the {thing} is a {colour} {kind}", "the {thing} is a {colour} {kind} in the {place}",
         "the {thing} is {a_kind} and it is {colour}", "it is a {colour} {kind}"), ("a {colour} {kind}",),
        any_thing, about_thing, instead_of("colour", "kind"), ("thing",), "description",
    ),
    Family(
        "plural", ("plural",),
        ("what is the plural of {thing}?", "what do you say for more than one {thing}?", "one {thing}, but two what?"),
        ("the plural of {thing} is {plural}", "one {thing}, two {plural}"), ("{plural}", "two {plural}"),
        any_thing, about_thing, instead_of("plural"), ("thing",), "plural",
    ),
    Family(
        "opposite", ("opposite",),
        ("what is the opposite of {adjective}?", "which word is the opposite of {adjective}?",
         "tell me the opposite of {adjective}."),
        ("the opposite of {adjective} is {opposite}",), ("{opposite}",),
        any_adjective, about_adjective, instead_of("opposite"), ("adjective", "opposite"), "opposite",
    ),
    Family(
        "sum", ("total",),
        ("what is {a} plus {b}?", "how much is {a} plus {b}?", "tell me what {a} plus {b} is."),
        ("{a} plus {b} is {total}", "{a} plus {b} makes {total}"), ("{total}",),
        two_summands, about_sum, near_number("total"), ("a", "b"), "sum",
    ),
    Family(
        "after", ("next",),
        ("which number comes after {number}?", "what comes after {number}?", "tell me the number after {number}."),
        ("after {number} comes {next}", "the number after {number} is {next}"), ("{next}",),
        any_number, about_number, near_number("next"), ("number",), "after",
    ),
    Family(
        "before", ("previous",),
        ("which number comes before {number}?", "what comes before {number}?", "tell me the number before {number}."),
        ("before {number} comes {previous}", "the number before {number} is {previous}"), ("{previous}",),
        any_number, about_number, near_number("previous"), ("number",), "before",
    ),
    Family(
        "first", ("word",),
        ("the words are {things}. which word is first?", "the words are {things}. what is the first word?",
         "tell me the first word. the words are {things}."),
        ("the first word is {word}",), ("{word}",),
        list_of(2, 4), about_first, other_in_list, ("things",), "list",
    ),
    Family(
        "last", ("word",),
        ("the words are {things}. which word is last?", "the words are {things}. what is the last word?",
         "tell me the last word. the words are {things}."),
        ("the last word is {word}",), ("{word}",),
        list_of(2, 4), about_last, other_in_list, ("things",), "list",
    ),
    Family(
        "count", ("count",),
        ("the words are {things}. how many words are there?", "count the words. the words are {things}."),
        ("there are {count} words", "i count {count} words"), ("{count}", "{count} words"),
        list_of(2, 5), about_count, near_number("count"), ("things",), "list",
    ),
    Family(
        "repeat", ("things",),
        ("the words are {things}. please repeat them.", "the words are {things}. what are the words?",
         "please repeat. the words are {things}."),
        ("the words are {things}",), ("{things}",),
        list_of(2, 3), as_asked, disorder("things"), ("things",), "list",
    ),
    Family(
        "sort", ("sorted",),
        ("the numbers are {numbers}. please sort them.", "the numbers are {numbers}. what is the right order?",
         "please sort. the numbers are {numbers}."),
        ("the right order is {sorted}", "in order they are {sorted}"), ("{sorted}",),
        three_digits, about_order, disorder("sorted"), ("numbers",), "order",
    ),
    Family(
        "request", ("greeting", "person"),
        ("please say {greeting} to {person}.", "can you say {greeting} to {person}?",
         "i want you to say {greeting} to {person}."),
        ("{greeting}, {person}", "{greeting}, my dear {person}"), ("{greeting} {person}",),
        any_greeting, as_asked, instead_of("greeting", "person"), ("person",), "request",
    ),
    Family(
        "job", ("job",),
        ("what does {person} do?", "what is the job of {person}?", "who is {person}?"),
        ("{person} is {a_job}", "{person} works as {a_job}", "the job of {person} is {job}"), ("{a_job}", "{job}"),
        any_person, about_person, instead_of("job"), ("person",), "job",
    ),
    Family(
        "home", ("home",),
        ("where does {person} live?", "where is the home of {person}?", "can you tell me where {person} lives?"),
        ("{person} lives near the {home}", "the home of {person} is near the {home}"),
        ("near the {home}", "the {home}", "{home}"),
        any_person, about_person, instead_of("home"), ("person",), "home",
    ),
)  # fmt: skip

FAMILY = {family.name: family for family in FAMILIES}
