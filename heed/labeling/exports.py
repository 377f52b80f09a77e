"""Labels as files: rankings, pairs, demonstrations, Argilla records, CSV. The same labels give the same bytes.

Labelers appear under pseudonyms. Held-out labelers' answers and gold questions are left out unless they are asked for.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from heed.errors import ConfigError
from heed.labeling.export_rows import ROWS, Export, Labels, Row
from heed.labeling.store import reading, tasks
from heed.labeling.store.database import Database, salt
from heed.labeling.store.reading import StoredRanking

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")
"""A cell that begins so is run as a formula by programs that open CSV files."""


def write(database: Database, export: Export, path: Path) -> Row:
    """Write the file, and beside it `FILE.about.json`: rows, labelers, hash. Returns what is in the latter.

    Both appear whole or not at all. Raises ConfigError where the place cannot be written.
    """
    content, about = made(database, export)
    place(path, content, about)
    return about


def place(path: Path, content: bytes, about: Row) -> None:
    """Put an export and what there is to say about it where they belong."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
        _replace(path.with_name(path.name + ".about.json"), (json.dumps(about, indent=2) + "\n").encode())
    except OSError as error:
        raise ConfigError(str(path), f"cannot be written: {error.strerror}", "name another file") from error


def download(database: Database, export: Export) -> tuple[str, bytes]:
    """A file's name and content."""
    content, _ = made(database, export)
    return f"{export.format}.{'csv' if export.format == 'csv' else 'jsonl'}", content


def made(database: Database, export: Export) -> tuple[bytes, Row]:
    """The content of an export, and what there is to say about it."""
    with database.read() as connection:
        labels = _labels(connection, export)
    rows = list(ROWS[export.format](labels, export))
    content = _csv(rows) if export.format == "csv" else b"".join(_line(row) for row in rows)
    about = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "rows": len(rows),
        "labelers": sorted(labels.named.values()),
        "settings": {**asdict(export), "labelers": sorted(map(labels.pseudonym, export.labelers))},
    }
    return content, about


def agreeing_tasks(rankings: Iterable[StoredRanking], least: float) -> set[int]:
    """Tasks of which `least` of the pairs that two people both order are ordered alike."""
    by_task: dict[int, list[tuple[int, ...]]] = defaultdict(list)
    for row in rankings:
        if row.ranks is not None:
            by_task[row.task].append(row.ranks)
    return {task for task, ranks in by_task.items() if _agreement(ranks) >= least}


def _labels(connection: Connection, export: Export) -> Labels:
    shown = {task.id: task for task in tasks.read_many(connection)}
    rankings = [row for row in reading.all_rankings(connection) if shown[row.task].gold is None]
    wanted = [row for row in rankings if _is_wanted(row.labeler, row.labeler_group, export)]
    if export.agreement > 0:
        agreeing = agreeing_tasks(wanted, export.agreement)
        wanted = [row for row in wanted if row.task in agreeing]
    return Labels(
        shown,
        wanted,
        [d for d in reading.all_demonstrations(connection) if _is_wanted(d.labeler, d.labeler_group, export)],
        [v for v in reading.all_votes(connection) if _is_wanted(v.labeler, v.labeler_group, export)],
        salt(connection),
    )


def _is_wanted(labeler: str, group: str, export: Export) -> bool:
    return export.group in ("all", group) and (not export.labelers or labeler in export.labelers)


def _agreement(rankings: Sequence[tuple[int, ...]]) -> float:
    """Share of the pairs that two people both order that they order alike; 0 where there is no such pair."""
    same = [
        (a[i] < a[j]) == (b[i] < b[j])
        for a, b in combinations(rankings, 2)
        for i, j in combinations(range(len(a)), 2)
        if a[i] != a[j] and b[i] != b[j]
    ]
    return sum(same) / len(same) if same else 0.0


def _line(row: Row) -> bytes:
    return (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n").encode()


def _csv(rows: Sequence[Row]) -> bytes:
    columns = "task labeler prompt response model rank likert flags seconds".split()
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\r\n")
    table.writeheader()
    table.writerows({name: harmless(value) for name, value in row.items()} for row in rows)
    return text.getvalue().encode("utf-8-sig")


def harmless(cell: Any) -> Any:
    """A cell that no spreadsheet takes for a formula: text that begins like one gets an apostrophe before it."""
    is_formula = isinstance(cell, str) and (cell.startswith(FORMULA) or cell.lstrip().startswith(FORMULA))
    return f"'{cell}" if is_formula else cell


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    partial.write_bytes(content)
    os.replace(partial, path)
