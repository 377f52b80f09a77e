"""Records and their JSONL form."""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.errors import DataError
from heed.records import (
    Candidates,
    Comparison,
    Demonstration,
    Prompt,
    Ranking,
    Record,
    Turn,
    from_row,
    group_of,
    read_jsonl,
    to_row,
    write_jsonl,
)

ASK = (Turn("user", "Name a fruit."),)
TALK = (Turn("system", "Be brief."), Turn("user", "Hi"), Turn("assistant", "Hello"), *ASK)

ROWS = [
    (Demonstration(ASK, "A pear."), {"prompt": "Name a fruit.", "response": "A pear."}),
    (Demonstration(ASK, ""), {"prompt": "Name a fruit.", "response": ""}),
    (
        Prompt(TALK, "A pear.", "s", "g", "u"),
        {
            "prompt": [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Hi"},
                {"role": "assistant", "content": "Hello"},
                {"role": "user", "content": "Name a fruit."},
            ],
            "reference": "A pear.", "source": "s", "group": "g", "user": "u",
        },
    ),
    (
        Candidates(ASK, ("A pear.", ""), (True, False), "m"),
        {"prompt": "Name a fruit.", "responses": ["A pear.", ""], "finished": [True, False], "model": "m"},
    ),
    (
        Ranking(ASK, ("a", "b", "c"), (2, 1, 2), (True, True, False), "ada", 0.0),
        {
            "prompt": "Name a fruit.", "responses": ["a", "b", "c"], "ranks": [2, 1, 2],
            "finished": [True, True, False], "labeler": "ada", "seconds": 0.0,
        },
    ),
    (Comparison(ASK, "a", "b"), {"prompt": "Name a fruit.", "chosen": "a", "rejected": "b"}),
]  # fmt: skip


@pytest.mark.parametrize(("record", "row"), ROWS, ids=lambda value: type(value).__name__)
def test_row_of_each_record(record: Record, row: dict) -> None:
    assert to_row(record) == row
    assert from_row(type(record), row, "here") == record


def test_one_turn_with_markers_is_written_as_a_list() -> None:
    # as a string it would be read back as a transcript of two turns
    turn = Turn("user", "What does \n\nAssistant: mean?")
    assert to_row(Prompt((turn,)))["prompt"] == [{"role": "user", "content": turn.content}]


def test_a_ranking_without_finished_has_finished_responses() -> None:
    ranking = from_row(Ranking, {"prompt": "p", "responses": ["a", "b"], "ranks": [2, 1]}, "here")
    assert ranking.finished == (True, True)


texts = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufeff", include_characters="\n\t"))
turns = st.builds(Turn, st.sampled_from(["system", "user", "assistant"]), texts)
dialogues = st.builds(lambda before, last: (*before, Turn("user", last)), st.lists(turns, max_size=3), texts)


@given(st.lists(st.builds(Demonstration, dialogues, texts, source=texts, group=texts)))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, records: list[Demonstration]) -> None:
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write_jsonl(path, records)
    assert read_jsonl(path, Demonstration) == records


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_packed_files(tmp_path: Path, suffix: str, pack) -> None:
    path = tmp_path / f"rows.jsonl{suffix}"
    whole = pack(b'{"prompt": "p", "response": "r"}\n' * 200)
    path.write_bytes(whole)
    assert len(read_jsonl(path, Demonstration)) == 200
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cannot be unpacked"):
        read_jsonl(path, Demonstration)


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "rows.jsonl"
    write_jsonl(path, [Comparison(ASK, "a", "b")])
    before = path.read_bytes()

    def broken():
        yield Comparison(ASK, "c", "d")
        raise RuntimeError("the power failed")

    with pytest.raises(RuntimeError):
        write_jsonl(path, broken())
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_is_being_read_is_not_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [Comparison(ASK, "a", "b")])
    before = path.read_text()
    with path.open() as reader:
        write_jsonl(path, [Comparison(ASK, "c", "d")])
        assert reader.read() == before != path.read_text()


BAD = [
    ("{", "not valid JSON", "one JSON object"),
    ("[1]", "a list, not an object", "one JSON object"),
    ('{"prompt": "p"}', r"`response` is missing \(columns: prompt\)", "data-formats"),
    ('{"response": "r", "x": 1}', r"`prompt` is missing \(columns: response, x\)", "data-formats"),
    ('{"prompt": "p", "response": 3}', "`response`: 3 is not text", "JSON string"),
    ('{"prompt": 5, "response": "r"}', "`prompt` is 5", "a string or a list"),
    ('{"prompt": [], "response": "r"}', r"`prompt` is \[\]", "a string or a list"),
    ('{"prompt": [{"role": "user"}], "response": "r"}', "is not a turn", "role"),
    ('{"prompt": [{"role": "bot", "content": "c"}], "response": "r"}', "is not a turn", "role"),
    ('{"prompt": [{"role": "assistant", "content": "c"}], "response": "r"}', "ends with the assistant's", "user's"),
]


