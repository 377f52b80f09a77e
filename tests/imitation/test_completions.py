"""What base and fine-tuned models answer, and which prompts and demonstrations they are shown."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from heed.batches import PromptBatch, Responses
from heed.data.encode import encode_prompts
from heed.data.template import Template
from heed.errors import ConfigError
from heed.imitation import completions
from heed.imitation.examples import Records
from heed.models.answers import Answers
from heed.models.policy import Policy
from heed.records import Demonstration, Turn

TEMPLATE = Template.named("dialogue")
LONGEST = 6  # tokens of an answer


def shot(words: str, answer: str) -> Demonstration:
    return Demonstration((Turn("user", words),), answer)


def test_answers_end_where_the_next_turn_begins(base: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["Human: what else?", "fine\n\nHuman: what else?", "plain", "cut off"]
    empty = torch.zeros(4, 1)
    drawn = Responses(empty.long(), empty.bool(), empty)
    answers = Answers(PromptBatch(empty.long(), empty.bool()), drawn, texts, [False, False, True, False])
    monkeypatch.setattr(completions, "answer", lambda *options: answers)
    found = completions.complete(base, [[5]] * 4, LONGEST, 8192)
    assert found.texts == ["", "fine", "plain", "cut off"]
    assert found.finished == [True, True, True, False]
    assert found.ended == [False, False, True, False]


def test_answers_are_greedy_and_within_the_limit(base: Policy) -> None:
    prompt = encode_prompts([(Turn("user", "h"),)], TEMPLATE, base.trunk.tokenizer)
    tokens, expected = list(prompt[0]), []
    for _ in range(LONGEST):
        token = int(base.trunk.model(torch.tensor([tokens])).logits[0, -1].argmax())
        tokens.append(token)
        expected.append(token)
    text = base.trunk.tokenizer.decode(expected, skip_special_tokens=True).strip()
    assert completions.complete(base, prompt, LONGEST, 8192).texts == [text]


def test_as_many_demonstrations_are_shown_as_fit(base: Policy) -> None:
    # a turn and its answer are 22 bytes around the words: of the context of 64, six are for the answer
    training = [shot("a", "b"), shot("c", "d"), shot("e", "f")]
    records = Records(training, [shot("h", "x"), shot("h" * 30, "x"), shot("h" * 60, "x")])
    asked = completions.choose(records, base, TEMPLATE, 9, LONGEST, few_shot=3)
    assert asked.records == records.held_out[:2]  # the third leaves no room for an answer
    assert asked.shots == [1, 0]
    room = base.trunk.context - LONGEST
    assert all(len(tokens) <= room for tokens in asked.after_shots)
    shown = base.trunk.tokenizer.decode(asked.after_shots[0])
    assert shown == "\n\nHuman: a\n\nAssistant: b\n\nHuman: h\n\nAssistant:"
    assert base.trunk.tokenizer.decode(asked.prompts[0]) == "\n\nHuman: h\n\nAssistant:"


def test_system_turn_stays_in_front_of_what_is_shown() -> None:
    prompt = (Turn("system", "Be kind."), Turn("user", "h"))
    turns = completions.after([shot("a", "b")], prompt)
    assert [turn.content for turn in turns] == ["Be kind.", "a", "b", "h"]


def test_long_and_many_turned_demonstrations_are_not_shown() -> None:
    many = replace(shot("x", "y"), prompt=(Turn("user", "x"), Turn("assistant", "y"), Turn("user", "z")))
    shown = completions.short_demonstrations([shot("l" * 99, "l"), many, shot("a", "b"), shot("c", "d")], 2)
    assert [one.prompt[0].content for one in shown] == ["a", "c"]


def test_no_room_for_an_answer_is_told(base: Policy) -> None:
    records = Records([shot("a", "b")], [shot("h", "x")])
    with pytest.raises(ConfigError, match="completion_tokens"):
        completions.choose(records, base, TEMPLATE, 1, 64, few_shot=0)
