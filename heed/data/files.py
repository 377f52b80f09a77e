"""Local files, directories in hub layout and hub data sets → rows of columns, each with the place it stands at."""

from __future__ import annotations

import codecs
import json
from pathlib import Path
from typing import Any

from heed.data.rows import Row
from heed.errors import DataError
from heed.records import damage_told, open_bytes, read_objects
from heed.settings.common import DataSettings

SUFFIXES = (".jsonl", ".json", ".parquet", ".txt")
ACCEPTED = f"{', '.join(SUFFIXES)}; plain, .gz or .xz"
DOCUMENT_END = "<|endoftext|>"


def read_rows(settings: DataSettings) -> list[Row]:
    """All rows of a file, of a directory in hub layout, or of a hub data set (`name` or `name:configuration`)."""
    if not settings.path:
        raise DataError("path", "no data set is named", f"name a file ({ACCEPTED}), a directory or a hub data set")
    require(settings)
    path = Path(settings.path).expanduser()
    rows = _file_rows(path) if path.is_file() else _hub_rows(settings)
    if not rows:
        raise DataError(settings.path, "holds no rows", "name a file with one row or more")
    return rows


def require(settings: DataSettings) -> None:
    """Raises DataError where `path` can only be a file or directory here, and there is none."""
    path = Path(settings.path).expanduser()
    is_file_name = path.suffix in (*SUFFIXES, ".gz", ".xz") or settings.path.startswith((".", "/", "~"))
    if is_file_name and not path.exists():
        raise DataError(settings.path, "there is no such file or directory", f"name a file ({ACCEPTED}) that exists")


def read_text(path: Path, characters: int = -1) -> str:
    """The first so many characters of a text file, or all of them."""
    with damage_told(path), open_bytes(path) as file:
        raw = file.read(4 * characters if characters >= 0 else -1)  # UTF-8 has four bytes a character at most
    try:
        text = codecs.getincrementaldecoder("utf-8-sig")().decode(raw, final=characters < 0)
    except UnicodeDecodeError as error:
        raise DataError(str(path), f"is not UTF-8 text: {error}", "convert the file to UTF-8") from error
    return (text if characters < 0 else text[:characters]).replace("\r\n", "\n")


def _file_rows(path: Path) -> list[Row]:
    suffix = path.with_suffix("").suffix if path.suffix in (".gz", ".xz") else path.suffix
    if suffix == ".jsonl":
        return [Row(columns, f"{path}:{number}") for number, columns in read_objects(path)]
    if suffix == ".json":
        return _json_rows(path)
    if suffix == ".parquet":
        return _numbered(_parquet(path), str(path))
    if suffix == ".txt":
        return _prompt_lines(path)
    raise DataError(str(path), f"unknown kind of file: {path.suffix or 'no suffix'}", f"accepted are {ACCEPTED}")


def _json_rows(path: Path) -> list[Row]:
    """One JSON array of objects, or one object a line as in `.jsonl`."""
    text = read_text(path)
    if not text.lstrip().startswith("["):
        return [Row(columns, f"{path}:{number}") for number, columns in read_objects(path)]
    try:
        items = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}:{error.lineno}", f"not valid JSON: {error}", "the file must be one JSON array"
        ) from error
    return _numbered(items, str(path))


def _parquet(path: Path) -> list[Any]:
    import pyarrow
    import pyarrow.parquet

    try:
        return list(pyarrow.parquet.read_table(path).to_pylist())
    except pyarrow.ArrowException as error:
        raise DataError(str(path), f"cannot be read as Parquet: {error}", "fetch or write the file again") from error


def _prompt_lines(path: Path) -> list[Row]:
    """A prompt a line; or, where the file has `<|endoftext|>`, a prompt between two of them."""
    text = read_text(path)
    parts = text.split(DOCUMENT_END) if DOCUMENT_END in text else text.split("\n")
    numbered = [(number, part.strip()) for number, part in enumerate(parts, start=1)]
    return [Row({"prompt": part}, f"{path}:{number}") for number, part in numbered if part]


def _numbered(items: list[Any], place: str) -> list[Row]:
    for number, item in enumerate(items, start=1):
        if not isinstance(item, dict):
            raise DataError(
                f"{place}: row {number}", f"a {type(item).__name__}, not an object", "each row must be an object"
            )
    return [Row(item, f"{place}: row {number}") for number, item in enumerate(items, start=1)]


def _hub_rows(settings: DataSettings) -> list[Row]:
    import datasets

    path = Path(settings.path).expanduser()
    local = path.is_dir()
    name, _, config = (str(path), "", "") if local else settings.path.partition(":")
    try:
        rows = datasets.load_dataset(name, config or None, split=settings.split)
    except (OSError, ValueError, RuntimeError, datasets.exceptions.DatasetsError) as error:
        raise _hub_error(settings, local, error) from error
    return _numbered(rows.to_list(), f"{settings.path} [{settings.split}]")


def _hub_error(settings: DataSettings, local: bool, error: Exception) -> DataError:
    reason = (str(error) or type(error).__name__).splitlines()[0]
    if local:
        hint = (
            f"expected are files such as data/{settings.split}-00000-of-00001.parquet or {settings.split}.jsonl in it"
        )
        return DataError(settings.path, f"no rows of split `{settings.split}` in this directory: {reason}", hint)
    folder = f"./{settings.path.partition(':')[0]}/data"
    hint = (
        f"without a network, fetch the data set elsewhere and put {settings.split}-00000-of-00001.parquet or "
        f"{settings.split}.jsonl into {folder}, or name a local file: --data.path FILE ({ACCEPTED})"
    )
    return DataError(settings.path, f"not a file or directory here, and not to be had from the hub: {reason}", hint)