@pytest.mark.parametrize(("line", "what", "hint"), BAD, ids=[what for _, what, _ in BAD])
def test_errors_name_file_and_line(tmp_path: Path, line: str, what: str, hint: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f'{{"prompt": "p", "response": "r"}}\n\n{line}\n')
    with pytest.raises(DataError, match=what) as caught:
        read_jsonl(path, Demonstration)
    assert caught.value.where.startswith(f"{path}:3")  # the blank line counts
    assert hint in caught.value.hint


BAD_RANKINGS = [
    ({"ranks": [1]}, "2 responses, 2 finished, 1 ranks"),
    ({"responses": ["a"], "ranks": [1]}, "1 responses, 1 finished, 1 ranks"),
    ({"ranks": [0, 1]}, "a rank below 1"),
    ({"ranks": [1.0, 2.0]}, "not a list of int"),
    ({"ranks": [True, True]}, "not a list of int"),
    ({"finished": [True]}, "1 finished"),
    ({"finished": [1, 0]}, "not a list of bool"),
    ({"seconds": "9"}, "'9' is not a number"),
    ({"responses": "ab"}, "'ab' is not a list of str"),
    ({"ranks": [1, 10**19]}, "a rank above 1,000,000,000"),
    ({"seconds": float("nan")}, "nan is out of range"),
    ({"seconds": float("inf")}, "inf is out of range"),
    ({"seconds": 10**400}, "is out of range"),
    ({"seconds": -1}, "-1 is out of range"),
    ({"responses": ["a"] * 257, "ranks": [1] * 257}, "257 responses, which make too many pairs"),
    ({"labeler": ["ada"]}, "`labeler`: .* is not text"),
]


@pytest.mark.parametrize(("change", "what"), BAD_RANKINGS, ids=[what for _, what in BAD_RANKINGS])
def test_rankings_that_do_not_fit_together(change: dict, what: str) -> None:
    row = {"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]} | change
    with pytest.raises(DataError, match=what):
        from_row(Ranking, row, "rows.jsonl:7")


def test_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"prompt": "p", "response": "caf\xe9"}\n')
    with pytest.raises(DataError, match=r"rows.jsonl:1: not valid JSON: 'utf-8'"):
        read_jsonl(path, Demonstration)


def test_half_a_surrogate_pair_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "p\\ud83d", "response": "\\ud83c\\udf52"}\n')
    (record,) = read_jsonl(path, Demonstration)
    assert (record.prompt[0].content, record.response) == ("p?", "🍒")
    write_jsonl(path, [record])
    assert json.loads(path.read_text())["response"] == "🍒"


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        read_jsonl(tmp_path / "rows.jsonl", Prompt)


def test_group_is_the_first_thing_the_user_said() -> None:
    assert group_of(TALK) == group_of((Turn("user", " Hi\n"),)) != group_of(ASK)
    assert len(group_of(ASK)) == 16


def test_a_comparison_is_a_ranking_of_two() -> None:
    ranking = Comparison(ASK, "good", "bad", "ada", "s", "g").as_ranking()
    assert ranking == Ranking(ASK, ("good", "bad"), (1, 2), (True, True), "ada", None, "s", "g")


def test_records_leave_torch_alone() -> None:
    code = "import sys, heed.records; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_tag_may_be_a_number_and_a_place_is_not_written() -> None:
    row = {"prompt": "p", "responses": ["a", "b"], "ranks": [2, 1], "labeler": 7, "where": "elsewhere"}
    ranking = from_row(Ranking, row, "rows.jsonl:7")
    assert (ranking.labeler, ranking.where) == ("7", "rows.jsonl:7")
    assert ranking == from_row(Ranking, row, "rows.jsonl:8")
    assert "where" not in to_row(ranking)


def test_half_a_character_in_a_tag_is_written_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, [Candidates(ASK, ("a", "b"), (True, True), model="runs/\udcff", source="half \ud83d")])
    (record,) = read_jsonl(path, Candidates)
    assert (record.model, record.source) == ("runs/?", "half ?")
