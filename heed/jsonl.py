"""Bytes of files → lines → JSON objects. Every file of rows is opened here, so every limit stands here."""

from __future__ import annotations

import gzip
import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from heed.errors import DataError
from heed.words import short

PACKED = (".gz", ".xz")
LONGEST_LINE = 16 << 20  # bytes; a book is about a million
DEEPEST = 64  # brackets within brackets
SURELY_FINE, BOMB_RATIO = 64 << 20, 200  # an archive may grow to so many bytes, or to so many times its own size
PIECE = 1 << 20  # bytes unpacked at once to learn how many there are

_UTF16 = (b"\xff\xfe", b"\xfe\xff")


def open_bytes(path: Path) -> BinaryIO | gzip.GzipFile | lzma.LZMAFile:
    """The file's content, unpacked where the name ends in `.gz` or `.xz`."""
    if not path.is_file():
        raise DataError(str(path), "there is no such file", "give the path of a file that exists")
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rb")
    if path.suffix.lower() == ".xz":
        return lzma.open(path, "rb")
    return path.open("rb")


@contextmanager
def damage_told(path: Path) -> Iterator[None]:
    """Turn what a cut or damaged archive, or a disk, raises into a `DataError` that names the file."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, zlib.error, lzma.LZMAError) as error:
        raise DataError(
            str(path), f"cannot be unpacked: {error}", "the file is cut or damaged; fetch it again"
        ) from error
    except OSError as error:
        raise DataError(
            str(path), f"cannot be read: {error.strerror or error}", "give a file that you may read"
        ) from error


def read_bytes(path: Path, size: int = -1) -> bytes:
    """The first so many bytes of a file, unpacked, or all of them."""
    if size < 0:
        refuse_bomb(path)
    with damage_told(path), open_bytes(path) as file:
        return file.read(size)


def read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Number and bytes of each line, its end included."""
    refuse_bomb(path)
    number = 0
    with damage_told(path), open_bytes(path) as file:
        while line := file.readline(LONGEST_LINE + 1):
            number += 1
            if number == 1 and line.startswith(_UTF16):
                raise DataError(f"{path}:1", "is UTF-16, not UTF-8 text", "convert the file to UTF-8")
            if len(line) > LONGEST_LINE:
                raise DataError(
                    f"{path}:{number}", f"a line of more than {LONGEST_LINE >> 20} MiB", "write one row a line"
                )
            yield number, line


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and object of each line of a JSONL file that is not blank."""
    for number, line in read_lines(path):
        if line.strip():
            yield number, _object(line, f"{path}:{number}")


def refuse_bomb(path: Path) -> None:
    """Raises DataError where an archive unpacks to more than its limit; nothing of it is kept meanwhile."""
    if path.suffix.lower() not in PACKED or not path.is_file():
        return
    most, size = unpacked_limit(path), 0
    with damage_told(path), open_bytes(path) as file:
        while piece := file.read(PIECE):
            size += len(piece)
            refuse_growth(path, size, most)


def unpacked_limit(path: Path) -> int:
    """Bytes that may come out of a packed file."""
    return max(SURELY_FINE, BOMB_RATIO * path.stat().st_size)


def refuse_growth(path: Path, size: int, most: int) -> None:
    """Raises DataError where more has come out of a packed file than its limit."""
    if size > most:
        told = f"unpacks to more than {most >> 20:,} MiB, {BOMB_RATIO} times its size or more"
        raise DataError(str(path), told, "if it is meant to be so large, unpack it and name the unpacked file")


def decoded(raw: bytes, where: str, hint: str = "convert the file to UTF-8") -> str:
    """Bytes as text, without a byte-order mark."""
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(where, f"is not UTF-8 text: {error}", hint) from error


def parse_json(text: str, where: str, hint: str) -> Any:
    """The one JSON value that `text` is; a key may stand once in an object, and brackets 64 deep."""
    try:
        value = json.loads(text, object_pairs_hook=once_each)
        if text.count("[") + text.count("{") > DEEPEST:
            refuse_depth(value)
    except RecursionError as error:
        raise DataError(where, f"brackets are nested deeper than {DEEPEST}", "flatten the row") from error
    except ValueError as error:  # not JSON, a key twice, or a number of thousands of digits
        raise DataError(where, f"not valid JSON: {error}", hint) from error
    return value


def once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these pairs, for `object_pairs_hook`; raises ValueError where a key stands twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {short(next(name for name in names if names.count(name) > 1))} stands twice")
    return found


def refuse_depth(value: Any) -> None:
    """Raises RecursionError where lists and objects stand more than `DEEPEST` deep in each other."""
    level = [value]
    for _ in range(DEEPEST):
        inside = [item.values() if isinstance(item, dict) else item for item in level if isinstance(item, dict | list)]
        level = [item for items in inside for item in items]
        if not level:
            return
    raise RecursionError


def _object(line: bytes, where: str) -> dict[str, Any]:
    hint = "each line must be one JSON object, in UTF-8"
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(where, f"not valid JSON: {error}", hint) from error
    row = parse_json(text, where, hint)
    if not isinstance(row, dict):
        hint = "each line must be one JSON object; a file that is one array is named .json"
        raise DataError(where, f"a {type(row).__name__}, not an object: {short(row)}", hint)
    return row
