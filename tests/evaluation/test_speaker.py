"""Answers of a checkpoint, as `heed chat` and programs get them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heed.batches import Responses
from heed.data.template import Template
from heed.errors import ConfigError, DataError
from heed.evaluation.speaker import Reply, Speaker, dialogues
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.records import Turn

CPU = torch.device("cpu")


@pytest.fixture
def speaker(tiny_directory: Path) -> Speaker:
    policy = Shelf(lambda parameters: torch.float32, CPU).policy(str(tiny_directory), "policy")
    return Speaker("tiny", policy, Template.named("dialogue"))


def says(speaker: Speaker, text: str, ended: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the policy write `text`."""
    tokenizer = speaker.policy.trunk.tokenizer
    tokens = torch.tensor([tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] * ended])
    drawn = Responses(tokens, torch.ones_like(tokens, dtype=torch.bool), torch.zeros(tokens.shape))
    monkeypatch.setattr(Policy, "generate", lambda *arguments, **options: drawn)


@pytest.mark.parametrize(
    ("written", "ended", "reply"),
    [
        (" fine.", True, Reply("fine.", True)),
        (" and then", False, Reply("and then", False)),
        (" fine.\n\nHuman: and you", False, Reply("fine.", True)),
        ("\n\nHuman: what", False, Reply("", True)),
    ],
)
def test_where_an_answer_ends(
    speaker: Speaker, monkeypatch: pytest.MonkeyPatch, written: str, ended: bool, reply: Reply
) -> None:
    says(speaker, written, ended, monkeypatch)
    assert speaker.replies([(Turn("user", "hi"),)], 8, 0.0, torch.Generator()) == [reply]
    assert speaker.answer("hi") == [reply.text]


def test_earliest_turns_are_left_out_of_a_long_dialogue(speaker: Speaker) -> None:
    # room for 56 bytes; question and answer take 9 + 13 and the words, the last question 21 and the words
    def prompt(words: list[str]) -> str:
        turns = tuple(Turn(role, word) for word in words for role in ("user", "assistant"))[:-1]
        return str(speaker.policy.trunk.tokenizer.decode(speaker._prompt(turns, 56)))

    assert prompt(["a", "b", "cccc", "dddd"]) == "\n\nHuman: cccc\n\nAssistant: cccc\n\nHuman: dddd\n\nAssistant:"
    assert prompt(["a", "b", "ccccc", "ddddd"]) == "\n\nHuman: ddddd\n\nAssistant:"  # 58 with the turn before


def test_a_turn_longer_than_the_context_is_an_error(speaker: Speaker) -> None:
    with pytest.raises(DataError, match="do not fit"):
        speaker.answer("x" * 60, max_new_tokens=8)


def test_an_answer_takes_half_of_the_context_at_most(speaker: Speaker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    whole = Policy.generate

    def counted(policy: Policy, prompts: object, longest: int, *arguments: object, **options: object) -> Responses:
        asked.append(longest)
        return whole(policy, prompts, longest, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Policy, "generate", counted)
    speaker.answer("hi")
    speaker.answer("hi", max_new_tokens=5)
    assert asked == [32, 5]  # of 64


def test_many_prompts_are_answered_in_their_order_as_each_alone(speaker: Speaker) -> None:
    prompts = ["a", "bb" * 5, "c" * 5]
    together = speaker.answer(prompts, max_new_tokens=6, temperature=0)
    assert together == [speaker.answer(prompt, max_new_tokens=6, temperature=0)[0] for prompt in prompts]
    assert len(set(together)) > 1


def test_one_seed_gives_the_same_answers_and_another_others(speaker: Speaker) -> None:
    first = speaker.answer(["a", "b"], max_new_tokens=16, temperature=1, seed=3)
    assert speaker.answer(["a", "b"], max_new_tokens=16, temperature=1, seed=3) == first
    assert speaker.answer(["a", "b"], max_new_tokens=16, temperature=1, seed=4) != first


def test_what_counts_as_prompts() -> None:
    hello = (Turn("user", "hello"),)
    messages = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "b"},
        {"role": "user", "content": "c"},
    ]
    long = (Turn("user", "a"), Turn("assistant", "b"), Turn("user", "c"))
    assert dialogues("hello") == [hello]
    assert dialogues(messages) == dialogues([tuple(messages)]) == [long]
    assert dialogues(["hello", messages]) == [hello, long]
    assert dialogues([]) == []
    with pytest.raises(DataError, match="prompt 2: `prompt` ends with the assistant's turn"):
        dialogues(["hello", messages[:2]])
    with pytest.raises(DataError, match="prompt 1"):
        dialogues([7])  # type: ignore[list-item]


@pytest.mark.parametrize("options", [{"max_new_tokens": 0}, {"temperature": -0.1}])
def test_options_that_mean_nothing(speaker: Speaker, options: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match="answer"):
        speaker.answer("hi", **options)  # type: ignore[arg-type]
