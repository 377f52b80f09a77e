"""Each public format, by one tiny row: what it is called and what is read from it."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest

from heed.data.sources import read_demonstrations, read_prompts, read_rankings
from heed.errors import DataError
from heed.records import Dialogue, Ranking, Turn
from heed.settings.common import DataSettings

ASK, HELLO = Turn("user", "Ask."), Turn("assistant", "Hello")
HI = Turn("user", "Hi")
SYSTEM = Turn("system", "Be brief.")
MESSAGES = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello"},
    {"role": "user", "content": "Ask."},
]
GOOD, BAD = [{"role": "assistant", "content": "Good"}], [{"role": "assistant", "content": "Bad"}]
TRANSCRIPT = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Ask.\n\nAssistant:"
TALK = (HI, HELLO, ASK)


def write(path: Path, *rows: Any) -> DataSettings:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataSettings(path=str(path))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.jsonl"


PAIRS = [
    ("TRL preference, explicit prompt", {"prompt": "Ask.", "chosen": "Good", "rejected": "Bad"}, (ASK,), "Good", "Bad"),
    ("TRL preference, explicit prompt", {"prompt": MESSAGES, "chosen": GOOD, "rejected": BAD}, TALK, "Good", "Bad"),
    (
        "TRL preference, explicit prompt",  # both sides repeat the prompt
        {"prompt": "Ask.", "chosen": [MESSAGES[2], *GOOD], "rejected": [MESSAGES[2], *BAD]}, (ASK,), "Good", "Bad",
    ),
    ("rm-static", {"prompt": TRANSCRIPT, "chosen": " Good", "rejected": " Bad"}, TALK, " Good", " Bad"),
    ("HH transcripts", {"chosen": TRANSCRIPT + " Good", "rejected": TRANSCRIPT + " Bad"}, TALK, " Good", " Bad"),
    (
        "TRL preference, implicit prompt",
        {"chosen": MESSAGES + GOOD, "rejected": MESSAGES + BAD}, TALK, "Good", "Bad",
    ),
    (
        "TRL preference, implicit prompt",  # whole words: "bl" is not part of the prompt
        {"chosen": "The sky is blue.", "rejected": "The sky is black."},
        (Turn("user", "The sky is"),), " blue.", " black.",
    ),
    (
        "LLaMA-Factory preference",
        {"instruction": "Ask.", "input": "it", "chosen": "Good", "rejected": "Bad"},
        (Turn("user", "Ask.\n\nit"),), "Good", "Bad",
    ),
    (
        "LLaMA-Factory preference (ShareGPT)",
        {
            "conversations": [{"from": "human", "value": "Ask."}], "system": "Be brief.",
            "chosen": {"from": "gpt", "value": "Good"}, "rejected": {"from": "gpt", "value": "Bad"},
        },
        (SYSTEM, ASK), "Good", "Bad",
    ),
    (
        "AlpacaFarm pairs",
        {"instruction": "Ask.", "output_1": "Good", "output_2": "Bad", "preference": 1}, (ASK,), "Good", "Bad",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "prompt", "chosen", "rejected"), PAIRS)
def test_pairs(
    file: Path, caplog: Any, name: str, row: dict[str, Any], prompt: Dialogue, chosen: str, rejected: str
) -> None:
    settings = write(file, row)
    with caplog.at_level(logging.INFO, "heed"):
        (ranking,) = read_rankings(settings, 0)
    assert (ranking.prompt, ranking.responses, ranking.ranks) == (prompt, (chosen, rejected), (1, 2))
    assert ranking.finished == (True, True)
    assert caplog.messages == [f"read 1 rows of {file} as {name} → 1 rankings"]
    (demonstration,) = read_demonstrations(settings, 0)
    assert (demonstration.prompt, demonstration.response) == (prompt, chosen)
    (alone,) = read_prompts(settings, 0)
    assert (alone.prompt, alone.reference) == (prompt, chosen)


ANSWERED = [
    ("demonstrations", {"prompt": "Ask.", "response": " Good\n"}, (ASK,), " Good\n"),  # words are not touched
    ("demonstrations", {"prompt": TRANSCRIPT, "response": " Good"}, TALK, " Good"),
    (
        "demonstrations",
        {"prompt": [{"role": "system", "content": "Be brief."}, MESSAGES[2]], "response": "Good"},
        (SYSTEM, ASK), "Good",
    ),
    ("TRL prompt-completion", {"prompt": "Ask.", "completion": " Good"}, (ASK,), " Good"),
    ("TRL prompt-completion", {"prompt": MESSAGES, "completion": GOOD}, TALK, "Good"),
    ("Alpaca", {"instruction": "Ask.", "input": "", "output": "Good"}, (ASK,), "Good"),
    ("Alpaca", {"instruction": "Ask.", "input": None, "output": "Good", "text": "…"}, (ASK,), "Good"),
    ("Alpaca", {"instruction": "Ask.", "input": "it", "output": "Good"}, (Turn("user", "Ask.\n\nit"),), "Good"),
    (
        "Alpaca",
        {"instruction": "Ask.", "output": "Good", "system": "Be brief.", "history": [["Hi", "Hello"]]},
        (SYSTEM, *TALK), "Good",
    ),
    (
        "ShareGPT conversations",
        {"conversations": [{"from": "human", "value": "Ask."}, {"from": "gpt", "value": "Good"}]}, (ASK,), "Good",
    ),
    ("TRL messages", {"messages": [MESSAGES[2], *GOOD]}, (ASK,), "Good"),
    ("transcripts", {"text": "\n\nHuman: Ask.\n\nAssistant: Good"}, (ASK,), "Good"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "row", "prompt", "response"), ANSWERED)
def test_demonstrations(
    file: Path, caplog: Any, name: str, row: dict[str, Any], prompt: Dialogue, response: str
) -> None:
    settings = write(file, row)
    with caplog.at_level(logging.INFO, "heed"):
        (demonstration,) = read_demonstrations(settings, 0)
    assert (demonstration.prompt, demonstration.response) == (prompt, response)
    assert caplog.messages == [f"read 1 rows of {file} as {name} → 1 demonstrations"]
    (alone,) = read_prompts(settings, 0)
    assert (alone.prompt, alone.reference) == (prompt, response)
    with pytest.raises(DataError, match=f"the format `{re.escape(name)}` .* holds no rankings"):
        read_rankings(settings, 0)


BARE = [
    ("TRL prompt-only", {"prompt": "Ask."}, (ASK,), None),
    ("TRL prompt-only", {"prompt": TRANSCRIPT, "reference": "Good"}, TALK, "Good"),
    ("instructions", {"instruction": "Ask.", "input": "it"}, (Turn("user", "Ask.\n\nit"),), None),
    ("candidates", {"prompt": "Ask.", "responses": ["a", "b"], "finished": [True, True], "model": "m"}, (ASK,), None),
    ("TRL messages", {"messages": MESSAGES}, (HI,), "Hello"),
    ("TRL messages", {"messages": MESSAGES[2:]}, (ASK,), None),
    ("TRL unpaired preference", {"prompt": "Ask.", "completion": "Bad", "label": False}, (ASK,), None),
]


@pytest.mark.parametrize(("name", "row", "prompt", "reference"), BARE)
def test_prompts(
    file: Path, caplog: Any, name: str, row: dict[str, Any], prompt: Dialogue, reference: str | None
) -> None:
    with caplog.at_level(logging.INFO, "heed"):
        (alone,) = read_prompts(write(file, row), 0)
    assert (alone.prompt, alone.reference) == (prompt, reference)
    assert caplog.messages == [f"read 1 rows of {file} as {name} → 1 prompts"]


def test_every_answer_of_a_conversation_is_a_demonstration(file: Path) -> None:
    first, second = read_demonstrations(write(file, {"messages": [*MESSAGES, *GOOD]}), 0)
    assert (first.prompt, first.response) == ((HI,), "Hello")
    assert (second.prompt, second.response) == (TALK, "Good")
    assert first.group == second.group  # never parted by a split


def test_rankings_of_several(file: Path) -> None:
    row = {
        "prompt": "Ask.", "responses": ["Bad", "Good", ""], "ranks": [2, 1, 3],
        "finished": [True, True, False], "labeler": "ada", "seconds": 9, "likert": [3, 6, 1],
    }  # fmt: skip
    settings = write(file, row)
    (ranking,) = read_rankings(settings, 0)
    expected = Ranking((ASK,), ("Bad", "Good", ""), (2, 1, 3), (True, True, False), "ada", 9.0, "", ranking.group)
    assert ranking == expected
    assert [d.response for d in read_demonstrations(settings, 0)] == ["Good"]


def test_a_best_response_that_is_tied_is_no_demonstration(file: Path, caplog: Any) -> None:
    tied = {"prompt": "Ask.", "responses": ["a", "b"], "ranks": [1, 1]}
    clear = {"prompt": "Ask.", "responses": ["a", "b"], "ranks": [2, 1]}
    assert [d.response for d in read_demonstrations(write(file, clear, tied), 0)] == ["b"]
    assert "dropped 1 rows without one best response" in caplog.text


@pytest.mark.parametrize(
    ("preference", "ranks"), [(1, (1, 2)), (1.2, (1, 2)), (1.5, (1, 1)), (0, (1, 1)), (1.7, (2, 1)), (2, (2, 1))]
)
def test_preference_of_two_outputs(file: Path, preference: float, ranks: tuple[int, int]) -> None:
    row = {"instruction": "Ask.", "output_1": "a", "output_2": "b", "preference": preference}
    assert [ranking.ranks for ranking in read_rankings(write(file, row), 0)] == [ranks]


def test_rm_static_takes_its_response_as_the_demonstration(file: Path) -> None:
    row = {"prompt": TRANSCRIPT, "response": " Written", "chosen": " Good", "rejected": " Bad"}
    assert [d.response for d in read_demonstrations(write(file, row), 0)] == [" Written"]


def test_hh_pair_that_parts_early_is_dropped(file: Path, caplog: Any) -> None:
    start = "\n\nHuman: Hi\n\nAssistant:"
    early = {"chosen": f"{start} Hello\n\nHuman: Ask.\n\nAssistant: Good", "rejected": f"{start} Bye"}
    late = {"chosen": f"{TRANSCRIPT} Good", "rejected": f"{TRANSCRIPT} Bad"}
    (ranking,) = read_rankings(write(file, late, early), 0)
    assert ranking.responses == (" Good", " Bad")
    assert "1 pairs that part before the last answer" in caplog.text


def test_hh_answers_that_begin_alike_stay_whole(file: Path) -> None:
    row = {"chosen": TRANSCRIPT + " I do not know", "rejected": TRANSCRIPT + " I do"}
    assert [r.responses for r in read_rankings(write(file, row), 0)] == [(" I do not know", " I do")]


def test_tags_are_carried(file: Path) -> None:
    tags = {"source": "garden", "group": 7, "user": "u1"}
    (prompt,) = read_prompts(write(file, {"prompt": "Ask.", **tags}), 0)
    assert (prompt.source, prompt.group, prompt.user) == ("garden", "7", "u1")
    pair = {"prompt": "Ask.", "chosen": "a", "rejected": "b", "labeler": "ada", **tags}
    (ranking,) = read_rankings(write(file, pair), 0)
    assert (ranking.source, ranking.group, ranking.labeler) == ("garden", "7", "ada")
    several = {"prompt": "Ask.", "responses": ["a", "b"], "ranks": [1, 2], **tags}
    assert [r.group for r in read_rankings(write(file, several), 0)] == ["7"]


def test_unpaired_feedback_is_refused_with_advice(file: Path) -> None:
    settings = write(file, {"prompt": "Ask.", "completion": "Bad", "label": False})
    for read in (read_rankings, read_demonstrations):
        with pytest.raises(DataError, match="TRL unpaired preference") as caught:
            read(settings, 0)
        assert "pair the answers of a prompt" in caught.value.hint


def test_running_text_is_refused_with_advice(file: Path) -> None:
    with pytest.raises(DataError, match="holds no demonstrations") as caught:
        read_demonstrations(write(file, {"text": "Once upon a time."}), 0)
    assert "heed pretrain" in caught.value.hint


def test_tool_turns_are_dropped(file: Path, caplog: Any) -> None:
    tool = {"conversations": [{"from": "human", "value": "Ask."}, {"from": "function_call", "value": "{}"}]}
    plain = {"conversations": [{"from": "human", "value": "Ask."}, {"from": "gpt", "value": "Good"}]}
    assert len(read_demonstrations(write(file, plain, tool), 0)) == 1
    assert "1 conversations with turns of `function_call`" in caplog.text
