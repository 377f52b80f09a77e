"""The judge, by hand: right, wrong, incomplete and degenerate texts of every family."""

from __future__ import annotations

import pytest

from heed.errors import DataError
from heed.pocket.families import FAMILIES
from heed.pocket.generate import evaluation_prompts
from heed.pocket.gold import judge
from heed.records import Dialogue, Turn


def ask(question: str) -> Dialogue:
    return (Turn("user", question),)


# apple: a red fruit in the kitchen. ann: a baker.
RIGHT = [
    ("what is an apple?", "an apple is a fruit."),
    ("what sort of thing is the apple?", "fruit."),
    ("hello. what colour is the apple?", "gladly, the apple is red."),
    ("what colour is the apple?", "red"),
    ("please help me. where can i find the apple?", "it is in the kitchen. i hope this helps."),
    ("is the apple red or blue?", "the apple is red."),
    ("is the cow alive?", "yes."),
    ("is it true that the cow is alive?", "gladly, yes, the cow is alive."),
    ("do you think the apple is alive?", "no, it is not alive."),
    ("describe the apple.", "the apple is a red fruit in the kitchen."),
    ("describe the apple.", "the apple is a fruit. the apple is red."),
    ("what is the plural of mouse?", "of course, one mouse, two mice."),
    ("what is the opposite of cold?", "the opposite of cold is hot."),
    ("how much is two plus three?", "i think that two plus three is five."),
    ("one more thing: what comes after nine?", "the number after nine is ten."),
    ("my apple is green. what colour is it?", "your apple is green."),
    ("tell me the place of my apple. it is in the barn.", "gladly, it is in the barn."),
    ("i have two foxes. how many do i have?", "you have two of them."),
    ("the words are pear, cow and drum. which word is first?", "the first word is pear."),
    ("tell me the last word. the words are pear, cow and drum.", "drum."),
    ("the words are pear and cow. please repeat them.", "pear and cow."),
    ("please sort. the numbers are nine, two and five.", "the right order is two, five and nine."),
    ("please say hello to ann.", "hello, ann."),
    ("who is ann?", "ann works as a baker."),
]
WRONG = [
    ("what is an apple?", "an apple is a tool."),
    ("what colour is the apple?", "the apple is blue."),
    ("what colour is the apple?", "the pear is red."),  # right word, about something else
    ("what colour is the apple?", "red. blue. green."),  # hedging does not pay
    ("what colour is the apple?", "the apple is in the kitchen."),  # true, and no answer
    ("where is the apple?", "the apple is in the garden."),
    ("is the apple red or blue?", "the apple is blue."),
    ("is the cow alive?", "no, the cow is not alive."),
    ("is the apple alive?", "yes, it is alive."),
    ("is the apple alive?", "no, the cow is not alive."),  # the verdict alone is not enough
    ("describe the apple.", "the apple is a red tool."),
    ("describe the apple.", "the apple is a red fruit in the barn."),
    ("what is the plural of mouse?", "the plural of mouse is mouse."),
    ("what is the opposite of cold?", "the opposite of big is hot."),
    ("how much is two plus three?", "two plus three is six."),
    ("what comes after nine?", "eight."),
    ("my apple is green. what colour is it?", "your apple is red."),  # as apples are, but not this one
    ("my apple is green. what colour is it?", "your pear is green."),
    ("my apple is in the barn. where is it?", "it is in the kitchen."),
    ("i have two foxes. what is the number of them?", "you have three."),
    ("the words are pear, cow and drum. which word is first?", "the last word is pear."),
    ("the words are pear, cow and drum. which word is last?", "cow."),
    ("the words are pear and cow. please repeat them.", "cow and pear."),
    ("please sort. the numbers are nine, two and five.", "five, two and nine."),
    ("please say hello to ann.", "goodbye, ann."),
    ("please say hello to ann.", "hello, ben."),
    ("who is ann?", "ann is a farmer."),
]
DEGENERATE = [
    "",
    ".",
    ", , ,",
    "the",
    "red red red red red red red red",
    "apple the is red.",
    "zzz &%$ 12345",
    "Human: Human: Human:",
    "\n\n\n",
    "gladly, gladly, gladly, gladly, gladly,",
    "i hope this helps. i hope this helps. i hope this helps.",
    "what colour is the apple?",
    "the the the the the the the the the the the the",
    "é 中文 <|endoftext|>",
]


