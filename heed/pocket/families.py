"""The families of short tasks: how each is asked, what answers it, and how one errs plausibly."""

from __future__ import annotations

from dataclasses import dataclass

from heed.pocket import mistakes, operands


@dataclass(frozen=True)
class Family:
    """One family of tasks. All texts are templates (`slots`); families of one `area` share the split of its operands.

    `about` names the fields that are asked about, `answer` those that an answer must get right. `draw` picks
    operands from a part of the world, `solve` adds everything that is true of them, and `mistake` puts plausible wrong
    values in place of right ones.
    """

    name: str
    area: str
    about: tuple[str, ...]
    answer: tuple[str, ...]
    questions: tuple[str, ...]
    sentences: tuple[str, ...]
    short: tuple[str, ...]
    draw: operands.Draw
    solve: operands.Solve
    mistake: mistakes.Mistake
    confused_with: tuple[str, ...] = ()  # families whose answer a careless reader may give instead


FAMILIES: tuple[Family, ...] = (
    Family(
        "kind", "kind", ("thing",), ("kind",),
        ("what kind of thing is {a_thing}?", "what is {a_thing}?", "what sort of thing is the {thing}?"),
        ("{a_thing} is {a_kind}", "the {thing} is {a_kind}", "it is {a_kind}"), ("{a_kind}", "{kind}"),
        operands.any_thing, operands.about_thing, mistakes.instead_of("kind"), ("colour", "place"),
    ),
    Family(
        "colour", "colour", ("thing",), ("colour",),
        ("what colour is the {thing}?", "which colour does the {thing} have?", "tell me the colour of the {thing}."),
        ("the {thing} is {colour}", "the colour of the {thing} is {colour}", "it is {colour}"), ("{colour}",),
        operands.any_thing, operands.about_thing, mistakes.instead_of("colour"), ("kind", "place"),
    ),
    Family(
        "place", "place", ("thing",), ("place",),
        ("where is the {thing}?", "where can i find the {thing}?", "in which place is the {thing}?"),
        ("the {thing} is in the {place}", "you can find the {thing} in the {place}", "it is in the {place}"),
        ("in the {place}", "the {place}", "{place}"),
        operands.any_thing, operands.about_thing, mistakes.instead_of("place"), ("colour", "kind"),
    ),
    Family(
        "choose", "colour", ("thing",), ("colour",),
        ("is the {thing} {one} or {two}?", "which is right for the {thing}: {one} or {two}?"),
        ("the {thing} is {colour}", "the colour of the {thing} is {colour}", "it is {colour}"), ("{colour}",),
        operands.two_colours, operands.about_thing, mistakes.other_colour_asked, ("kind", "place"),
    ),
    Family(
        "alive", "alive", ("thing",), ("alive",),
        ("is the {thing} alive?", "is it true that the {thing} is alive?", "do you think the {thing} is alive?"),
        ("{yes}, the {thing} is alive", "{yes}, it is alive", "{no}, the {thing} is not alive",
         "{no}, it is not alive"), ("{yes}", "{no}"),
        operands.living_or_not, operands.about_thing, mistakes.other_verdict,
    ),
    Family(
        "describe", "description", ("thing",), ("colour", "kind"),
        ("describe the {thing}.", "tell me about the {thing}.", "what can you say about the {thing}?"),
        ("the {thing} is a {colour} {kind}", "the {thing} is a {colour} {kind} in the {place}",
         "the {thing} is {a_kind} and it is {colour}", "it is a {colour} {kind}"), ("a {colour} {kind}",),
        operands.any_thing, operands.about_thing, mistakes.instead_of("colour", "kind"), ("place", "plural"),
    ),
    Family(
        "plural", "plural", ("thing",), ("plural",),
        ("what is the plural of {thing}?", "what do you say for more than one {thing}?", "one {thing}, but two what?"),
        ("the plural of {thing} is {any_plural}", "one {thing}, two {plural}"), ("{any_plural}", "two {plural}"),
        operands.any_thing, operands.about_thing, mistakes.other_plural, ("kind", "colour"),
    ),
    Family(
        "opposite", "opposite", ("adjective", "opposite"), ("opposite",),
        ("what is the opposite of {adjective}?", "which word is the opposite of {adjective}?",
         "tell me the opposite of {adjective}."),
        ("the opposite of {adjective} is {opposite}",), ("{opposite}",),
        operands.any_adjective, operands.about_adjective, mistakes.instead_of("opposite"),
    ),
    Family(
        "sum", "sum", ("a", "b"), ("total",),
        ("what is {a} plus {b}?", "how much is {a} plus {b}?", "tell me what {a} plus {b} is."),
        ("{a} plus {b} is {total}", "{a} plus {b} makes {total}"), ("{total}",),
        operands.two_summands, operands.about_sum, mistakes.near_number("total"),
    ),
    Family(
        "after", "after", ("number",), ("next",),
        ("which number comes after {number}?", "what comes after {number}?", "tell me the number after {number}."),
        ("after {number} comes {next}", "the number after {number} is {next}"), ("{next}",),
        operands.any_number, operands.about_number, mistakes.near_number("next"),
    ),
    Family(
        "own_colour", "own colour", ("thing", "colour"), ("colour",),
        ("my {thing} is {colour}. what colour is it?", "my {thing} is {colour}. which colour does it have?",
         "tell me the colour of my {thing}. it is {colour}."),
        ("your {thing} is {colour}", "the colour of your {thing} is {colour}", "it is {colour}"), ("{colour}",),
        operands.own("colour"), operands.about_own_thing, mistakes.instead_of("colour"), ("place", "plural"),
    ),
    Family(
        "own_place", "own place", ("thing", "place"), ("place",),
        ("my {thing} is in the {place}. where is it?", "my {thing} is in the {place}. where can i find it?",
         "tell me the place of my {thing}. it is in the {place}."),
        ("your {thing} is in the {place}", "you can find your {thing} in the {place}", "it is in the {place}"),
        ("in the {place}", "the {place}", "{place}"),
        operands.own("place"), operands.about_own_thing, mistakes.instead_of("place"), ("colour", "plural"),
    ),
    Family(
        "own_number", "own number", ("plural", "number"), ("number",),
        ("i have {number} {plural}. how many do i have?", "i have {number} {plural}. what is the number of them?",
         "tell me how many {plural} i have. i have {number}."),
        ("you have {number}", "you have {number} of them"), ("{number}",),
        operands.own_several, operands.about_own_several, mistakes.near_number("number"), ("colour", "place"),
    ),
    Family(
        "first", "list", ("things",), ("first_word",),
        ("the words are {things}. which word is first?", "the words are {things}. what is the first word?",
         "tell me the first word. the words are {things}."),
        ("the first word is {first_word}",), ("{first_word}",),
        operands.list_of(2, 3), operands.about_list, mistakes.instead_of("first_word"), ("last",),
    ),
    Family(
        "last", "list", ("things",), ("last_word",),
        ("the words are {things}. which word is last?", "the words are {things}. what is the last word?",
         "tell me the last word. the words are {things}."),
        ("the last word is {last_word}",), ("{last_word}",),
        operands.list_of(2, 3), operands.about_list, mistakes.instead_of("last_word"), ("first",),
    ),
    Family(
        "repeat", "list", ("things",), ("things",),
        ("the words are {things}. please repeat them.", "the words are {things}. what are the words?",
         "please repeat. the words are {things}."),
        ("the words are {things}",), ("{things}",),
        operands.list_of(2, 2), operands.about_list, mistakes.one_changed("things"), ("first", "last"),
    ),
    Family(
        "sort", "order", ("numbers",), ("sorted",),
        ("the numbers are {numbers}. please sort them.", "the numbers are {numbers}. what is the right order?",
         "please sort. the numbers are {numbers}."),
        ("the right order is {sorted}", "in order they are {sorted}"), ("{sorted}",),
        operands.three_digits, operands.about_order, mistakes.disorder("sorted"),
    ),
    Family(
        "request", "request", ("greeting", "person"), ("greeting", "person"),
        ("please say {greeting} to {person}.", "can you say {greeting} to {person}?",
         "i want you to say {greeting} to {person}."),
        ("{greeting}, {person}", "i say {greeting} to {person}"), ("{greeting} {person}",),
        operands.any_greeting, operands.as_asked, mistakes.instead_of("greeting", "person"),
    ),
    Family(
        "job", "job", ("person",), ("job",),
        ("what does {person} do?", "what is the job of {person}?", "who is {person}?"),
        ("{person} is {a_job}", "{person} works as {a_job}", "the job of {person} is {job}"), ("{a_job}", "{job}"),
        operands.any_person, operands.about_person, mistakes.instead_of("job"),
    ),
)  # fmt: skip

FAMILY = {family.name: family for family in FAMILIES}
