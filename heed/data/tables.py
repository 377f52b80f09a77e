"""Tables → rows: CSV and TSV, where every cell is text, and Parquet and Arrow, whose columns have types."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from heed.data.rows import Row
from heed.errors import DataError
from heed.jsonl import LONGEST_LINE, decoded, parse_json, read_lines, refuse_growth, unpacked_limit
from heed.words import listed, reason, short

if TYPE_CHECKING:  # numpy comes with it: who reads text, as the labeling page does, need not wait for either
    import pyarrow

LISTS = ("responses", "ranks", "finished", "messages", "conversations", "history")
MAYBE_LISTS = ("prompt", "chosen", "rejected", "completion", "response")
NUMBERS = ("preference", "seconds")
BATCH = 1000  # rows made into Python objects at once


def csv_rows(path: Path) -> list[Row]:
    """Rows of a table with a header. Cells may be quoted; `,`, `;` or tabs part them, whichever the header has most."""
    rows = _csv_records(path)
    _, header = next(rows, (1, []))
    _check_header(header, path)
    found = []
    for number, cells in rows:
        if len(cells) != len(header):
            told = f"has {len(cells):,} cells, but the header has {len(header):,}"
            raise DataError(f"{path}:{number}", told, 'a cell that holds the separator is quoted: "red, ripe"')
        found.append(Row.of(dict(zip(header, cells, strict=True)), f"{path}:{number}", flat=True))
    return found


def unflattened(row: Row) -> Row:
    """A CSV row with its lists (written as JSON) and numbers as such; an empty cell of these is nothing."""
    if not row.flat:
        return row
    readers = {
        **dict.fromkeys(LISTS, _list),
        **dict.fromkeys(MAYBE_LISTS, _maybe_list),
        **dict.fromkeys(NUMBERS, _number),
    }
    told = {name: readers[name](row, name) if name in readers else cell for name, cell in row.columns.items()}
    whole = Row.of(told, row.where)  # escapes in the JSON of a cell enter only now
    whole.mended.update(row.mended)
    return whole


def parquet_rows(path: Path) -> list[Row]:
    """Rows of a Parquet file."""
    import pyarrow.parquet

    with _damage_told(path, "Parquet"), pyarrow.parquet.ParquetFile(path) as file:
        return _arrow_rows(file.schema_arrow, file.iter_batches(BATCH), path)


def arrow_rows(path: Path) -> list[Row]:
    """Rows of an Arrow file as `datasets` saves it (a stream), or in Arrow's file format."""
    import pyarrow.ipc

    with _damage_told(path, "Arrow"), pyarrow.OSFile(str(path)) as source:
        if source.read(6) == b"ARROW1":
            whole = pyarrow.ipc.open_file(source)
            batches = (whole.get_batch(i) for i in range(whole.num_record_batches))
            return _arrow_rows(whole.schema, batches, path)
        source.seek(0)
        stream = pyarrow.ipc.open_stream(source)
        return _arrow_rows(stream.schema, stream, path)


# ── CSV ──────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _csv_records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Line at which each record begins, and its cells; blank lines are left out."""
    numbered = read_lines(path)
    lines = (decoded(line, f"{path}:{number}") for number, line in numbered)
    head = next(lines, "")
    csv.field_size_limit(LONGEST_LINE)
    reader = csv.reader(_from(head, lines), delimiter=max("\t,;", key=head.count), strict=True)
    begins = 1
    try:
        for cells in reader:
            if cells:
                yield begins, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        hint = 'a quote in a quoted cell is doubled: "say ""red"""'
        raise DataError(f"{path}:{begins}", f"cannot be read as CSV: {reason(error)}", hint) from error


def _from(head: str, lines: Iterator[str]) -> Iterator[str]:
    yield head
    yield from lines


def _check_header(header: list[str], path: Path) -> None:
    hint = "the first line names the columns, each once: prompt,response"
    if not any(name.strip() for name in header):
        raise DataError(str(path), "holds no rows", hint)
    twice = [name for name in header if header.count(name) > 1]
    if twice or "" in header[1:]:  # the first may have none: that is the index that pandas writes
        told = f"names the column {short(twice[0])} twice" if twice else "has a column without a name"
        raise DataError(f"{path}:1", f"the header {told}: {listed(header)}", hint)


def _list(row: Row, name: str) -> Any:
    cell = row.columns[name]
    if not cell.strip():
        return None
    hint = f"""in CSV a list is written as JSON: `{name}` is "[""a"", ""b""]" """.strip()
    return parse_json(cell, f"{row.where}: `{name}`", hint)


def _maybe_list(row: Row, name: str) -> Any:
    cell = row.columns[name]
    start = cell.lstrip()
    is_messages = start.startswith("[{") and any(f'"{key}"' in cell for key in ("role", "from"))
    return _list(row, name) if is_messages else cell


def _number(row: Row, name: str) -> float | None:
    cell = row.columns[name].strip()
    if not cell:
        return None
    try:
        return float(cell)
    except ValueError:
        raise row.fail(f"`{name}` is {short(cell)}, not a number") from None


# ── Parquet and Arrow ────────────────────────────────────────────────────────────────────────────────────────────────


@contextmanager
def _damage_told(path: Path, kind: str) -> Iterator[None]:
    """Arrow's errors, and those of values that Python has no object for, as one that names the file."""
    import pyarrow

    try:
        yield
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError, KeyError, RecursionError) as error:
        raise DataError(
            str(path), f"cannot be read as {kind}: {reason(error)}", "fetch or write the file again"
        ) from error


def _arrow_rows(schema: pyarrow.Schema, batches: Any, path: Path) -> list[Row]:
    twice = [name for name in schema.names if schema.names.count(name) > 1]
    if twice:
        raise DataError(str(path), f"names the column {short(twice[0])} twice", "write each column once")
    most, size, rows = unpacked_limit(path), 0, list[Row]()
    for batch in batches:
        batch.validate(full=True)
        size += max(batch.nbytes, 8 * batch.num_rows)
        refuse_growth(path, size, most)
        rows += [Row.of(row, f"{path}: row {len(rows) + i}") for i, row in enumerate(batch.to_pylist(), start=1)]
    return rows


READERS: dict[str, Callable[[Path], list[Row]]] = {
    ".csv": csv_rows, ".tsv": csv_rows, ".parquet": parquet_rows, ".arrow": arrow_rows,
}  # fmt: skip
