"""Bytes of files: limits, damage, JSON that is none."""

from __future__ import annotations

import gzip
import lzma
from pathlib import Path
from typing import Any

import pytest

from heed import jsonl
from heed.errors import DataError
from heed.jsonl import DEEPEST, read_bytes, read_lines, read_objects


def told(path: Path, content: bytes) -> DataError:
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        list(read_objects(path))
    return caught.value


LINES = [
    (b'{"a": 1, "b": 2, "a": 3}', "the key 'a' stands twice"),
    (b'{"a": {"b": 1, "b": 1}}', "the key 'b' stands twice"),
    (b'{"a": ' + b"9" * 5000 + b"}", "not valid JSON: Exceeds the limit"),
    (b"[" * 100_000, "nested deeper than 64"),
    (b'{"a": ' + b"[" * 64 + b"]" * 64 + b"}", "nested deeper than 64"),
    (b'{"a": "caf\xe9"}', "not valid JSON: 'utf-8'"),
    (b"[1]", "a list, not an object"),
    (b"\x00\x00", "not valid JSON"),
]


@pytest.mark.parametrize(("line", "what"), LINES, ids=[what for _, what in LINES])
def test_lines_that_are_no_object(tmp_path: Path, line: bytes, what: str) -> None:
    error = told(tmp_path / "rows.jsonl", b'{"a": 1}\n\n' + line)
    assert error.where == f"{tmp_path / 'rows.jsonl'}:3"
    assert what in error.what


def test_just_so_deep_is_fine(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": ' + b"[" * (DEEPEST - 1) + b"]" * (DEEPEST - 1) + b"}")
    assert len(list(read_objects(path))) == 1


def test_a_byte_order_mark_and_utf_16(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\xef\xbb\xbf{"a": 2}\n')  # two files, one after the other
    assert [row["a"] for _, row in read_objects(path)] == [1, 2]
    assert "UTF-16" in told(path, '{"a": 1}\n'.encode("utf-16")).what


def test_a_line_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "LONGEST_LINE", 100)
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"a": "' + b"x" * 91 + b'"}\n')  # 101 bytes with its end
    assert told(path, b"{}\n" + path.read_bytes()).where == f"{path}:2"
    path.write_bytes(b'{"a": "' + b"x" * 90 + b'"}\n')
    assert len(list(read_objects(path))) == 1


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".xz", lzma.compress)])
def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, pack: Any) -> None:
    path = tmp_path / f"rows.jsonl{suffix}"
    whole = pack(b'{"a": 1}\n' * 50_000)
    for damage in (whole[:-9], whole[:40], b"\x1f\x8bnonsense", whole[:20] + b"\xff" * 20 + whole[40:]):
        assert "cannot be unpacked" in told(path, damage).what
    path.write_bytes(whole)
    assert len(list(read_lines(path))) == 50_000  # below the size that is surely fine
    monkeypatch.setattr(jsonl, "SURELY_FINE", 1000)
    monkeypatch.setattr(jsonl, "BOMB_RATIO", 5)
    bomb = told(path, whole)
    assert "unpacks to more than" in bomb.what
    assert "unpack it" in bomb.hint
    with pytest.raises(DataError, match="unpacks to more than"):
        read_bytes(path)
    assert len(read_bytes(path, 100)) == 100
    unpacked = tmp_path / "rows.jsonl"  # as the hint says
    unpacked.write_bytes(b'{"a": 1}\n' * 50_000)
    assert len(list(read_lines(unpacked))) == 50_000


def test_a_directory_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file"):
        list(read_objects(tmp_path))