@pytest.mark.parametrize(("question", "response"), RIGHT)
def test_right_answers(question: str, response: str) -> None:
    assert judge(ask(question), response).right


@pytest.mark.parametrize(("question", "response"), WRONG)
def test_wrong_answers(question: str, response: str) -> None:
    judgement = judge(ask(question), response)
    assert not judgement.right
    assert judgement.grammatical  # only the content is at fault


def test_every_family_is_in_both_tables() -> None:
    from heed.pocket.tasks import task_of

    for table in (RIGHT, WRONG):
        assert {task_of(ask(question)).family for question, _ in table} == set(FAMILIES)


@pytest.mark.parametrize("response", DEGENERATE)
def test_degenerate_texts_are_judged_and_lose(response: str) -> None:
    prompt = ask("what colour is the apple?")
    judgement = judge(prompt, response, finished=True)
    assert not judgement.right and not judgement.complete
    assert judgement.score < judge(prompt, "blue.").score < judge(prompt, "the apple is red.").score
    assert judge(prompt, response, finished=False).score < judgement.score


@pytest.mark.parametrize(
    ("response", "finished", "expected"),
    [
        ("the apple is red.", True, 2.5 + 1 - 0.1),  # right, complete; `it is red` would do with three words
        ("it is red.", True, 2.5 + 1),
        ("red.", True, 2.5),
        ("red", True, 2.5),  # no sentence, but no harm
        ("gladly, it is red.", True, 2.5 + 1 + 0.9 - 0.1),
        ("with pleasure, it is red.", True, 2.5 + 1 + 1.0 - 0.2),
        ("gladly, red.", True, 2.5 + 0.9),
        ("it is red. now go away.", True, 2.5 + 1 - 1.2 - 0.3),
        ("of course, it is blue.", True, 0 + 1 + 0.7 - 0.2),  # wrong, complete, polite
        ("it is", True, -2 - 1),  # all noise, no answer
        ("it is red", False, 2.5 - 2),  # cut off by the length limit
        ("", True, -1),
        ("red. red. red.", True, 2.5 - 0.5 * 2),  # said three times; three words are what a sentence needs
        ("the the red", True, -1 - 2 * 2 / 3 - 0.5),  # mostly noise: no answer can be made out
        ("red red red red", True, -1 - 0.5 * 3 - 0.1),
        ("gladly", True, 0.9 - 1),
    ],
)
def test_score_by_hand(response: str, finished: bool, expected: float) -> None:
    assert judge(ask("what colour is the apple?"), response, finished).score == pytest.approx(expected)


def test_length_costs_at_most_a_point_and_a_half() -> None:
    prompt = ask("what colour is the apple?")
    long = "it is nice to hear from you. let me think about it for a moment. as far as i know, it is red."
    # 7 + 8 + 5 + 3 words where 3 are needed: 20 would cost 2.0
    assert judge(prompt, long).score == pytest.approx(2.5 + 1 + 0.9 - 1.5)


def test_half_an_answer_earns_half() -> None:
    assert judge(ask("describe the apple."), "the apple is a blue fruit.").credit == 0.5
    assert judge(ask("describe the apple."), "the apple is red.").credit == 0.5
    assert judge(ask("please say hello to ann."), "hello, ben.").credit == 0.5
    assert judge(ask("describe the apple."), "the pear is a red fruit.").credit == 0.0


def test_rightness_outweighs_manners() -> None:
    prompt = ask("what colour is the apple?")
    rude = "you should know that the apple is red."
    polite = "with pleasure, the apple is blue."
    assert judge(prompt, rude).score > judge(prompt, polite).score


def test_the_reference_beats_every_degenerate_text_on_every_prompt() -> None:
    for prompt in evaluation_prompts(seed=3, n=200):
        assert prompt.reference is not None
        reference = judge(prompt.prompt, prompt.reference)
        assert reference.right and reference.complete and reference.polite and reference.grammatical
        assert all(reference.score > judge(prompt.prompt, text).score + 2 for text in DEGENERATE)


def test_spelling_and_spacing_do_not_matter() -> None:
    prompt = ask("What colour is the apple ?")
    assert judge(prompt, " The apple is red .").score == judge(prompt, "the apple is red.").score


@pytest.mark.parametrize("question", ["what is love?", "", "what colour is the apple", "what colour is the zebra?"])
def test_a_question_of_another_world_is_refused(question: str) -> None:
    with pytest.raises(DataError, match="pocket world"):
        judge(ask(question), "red.")
