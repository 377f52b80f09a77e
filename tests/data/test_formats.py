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
    assert caplog.messages == [f"read   {file}\n       1 rows as {name} → 1 rankings"]
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
    assert caplog.messages == [f"read   {file}\n       1 rows as {name} → 1 demonstrations"]
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
    assert caplog.messages == [f"read   {file}\n       1 rows as {name} → 1 prompts"]


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


# ── words that are cleaned, told or kept apart ───────────────────────────────────────────────────────────────────────

NOTHING = ["<noinput>", "<No Input>", "noinput", "No input.", "`<noinput>`", "(no-input)", "No input required.", "N/A"]


@pytest.mark.parametrize("given", NOTHING)
def test_self_instructs_marks_of_no_input(file: Path, caplog: Any, given: str) -> None:
    rows = [
        {"instruction": "Ask.", "input": given, "output": "Good"},
        {"instruction": "Ask.", "input": given, "chosen": "Good", "rejected": "Bad"},
        {"instruction": "Ask.", "input": given, "output_1": "Good", "output_2": "Bad", "preference": 1},
        {"instruction": "Ask.", "input": given},
    ]
    for row in rows:
        caplog.clear()
        with caplog.at_level(logging.INFO, "heed"):
            (prompt,) = read_prompts(write(file, row), 0)
        assert prompt.prompt == (ASK,)
        assert caplog.messages[0] == f"mended 1 rows with marks of no input (first at {file}:1)"


@pytest.mark.parametrize("tail", ["\n\n<noinput>", "\n<No input>.", "\n\n### Input:\n<noinput>", "\nInput: <noinput>"])
def test_a_mark_of_no_input_at_the_end_of_a_prompt(file: Path, tail: str) -> None:
    for row in ({"prompt": f"Ask.{tail}"}, {"messages": [{"role": "user", "content": f"Ask.{tail}"}]}):
        (prompt,) = read_prompts(write(file, row), 0)
        assert prompt.prompt == (ASK,)


@pytest.mark.parametrize("words", ["What does <noinput> mean?", "no input", "Na", "There was no input\nthen it broke"])
def test_words_about_input_stay(file: Path, words: str) -> None:
    (prompt,) = read_prompts(write(file, {"prompt": words}), 0)
    assert prompt.prompt == (Turn("user", words),)
    (prompt,) = read_prompts(write(file, {"instruction": "Ask.", "input": "Na"}), 0)
    assert prompt.prompt == (Turn("user", "Ask.\n\nNa"),)


def test_transcripts_with_foreign_line_ends(file: Path, caplog: Any) -> None:
    for end in ("\r\n", "\r"):
        start = TRANSCRIPT.replace("\n", end)
        settings = write(file, {"chosen": start + " Good", "rejected": start + " Bad"})
        with caplog.at_level(logging.INFO, "heed"):
            (ranking,) = read_rankings(settings, 0)
        assert (ranking.prompt, ranking.responses) == (TALK, (" Good", " Bad"))
        assert f"mended 1 rows with foreign line ends (first at {file}:1)" in caplog.text


def test_a_transcript_that_waits_for_nobody(file: Path) -> None:
    waiting, answered = {"prompt": TRANSCRIPT}, {"prompt": TRANSCRIPT + " Good"}
    assert [p.prompt for p in read_prompts(write(file, waiting, waiting, answered), 0)] == [TALK, TALK]
    assert [p.prompt for p in read_prompts(write(file, {"prompt": TRANSCRIPT.removesuffix("\n\nAssistant:")}), 0)] == [
        TALK
    ]
    settings = write(file, answered)
    with pytest.raises(DataError, match="1 prompts that hold their answer already") as caught:
        read_prompts(settings, 0)
    assert "`columns: {prompt: text}`" in caught.value.hint
    renamed = settings.model_copy(update={"columns": {"prompt": "text"}})  # as the hint says
    assert [p.prompt for p in read_prompts(renamed, 0)] == [(HI,), TALK]


def test_what_a_user_types_is_no_transcript(file: Path) -> None:
    typed = ["Ask.\n\nAssistant: I obey.\n\nHuman: More.", "Ask.\n\nHuman: x\n\nAssistant:"]
    rows = [{"prompt": "Ask."}, *({"prompt": words} for words in typed)]
    assert [p.prompt for p in read_prompts(write(file, *rows), 0)][1:] == [(Turn("user", words),) for words in typed]
    # after a transcript, though, one that begins with other words is one too
    (_, record) = read_prompts(write(file, {"prompt": TRANSCRIPT}, {"prompt": "Be brief." + TRANSCRIPT}), 0)
    assert record.prompt == (SYSTEM, *TALK)


def test_a_prompt_beside_whole_conversations(file: Path) -> None:
    system = {"role": "system", "content": "Be brief."}
    last = MESSAGES[2]
    for front, prompt in (([system, last], (SYSTEM, ASK)), (MESSAGES, TALK), ([system, *MESSAGES], (SYSTEM, *TALK))):
        row = {"prompt": "Ask.", "chosen": front + GOOD, "rejected": front + BAD}
        (ranking,) = read_rankings(write(file, row), 0)
        assert (ranking.prompt, ranking.responses) == (prompt, ("Good", "Bad"))
        (demonstration,) = read_demonstrations(write(file, {"prompt": "Ask.", "completion": front + GOOD}), 0)
        assert (demonstration.prompt, demonstration.response) == (prompt, "Good")
    row = {"prompt": "Ask.", "chosen": TRANSCRIPT + " Good", "rejected": TRANSCRIPT + " Bad"}
    (ranking,) = read_rankings(write(file, row), 0)
    assert (ranking.prompt, ranking.responses) == (TALK, ("Good", "Bad"))
    with_system = {"prompt": [system, last], "chosen": MESSAGES + GOOD, "rejected": MESSAGES + BAD}
    assert [r.prompt for r in read_rankings(write(file, with_system), 0)] == [(SYSTEM, *TALK)]


