"""CSV, TSV, Parquet and Arrow are read as JSONL is."""

from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from heed import jsonl
from heed.data.sources import read_demonstrations, read_prompts, read_rankings
from heed.errors import DataError
from heed.settings.common import DataSettings

ROWS = [
    {"prompt": 'Say "red", please.', "response": "red;\tnot\nblue", "source": "a,b"},
    {"prompt": "Name a fruit.", "response": "An apple.", "source": ""},
]


def at(path: Path, **rest: Any) -> DataSettings:
    return DataSettings(path=str(path), **rest)


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_gives_what_jsonl_gives(tmp_path: Path, separator: str, end: str, mark: str) -> None:
    lines, table = tmp_path / "rows.jsonl", tmp_path / ("rows.tsv" if separator == "\t" else "rows.csv")
    lines.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    with table.open("w", newline="") as file:
        file.write(mark)
        writer = csv.DictWriter(file, list(ROWS[0]), delimiter=separator, lineterminator=end)
        writer.writeheader()
        writer.writerows(ROWS)
    packed = tmp_path / f"{table.name}.gz"
    packed.write_bytes(gzip.compress(table.read_bytes()))
    read = [read_demonstrations(at(path), 0) for path in (lines, table, packed)]
    assert read[0] == read[1] == read[2]
    assert [record.where for record in read[1]] == [f"{table}:2", f"{table}:4"]  # the first row has a line end within


def test_lists_and_numbers_in_csv(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(
        'prompt,responses,ranks,seconds\nAsk.,"[""a"", ""b""]","[2, 1]",3.5\nAsk.,"[""a"", ""b""]","[1, 1]",\n'
    )
    first, second = read_rankings(at(path), 0)
    assert (first.responses, first.ranks, first.seconds) == (("a", "b"), (2, 1), 3.5)
    assert (second.ranks, second.seconds) == ((1, 1), None)
    path.write_text("instruction,output_1,output_2,preference\nAsk.,a,b,2\nAsk.,a,b,\nAsk.,c,d,1\n")
    assert [ranking.ranks for ranking in read_rankings(at(path), 0)] == [(2, 1), (1, 2)]
    path.write_text(
        'messages\n"[{""role"": ""user"", ""content"": ""Hi\\u001b""}, '
        '{""role"": ""assistant"", ""content"": ""Yes""}]"\n'
    )
    (demonstration,) = read_demonstrations(at(path), 0)
    assert (demonstration.prompt[0].content, demonstration.response) == ("Hi", "Yes")


def test_columns_of_csv_are_renamed_before_they_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text('question,answers,order\nAsk.,"[""a"", ""b""]","[2, 1]"\n')
    names = {"question": "prompt", "answers": "responses", "order": "ranks"}
    (ranking,) = read_rankings(at(path, columns=names), 0)
    assert ranking.ranks == (2, 1)


BAD = [
    ("prompt,response\nAsk.\n", ":2", "has 1 cells, but the header has 2"),
    ("prompt,response\na,b\n\nc,d,e\n", ":4", "has 3 cells"),
    ('prompt,response\na,b\n"c,d\n', ":3", "cannot be read as CSV"),
    ("prompt,prompt\na,b\n", ":1", "names the column 'prompt' twice"),
    ("prompt,,response\na,b,c\n", ":1", "a column without a name"),
    ("", "", "holds no rows"),
    ("question,answer\na,b\n", ":2", "no known format has these columns: question, answer"),
    ("prompt,responses,ranks\np,a b,1 2\n", ":2: `responses`", "not valid JSON"),
    ("instruction,output_1,output_2,preference\np,a,b,first\n", ":2", "`preference` is 'first', not a number"),
]


@pytest.mark.parametrize(("content", "where", "what"), BAD, ids=[what for _, _, what in BAD])
def test_csv_that_cannot_be_read(tmp_path: Path, content: str, where: str, what: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=what.replace("(", r"\(")) as caught:
        read_prompts(at(path), 0)
    assert caught.value.where == f"{path}{where}"


def test_csv_that_is_not_utf_8(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(b"prompt\nfine\ncaf\xe9\n")
    with pytest.raises(DataError, match="is not UTF-8 text") as caught:
        read_prompts(at(path), 0)
    assert caught.value.where == f"{path}:3"


def test_arrow_files_of_both_forms(tmp_path: Path) -> None:
    whole, path = pyarrow.Table.from_pylist(ROWS), tmp_path / "rows.arrow"
    for new in (pyarrow.ipc.new_stream, pyarrow.ipc.new_file):
        with path.open("wb") as sink, new(sink, whole.schema) as writer:
            writer.write_table(whole)
        assert [record.response for record in read_demonstrations(at(path), 0)] == [row["response"] for row in ROWS]


def test_a_table_of_types_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    for column in ([b"bytes"], [3], [True]):
        pyarrow.parquet.write_table(pyarrow.table({"prompt": ["p"], "response": column}), path)
        with pytest.raises(DataError, match="`response` is") as caught:
            read_demonstrations(at(path), 0)
        assert caught.value.where == f"{path}: row 1"
    twice = pyarrow.Table.from_arrays([pyarrow.array(["p"]), pyarrow.array(["q"])], names=["prompt", "prompt"])
    pyarrow.parquet.write_table(twice, path)
    with pytest.raises(DataError, match="names the column 'prompt' twice"):
        read_prompts(at(path), 0)


def test_a_table_of_a_few_bytes_and_many_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"prompt": pyarrow.array(["p"] * 200_000)}), path)
    monkeypatch.setattr(jsonl, "SURELY_FINE", 100_000)
    with pytest.raises(DataError, match="unpacks to more than"):
        read_prompts(at(path), 0)


def test_nan_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"  # as pandas writes a missing cell
    path.write_text('{"instruction": "Ask.", "input": NaN, "output": "Good", "source": NaN}\n')
    (record,) = read_demonstrations(at(path), 0)
    assert (record.prompt[0].content, record.source) == ("Ask.", "")
    path.write_text('{"instruction": "Ask.", "output": Infinity}\n')
    with pytest.raises(DataError, match="`output` is inf, not text"):
        read_demonstrations(at(path), 0)
