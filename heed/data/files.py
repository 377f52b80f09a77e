"""Local files, directories and hub data sets → rows of columns, each with the place it stands at."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from heed.data.folders import split_files
from heed.data.rows import Row
from heed.data.tables import READERS, unflattened
from heed.errors import DataError
from heed.jsonl import PACKED, decoded, once_each, read_bytes, read_objects, refuse_depth
from heed.settings.common import DataSettings
from heed.words import listed, reason, short

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".arrow", ".txt")
ACCEPTED = f"{', '.join(SUFFIXES)}; text also as .gz or .xz"
WHOLE = DataSettings().split  # what is not asked for by name
DOCUMENT_END = "<|endoftext|>"


def read_rows(settings: DataSettings) -> list[Row]:
    """All rows of a file, of a directory, or of a hub data set (`name` or `name:configuration`), columns renamed."""
    if not settings.path:
        raise DataError("path", "no data set is named", f"name a file ({ACCEPTED}), a directory or a hub data set")
    require(settings)
    path = local(settings.path)
    if path.is_file():
        if settings.split != WHOLE:
            told = f"is a file, which has no split {settings.split!r}"
            raise DataError(settings.path, told, "leave `split` out, or name a directory in the hub's layout")
        rows = _file_rows(path)
    elif path.is_dir():
        rows = [row for file in split_files(path, settings.split) for row in _file_rows(file)]
    else:
        rows = _hub_rows(settings)
    if not rows:
        raise DataError(settings.path, "holds no rows", "name a file with one row or more")
    return [unflattened(row) for row in _renamed(rows, settings)]


def require(settings: DataSettings) -> None:
    """Raises DataError where `path` can only be a file or directory here, and there is none."""
    path = local(settings.path)
    is_file_name = path.suffix in (*SUFFIXES, *PACKED) or settings.path.startswith((".", "/", "~"))
    if is_file_name and not path.exists():
        raise DataError(settings.path, "there is no such file or directory", f"name a file ({ACCEPTED}) that exists")


def local(name: str) -> Path:
    """A path as somebody typed it; raises DataError where it can be none."""
    try:
        path = Path(name).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # too long a name; `~somebody` who is not there
        told = error.strerror if isinstance(error, OSError) else error
        raise DataError(short(name), f"cannot be a path: {told}", f"name a file ({ACCEPTED}) that exists") from None
    return path


def read_text(path: Path, characters: int = -1) -> str:
    """The first so many characters of a text file, or all of them."""
    raw = read_bytes(path, 4 * characters if characters >= 0 else -1)  # UTF-8 has four bytes a character at most
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(raw, final=characters < 0)
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}:{line}", f"is not UTF-8 text: {error}", "convert the file to UTF-8") from error
    return text if characters < 0 else text[:characters]


def _file_rows(path: Path) -> list[Row]:
    suffix = (path.with_suffix("").suffix if path.suffix.lower() in PACKED else path.suffix).lower()
    if suffix == ".jsonl":
        return [Row.of(columns, f"{path}:{number}") for number, columns in read_objects(path)]
    if suffix == ".json":
        return _json_rows(path)
    if suffix == ".txt":
        return _prompt_lines(path)
    if suffix in READERS:
        return READERS[suffix](path)
    raise DataError(str(path), f"unknown kind of file: {path.suffix or 'no suffix'}", f"accepted are {ACCEPTED}")


def _json_rows(path: Path) -> list[Row]:
    """One JSON array of objects, or one object a line as in `.jsonl`."""
    text = decoded(read_bytes(path), str(path))
    if not text.lstrip().startswith("["):
        return [Row.of(columns, f"{path}:{number}") for number, columns in read_objects(path)]
    return _numbered(_array(text, path), str(path))


def _array(text: str, path: Path) -> list[Any]:
    """The items of the file's one array, read one by one so that an error can name the row."""
    decoder, place, items = json.JSONDecoder(object_pairs_hook=once_each), text.index("[") + 1, list[Any]()
    try:
        place = _after_space(text, place)
        while text[place : place + 1] != "]":
            item, place = decoder.raw_decode(text, place)
            refuse_depth(item)
            items.append(item)
            place = _after_space(text, place)
            if text[place : place + 1] == ",":
                place = _after_space(text, place + 1)
                if text[place : place + 1] == "]":
                    raise json.JSONDecodeError("Expecting value", text, place)
            elif text[place : place + 1] != "]":
                raise json.JSONDecodeError("Expecting ',' or ']'", text, place)
        if _after_space(text, place + 1) < len(text):
            raise json.JSONDecodeError("Extra data", text, place + 1)
    except RecursionError as error:
        raise DataError(f"{path}: row {len(items) + 1}", "brackets are nested too deeply", "flatten the row") from error
    except json.JSONDecodeError as error:
        told = f"not valid JSON: {error}"
        raise DataError(f"{path}:{error.lineno}", told, "the file must be one JSON array") from error
    except ValueError as error:  # a key twice, or a number of thousands of digits
        told = f"not valid JSON: {error}"
        raise DataError(f"{path}: row {len(items) + 1}", told, "write each key once in an object") from error
    return items


def _after_space(text: str, place: int) -> int:
    while text[place : place + 1] in (" ", "\t", "\n", "\r"):
        place += 1
    return place


def _prompt_lines(path: Path) -> list[Row]:
    """A prompt a line; or, where the file has `<|endoftext|>`, a prompt between two of them."""
    text = read_text(path)
    parts = text.split(DOCUMENT_END) if DOCUMENT_END in text else text.split("\n")
    rows, line = [], 1
    for part in parts:
        if part.strip():
            begins = line + part[: len(part) - len(part.lstrip())].count("\n")
            rows.append(Row.of({"prompt": part.strip()}, f"{path}:{begins}"))
        line += part.count("\n") if DOCUMENT_END in text else 1
    return rows


def _numbered(items: list[Any], place: str) -> list[Row]:
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise DataError(
                f"{place}: row {number}", f"a {type(item).__name__}, not an object", "each row must be an object"
            )
    return [Row.of(item, f"{place}: row {number}") for number, item in enumerate(items, start=1)]


def _renamed(rows: list[Row], settings: DataSettings) -> list[Row]:
    names = settings.columns
    unknown = names.keys() - rows[0].columns.keys()
    if unknown:
        raise rows[0].fail(f"`columns` renames `{min(unknown)}`, which is not there", "name columns that the rows have")
    for row in rows if names else ():
        told = {names.get(name, name): value for name, value in row.columns.items()}
        if len(told) < len(row.columns):
            hint = f"rename that one too: {listed(names.values())}"
            raise row.fail("`columns` gives a column the name of another", hint)
        row.columns.clear()
        row.columns.update(told)
    return rows


def _hub_rows(settings: DataSettings) -> list[Row]:
    import datasets

    name, _, config = settings.path.partition(":")
    try:
        rows = datasets.load_dataset(name, config or None, split=settings.split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise _hub_error(settings, error) from error
    return _numbered(rows.to_list(), f"{settings.path} [{settings.split}]")


def _hub_error(settings: DataSettings, error: Exception) -> DataError:
    folder = f"./{settings.path.partition(':')[0]}/data"
    hint = (
        f"without a network, fetch the data set elsewhere and put {settings.split}-00000-of-00001.parquet or "
        f"{settings.split}.jsonl into {folder}, or name a local file: --data.path FILE ({ACCEPTED})"
    )
    return DataError(
        settings.path, f"not a file or directory here, and not to be had from the hub: {reason(error)}", hint
    )