def test_a_conversation_in_which_the_prompt_is_not_asked(file: Path, caplog: Any) -> None:
    fine = {"prompt": "Ask.", "chosen": GOOD, "rejected": BAD}
    other = {"prompt": "Ask.", "chosen": [MESSAGES[0], *GOOD], "rejected": [MESSAGES[0], *BAD]}
    parted = {"prompt": "Ask.", "chosen": MESSAGES + GOOD, "rejected": [MESSAGES[2], *BAD]}
    assert len(read_rankings(write(file, fine, fine, other, parted), 0)) == 2
    assert f"1 answers of several turns (first at {file}:3)" in caplog.text
    assert f"1 pairs that part before the last answer (first at {file}:4)" in caplog.text
    play = "Human: Hi\n\nAssistant: Hello"  # a play was asked for, and this is it
    (demonstration,) = read_demonstrations(write(file, {"prompt": "Ask.", "response": play}), 0)
    assert demonstration.response == play


TURNS = [
    ({"role": "assistant", "content": None, "tool_calls": [{"id": 1}]}, "a call of a tool instead of text"),
    (
        {"role": "assistant", "content": "Let me see.", "function_call": {"name": "f"}},
        "a call of a tool instead of text",
    ),
    ({"role": "assistant", "content": None}, "a turn of null content"),
    ({"role": "assistant", "content": [{"type": "image_url"}]}, "images or other content that is no text"),
    ({"role": "tool", "content": "3"}, "turns of `tool`"),
    ({"role": "a\nb", "content": "3"}, r"turns of `'a\nb'`"),
    ({"role": " ", "content": "3"}, "turns of nobody"),
]


@pytest.mark.parametrize(("turn", "reason"), TURNS, ids=[reason for _, reason in TURNS])
def test_turns_without_text_are_named_as_what_they_are(file: Path, caplog: Any, turn: dict, reason: str) -> None:
    plain = {"messages": [MESSAGES[2], *GOOD]}
    assert len(read_demonstrations(write(file, plain, {"messages": [MESSAGES[2], turn]}), 0)) == 1
    assert f"dropped 1 conversations with {reason} (first at {file}:2)" in caplog.text


def test_content_in_parts_and_roles_in_capitals(file: Path) -> None:
    parts = [{"type": "text", "text": "Ask"}, {"type": "text", "text": "me."}]
    row = {"messages": [{"role": "User", "content": parts}, {"role": "ASSISTANT", "content": "Good"}]}
    (demonstration,) = read_demonstrations(write(file, row), 0)
    assert (demonstration.prompt, demonstration.response) == ((Turn("user", "Ask\nme."),), "Good")


def test_an_answer_to_an_answer_is_counted(file: Path, caplog: Any) -> None:
    row = {"messages": [MESSAGES[2], *GOOD, *BAD]}
    assert [d.response for d in read_demonstrations(write(file, row), 0)] == ["Good"]
    assert "1 answers that follow another answer" in caplog.text


def test_what_a_labeling_page_exports(file: Path) -> None:
    row = {
        "prompt": "Ask.", "responses": ["a", "b", "c"], "ranks": [2, 1, 2], "finished": [True, True, False],
        "labeler": 7, "seconds": 12.25, "task": 31, "ties": [[0, 2]], "model": "runs/sft", "skipped": None,
    }  # fmt: skip
    settings = write(file, row, {**row, "ranks": [1, 1, 1]}, {**row, "ranks": None})
    first, tied = read_rankings(settings, 0)
    assert (first.ranks, first.labeler, first.seconds, tied.ranks) == ((2, 1, 2), "7", 12.25, (1, 1, 1))
    assert [p.prompt for p in read_prompts(write(file, row), 0)] == [(ASK,)]


def test_a_row_for_each_response_is_nothing_to_imitate(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"  # as a spreadsheet is given it
    path.write_bytes("\ufefftask,labeler,prompt,response,rank\r\n1,ada,Ask.,Bad,2\r\n1,ada,Ask.,Good,1\r\n".encode())
    settings = DataSettings(path=str(path))
    assert [p.prompt for p in read_prompts(settings, 0)] == [(ASK,), (ASK,)]
    for read in (read_demonstrations, read_rankings):
        with pytest.raises(DataError, match="the format `ranked responses`") as caught:
            read(settings, 0)
        assert "export the judgements as `rankings`" in caught.value.hint


def test_history_that_is_none(file: Path) -> None:
    for history in (3, "Hi", [3], [["Hi"]]):
        with pytest.raises(DataError, match="`history`"):
            read_demonstrations(write(file, {"instruction": "Ask.", "output": "Good", "history": history}), 0)


def test_every_record_knows_its_place(file: Path) -> None:
    settings = write(file, {"prompt": "Ask.", "chosen": "a", "rejected": "b"})
    for read in (read_prompts, read_demonstrations, read_rankings):
        assert [record.where for record in read(settings, 0)] == [f"{file}:1"]


def test_a_column_is_not_renamed_over_another(file: Path) -> None:
    settings = write(file, {"question": "q", "prompt": "p"}).model_copy(update={"columns": {"question": "prompt"}})
    with pytest.raises(DataError, match="gives a column the name of another"):
        read_prompts(settings, 0)
