"""Files, directories and hub names; what is kept, what is dropped, and what is said when nothing fits."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import datasets
import pyarrow
import pyarrow.parquet
import pytest

from heed.data.sources import read_demonstrations, read_prompts, read_rankings, read_texts
from heed.errors import DataError
from heed.settings.common import DataSettings

ROWS = [{"prompt": f"Question {i}?", "response": f"Answer {i}."} for i in range(40)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def settings(path: Path | str, **rest: Any) -> DataSettings:
    return DataSettings(path=str(path), **rest)


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_kind_of_file_gives_the_same(tmp_path: Path) -> None:
    contents = {
        "a.jsonl": LINES.encode(),
        "b.jsonl.gz": gzip.compress(LINES.encode()),
        "c.jsonl.xz": lzma.compress(LINES.encode()),
        "d.json": json.dumps(ROWS, indent=1).encode(),
        "e.json.gz": gzip.compress(json.dumps(ROWS).encode()),
        "f.json": LINES.encode(),
        "g.jsonl": b"\xef\xbb\xbf" + LINES.replace("\n", "\r\n\r\n").encode(),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(ROWS), tmp_path / "h.parquet")
    read = [read_demonstrations(settings(path), 0) for path in sorted(tmp_path.iterdir())]
    assert len(read) == 8
    assert all(records == read[0] for records in read)
    assert [record.response for record in read[0]] == [row["response"] for row in ROWS]


def test_text_file_of_prompts(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text("Name a fruit.\n\nName a colour.\n")
    assert [p.prompt[0].content for p in read_prompts(settings(path), 0)] == ["Name a fruit.", "Name a colour."]
    path.write_text("Name\na fruit.\n<|endoftext|>\nName a colour.")
    assert [p.prompt[0].content for p in read_prompts(settings(path), 0)] == ["Name\na fruit.", "Name a colour."]


@pytest.fixture
def hub_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set as the hub lays it out, in the place where its name would be looked for."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = tmp_path / "owner" / "pairs"
    (folder / "data").mkdir(parents=True)
    for split, count in {"train": 3, "test": 2}.items():
        rows = [
            {"prompt": f"\n\nHuman: {split} {i}\n\nAssistant:", "chosen": " Good", "rejected": " Bad", "source": None}
            for i in range(count)
        ]
        table = pyarrow.Table.from_pylist(rows)
        pyarrow.parquet.write_table(table, folder / "data" / f"{split}-00000-of-00001.parquet")
    return folder


def test_directory_in_hub_layout(hub_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert [r.prompt[0].content for r in read_rankings(settings(hub_directory), 0)] == ["train 0", "train 1", "train 2"]
    monkeypatch.chdir(hub_directory.parents[1])
    assert len(read_rankings(settings("owner/pairs", split="test"), 0)) == 2
    with pytest.raises(DataError, match="no rows of split `validation`") as caught:
        read_rankings(settings("owner/pairs", split="validation"), 0)
    assert "validation-00000-of-00001.parquet" in caught.value.hint


def test_directory_with_a_colon_in_its_name(hub_directory: Path) -> None:
    folder = hub_directory.rename(hub_directory.parent / "pairs:1")
    assert len(read_rankings(settings(folder), 0)) == 3


def test_empty_directory(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no rows of split `train`"):
        read_rankings(settings(tmp_path), 0)


def test_hub_name_without_a_network() -> None:
    with pytest.raises(DataError, match="not a file or directory here") as caught:
        read_rankings(settings("Dahoas/rm-static", split="test"), 0)
    assert "./Dahoas/rm-static/data" in caught.value.hint
    assert "test-00000-of-00001.parquet" in caught.value.hint
    assert "--data.path FILE" in caught.value.hint


@pytest.mark.parametrize("path", ["missing.jsonl", "./missing", "/missing/data", "deep/missing.jsonl.gz"])
def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub(path: str) -> None:
    with pytest.raises(DataError, match="there is no such file or directory"):
        read_prompts(settings(path), 0)


def test_no_path() -> None:
    with pytest.raises(DataError, match="no data set is named"):
        read_prompts(DataSettings(), 0)


# ── errors ───────────────────────────────────────────────────────────────────────────────────────────────────────────

OK = {"prompt": "p", "response": "r"}
BAD_ROWS = [
    ({"prompt": "p"}, r"`response` is missing \(columns: prompt\)"),
    ({"prompt": "p", "response": None}, "`response` is missing"),
    ({"prompt": "p", "response": 4}, "`response` is 4, not a list of messages"),
    ({"prompt": 4, "response": "r"}, r"`prompt` is 4, not a list of messages \(columns: prompt, response\)"),
    ({"prompt": ["p"], "response": "r"}, "holds 'p', not a message"),
    ({"prompt": [{"role": "user", "content": 5}], "response": "r"}, "not a message with a role and text"),
]


@pytest.mark.parametrize(("row", "what"), BAD_ROWS, ids=[what for _, what in BAD_ROWS])
def test_errors_name_file_and_line(tmp_path: Path, row: dict[str, Any], what: str) -> None:
    path = write(tmp_path / "rows.jsonl", OK, row)
    with pytest.raises(DataError, match=what) as caught:
        read_demonstrations(settings(path), 0)
    assert caught.value.where == f"{path}:2"
    assert "docs/data-formats.md" in caught.value.hint


def test_malformed_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(OK) + "\n{'prompt': 'p'}\n")
    with pytest.raises(DataError, match="not valid JSON") as caught:
        read_demonstrations(settings(path), 0)
    assert caught.value.where == f"{path}:2"


@pytest.mark.parametrize(
    ("name", "content", "where", "what"),
    [
        ("rows.json", '[\n{"prompt": "p"},\n]', ":3", "not valid JSON"),
        ("rows.json", '[{"prompt": "p"}, 3]', ": row 2", "a int, not an object"),
        ("rows.json", "[]", "", "holds no rows"),
        ("rows.jsonl", "\n\n", "", "holds no rows"),
        ("rows.txt", "", "", "holds no rows"),
        ("rows.parquet", "PAR1", "", "cannot be read as Parquet"),
        ("rows.csv", "prompt,response\n", "", "holds no rows"),
        ("rows.xlsx", "prompt,response", "", "unknown kind of file: .xlsx"),
        ("rows", "", "", "unknown kind of file: no suffix"),
        ("rows.jsonl", '{"question": "q", "answer": "a"}', ":1", "no known format has these columns: question, answer"),
        ("rows.jsonl", "{}", ":1", "no known format has these columns: none"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, name: str, content: str, where: str, what: str) -> None:
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=what) as caught:
        read_prompts(settings(path), 0)
    assert caught.value.where == f"{path}{where}"
    assert caught.value.hint


def test_latin_1_text(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"caf\xe9")
    with pytest.raises(DataError, match="is not UTF-8 text"):
        read_prompts(settings(path), 0)


# ── what is dropped ──────────────────────────────────────────────────────────────────────────────────────────────────

GOOD_PAIR = {"prompt": "p", "chosen": "good", "rejected": "bad"}
SAME = {"prompt": "p", "chosen": "same", "rejected": " same\n"}
EMPTY = {"prompt": "p", "chosen": "good", "rejected": "  "}


def test_dropped_pairs_are_counted_in_a_warning(tmp_path: Path, caplog: Any) -> None:
    path = write(tmp_path / "pairs.jsonl", *[GOOD_PAIR] * 3, SAME, EMPTY, SAME)
    assert len(read_rankings(settings(path), 0)) == 3
    (told,) = caplog.records
    assert told.levelname == "WARNING"
    assert told.message == (
        f"read   {path}\n       6 rows as TRL preference, explicit prompt → 3 rankings; "
        f"dropped 2 identical pairs (first at {path}:4), 1 empty responses (first at {path}:5)"
    )
    assert len(read_prompts(settings(path), 0)) == 6  # as prompts they are as good as any


def test_more_than_half_dropped_stops_and_names_the_first(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", GOOD_PAIR, SAME, EMPTY)
    with pytest.raises(DataError, match=r"2 of 3 rows are unusable: 1 identical pairs \(first at") as caught:
        read_rankings(settings(path), 0)
    assert caught.value.where == f"{path}:2"


def test_exactly_half_dropped_does_not_stop(tmp_path: Path) -> None:
    assert len(read_rankings(settings(write(tmp_path / "pairs.jsonl", SAME, GOOD_PAIR)), 0)) == 1


def test_none_left(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 of 1 rows are unusable: 1 empty responses"):
        read_demonstrations(settings(write(tmp_path / "rows.jsonl", {"prompt": "p", "response": ""})), 0)


@pytest.mark.parametrize(
    "prompt", ["", " \n", [{"role": "assistant", "content": "Hi"}], "\n\nHuman: \n\nAssistant:", []]
)
def test_prompts_that_ask_nothing_are_dropped(tmp_path: Path, prompt: Any) -> None:
    path = write(tmp_path / "prompts.jsonl", {"prompt": "p"}, {"prompt": prompt})
    assert len(read_prompts(settings(path), 0)) == 1


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_limit_draws_with_the_seed(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *ROWS)
    drawn = [[d.response for d in read_demonstrations(settings(path, limit=10), seed)] for seed in (1, 1, 2)]
    everything = [row["response"] for row in ROWS]
    assert drawn[0] == drawn[1] != drawn[2]
    assert len(drawn[0]) == 10 == len(set(drawn[0]))
    assert drawn[0] != everything[:10]
    assert drawn[0] == [response for response in everything if response in drawn[0]]  # in the file's order
    assert len(read_demonstrations(settings(path, limit=100), 0)) == 40


def test_what_was_read_is_told_in_lines_that_fit_80_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    place = Path("some/where/on/this/machine/world")
    place.mkdir(parents=True)
    (place / "demonstrations.train.jsonl").write_text(LINES)
    with caplog.at_level("INFO", "heed"):
        read_demonstrations(settings(place / "demonstrations.train.jsonl", limit=20), seed=0)
    (told,) = caplog.messages
    assert [line.split()[0] for line in told.splitlines()] == ["read", "40"]
    assert max(map(len, told.splitlines())) <= 80
    assert "40 demonstrations; drew 20 of them" in told


def test_sources_are_prefixes(tmp_path: Path) -> None:
    sources = ["hh/helpful", "hh/harmless", "alpaca", None]
    path = write(tmp_path / "rows.jsonl", *[{"prompt": str(s), "source": s} for s in sources], {"prompt": "none"})
    kept = read_prompts(settings(path, sources=("hh/", "alp")), 0)
    assert [p.source for p in kept] == ["hh/helpful", "hh/harmless", "alpaca"]
    with pytest.raises(DataError, match="no row's `source` starts with dolly") as caught:
        read_prompts(settings(path, sources=("dolly",)), 0)
    assert "hh/helpful" in caught.value.hint


def test_columns_are_renamed(tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", {"question": "q", "answer": "a", "id": 3})
    (record,) = read_demonstrations(settings(path, columns={"question": "prompt", "answer": "response"}), 0)
    assert (record.prompt[0].content, record.response) == ("q", "a")
    with pytest.raises(DataError, match=r"renames `qestion`, which is not there \(columns: question, answer, id\)"):
        read_demonstrations(settings(path, columns={"qestion": "prompt"}), 0)


# ── running text ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_documents(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("One.\r\nTwo.<|endoftext|>\n<|endoftext|> Three. ")
    (tmp_path / "b.txt.xz").write_bytes(lzma.compress("Fünf.".encode()))
    assert read_texts([str(tmp_path / "a.txt")]) == ["One.\nTwo.", "Three."]
    assert sorted(read_texts([str(tmp_path / "*.txt*")])) == ["Fünf.", "One.\nTwo.", "Three."]


def test_characters_are_shared_between_files(tmp_path: Path) -> None:
    for name, length in {"a": 100, "b": 3, "c": 50}.items():
        (tmp_path / f"{name}.txt").write_text("a" + "é" * (length - 1))  # the limit falls inside a letter
    read = read_texts([str(tmp_path / "*.txt")], 43)
    assert sorted(map(len, read)) == [3, 20, 20]  # b leaves 40 for two


def test_no_text(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file has such a name"):
        read_texts([str(tmp_path / "*.txt")])
    with pytest.raises(DataError, match="there is no such file"):
        read_texts([str(tmp_path / "a.txt")])
    (tmp_path / "a.txt").write_text(" <|endoftext|> ")
    with pytest.raises(DataError, match="holds no text"):
        read_texts([str(tmp_path / "a.txt")])
