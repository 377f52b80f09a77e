"""What can be labeled: runs, files of every kind, exports of other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from heed.errors import DataError
from heed.labeling.messages import Mode
from heed.labeling.sources import file_of, read_gold, read_tasks
from heed.labeling.store.tasks import NewTask
from heed.records import Turn


def written(path: Path, *rows: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def read(*paths: Path, mode: Mode = "rank") -> list[NewTask]:
    return read_tasks([str(path) for path in paths], mode, seed=0)


def texts(found: NewTask) -> list[str]:
    return [candidate.text for candidate in found.candidates]


def test_a_run_of_sample(tmp_path: Path) -> None:
    row = {
        "prompt": "p",
        "responses": ["a", "b"],
        "finished": [True, False],
        "model": "runs/sft",
        "source": "s",
        "group": "g",
    }
    written(tmp_path / "run" / "candidates.jsonl", row)
    (tmp_path / "run" / "run.json").write_text("{}")
    assert file_of(str(tmp_path / "run")) == str(tmp_path / "run" / "candidates.jsonl")
    (found,) = read(tmp_path / "run")
    assert texts(found) == ["a", "b"]
    assert [(c.finished, c.model) for c in found.candidates] == [(True, "runs/sft"), (False, "runs/sft")]
    assert (found.source, found.group, found.kind) == ("s", "g", "rank")


def test_a_run_of_evaluate_compares_its_models(tmp_path: Path) -> None:
    row = {"prompt": "p", "responses": {"sft": "a", "ppo": "b"}, "finished": {"sft": True, "ppo": False}, "scores": {}}
    written(tmp_path / "run" / "samples.jsonl", row)
    (tmp_path / "run" / "run.json").write_text("{}")
    (found,) = read(tmp_path / "run")
    assert [(c.text, c.finished, c.model) for c in found.candidates] == [("a", True, "sft"), ("b", False, "ppo")]


def test_a_run_without_responses_is_told(tmp_path: Path) -> None:
    tmp_path.joinpath("run.json").write_text("{}")
    with pytest.raises(DataError, match=r"candidates\.jsonl"):
        read(tmp_path)


ROWS: list[tuple[str, Any, list[str]]] = [
    ("candidates", {"prompt": "p", "responses": ["a", "b", "c"]}, ["a", "b", "c"]),
    ("rankings", {"prompt": "p", "responses": ["a", "b"], "ranks": [2, 1]}, ["a", "b"]),
    ("preference", {"prompt": "p", "chosen": "a", "rejected": "b"}, ["a", "b"]),
    ("AlpacaFarm", {"instruction": "p", "output_1": "a", "output_2": "b", "preference": 1}, ["a", "b"]),
    ("numbered", {"prompt": "p", "response_1": "a", "response_10": "c", "response_2": "b"}, ["a", "b", "c"]),
    ("lettered", {"question": "p", "answer_a": "a", "answer_b": "b"}, ["a", "b"]),
    (
        "Argilla",
        {"id": "1", "fields": {"prompt": "p", "response1": "a", "response2": "b"}, "responses": {}},
        ["a", "b"],
    ),
    (
        "Label Studio pair",
        {"id": 1, "data": {"prompt": "p", "answer1": "a", "answer2": "b"}, "annotations": []},
        ["a", "b"],
    ),
    (
        "Label Studio ranker",
        {"data": {"prompt": "p", "items": [{"id": "x", "body": "a"}, {"id": "y", "body": "b"}]}},
        ["a", "b"],
    ),
]


@pytest.mark.parametrize(("name", "row", "responses"), ROWS, ids=[name for name, _, _ in ROWS])
def test_rows_of_every_kind(tmp_path: Path, name: str, row: Any, responses: list[str]) -> None:
    (found,) = read(written(tmp_path / "file.jsonl", row))
    assert found.prompt == (Turn("user", "p"),)
    assert texts(found) == responses
    tmp_path.joinpath("file.json").write_text(json.dumps([row]))
    assert read(tmp_path / "file.json")[0].candidates == found.candidates


def test_csv_with_quotes_and_line_breaks(tmp_path: Path) -> None:
    (tmp_path / "file.csv").write_text(
        '\ufeffprompt,response_1,response_2\n"say ""hi"", please","a\nb","=c"\n', encoding="utf-8"
    )
    (found,) = read(tmp_path / "file.csv")
    assert found.prompt[0].content == 'say "hi", please'
    assert texts(found) == ["a\nb", "=c"]


def test_prompts_alone_are_to_be_answered(tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text("one\ntwo\n\n")
    found = read(tmp_path / "prompts.txt", mode="write")
    assert [(each.prompt[0].content, each.kind, each.candidates) for each in found] == [
        ("one", "write", ()),
        ("two", "write", ()),
    ]
    with pytest.raises(DataError, match="nothing to rank") as refused:
        read(tmp_path / "prompts.txt")
    assert "--mode write" in str(refused.value)


def test_demonstrations_can_be_edited(tmp_path: Path) -> None:
    (found,) = read(written(tmp_path / "file.jsonl", {"prompt": "p", "response": "a"}), mode="write")
    assert texts(found) == ["a"]


def test_dialogues_keep_their_turns(tmp_path: Path) -> None:
    dialogue = [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        {"role": "user", "content": "p"},
    ]
    (found,) = read(written(tmp_path / "file.jsonl", {"prompt": dialogue, "responses": ["a", "b"]}))
    assert found.prompt == (Turn("user", "hi"), Turn("assistant", "ho"), Turn("user", "p"))


def test_several_sources_meet_at_their_prompts(tmp_path: Path) -> None:
    one = written(tmp_path / "1.jsonl", {"prompt": "p", "responses": ["a", "b"], "model": "sft"})
    two = written(
        tmp_path / "2.jsonl",
        {"prompt": "q", "responses": ["x", "y"], "model": "ppo"},
        {"prompt": "p", "responses": ["c", "a"], "model": "ppo"},
    )
    first, second = read(one, two)
    assert [(c.text, c.model) for c in first.candidates] == [("a", "sft"), ("b", "sft"), ("c", "ppo"), ("a", "ppo")]
    assert texts(second) == ["x", "y"]


def test_pairs_are_of_different_models_and_share_no_response(tmp_path: Path) -> None:
    one = written(tmp_path / "1.jsonl", {"prompt": "p", "responses": ["a", "b"], "model": "sft"})
    two = written(tmp_path / "2.jsonl", {"prompt": "p", "responses": ["c", "d"], "model": "ppo"})
    found = read(one, two, mode="pairwise")
    assert sorted(text for each in found for text in texts(each)) == ["a", "b", "c", "d"]
    assert all({c.model for c in each.candidates} == {"sft", "ppo"} and each.kind == "pairwise" for each in found)


def test_what_stands_there_twice_is_shown_once_and_what_is_all_alike_not_at_all(tmp_path: Path) -> None:
    path = written(
        tmp_path / "1.jsonl", {"prompt": "p", "responses": ["a", "a", "b"]}, {"prompt": "q", "responses": ["a", "a"]}
    )
    (found,) = read(path)
    assert texts(found) == ["a", "b"]


BAD = [
    ({"prompt": "p", "responses": [str(k) for k in range(10)]}, "at most 9"),
    ({"prompt": "p", "responses": ["a", 3]}, "not text"),
    ({"prompt": "p", "responses": ["a", "b"], "finished": [True]}, "equally long"),
    ({"prompt": [{"role": "assistant", "content": "x"}], "responses": ["a", "b"]}, "user"),
    ({"prompt": "  ", "responses": ["a", "b"]}, "user"),
    ({"song": "la"}, "no prompt"),
]


@pytest.mark.parametrize(("row", "words"), BAD)
def test_what_cannot_be_labeled_is_told_with_its_line(tmp_path: Path, row: Any, words: str) -> None:
    path = written(tmp_path / "file.jsonl", {"prompt": "p", "responses": ["a", "b"]}, row)
    with pytest.raises(DataError) as refused:
        read(path)
    assert f"{path}:2" in str(refused.value) and words in str(refused.value)


def test_gold_questions_have_an_order(tmp_path: Path) -> None:
    path = written(
        tmp_path / "gold.jsonl",
        {"prompt": "p", "responses": ["a", "b"], "ranks": [2, 1]},
        {"prompt": "q", "responses": ["a", "b", "c"], "ranks": [1, 2, 2]},
    )
    assert [(each.gold, each.kind) for each in read_gold(str(path), "rank")] == [((2, 1), "rank"), ((1, 2, 2), "rank")]
    assert [each.gold for each in read_gold(str(path), "pairwise")] == [(2, 1)]
    assert read_gold(str(path), "write") == []
    written(path, {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 1]})
    with pytest.raises(DataError, match="no question"):
        read_gold(str(path), "rank")
