"""What a model was made from, in a form that can be compared later: a file's hash, its rows, its labelers."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from heed.settings.common import DataSettings


def provenance(source: DataSettings, rows: int, labelers: Collection[str] | None = None) -> dict[str, Any]:
    """A source of rows for `heed.json`: its name, SHA-256 (of a file), rows that were used, people who labeled them.

    People are counted, and named by hashes: a checkpoint may be published.
    """
    path = Path(source.path)
    about: dict[str, Any] = {"name": path.name, "rows": rows}
    if path.is_file():
        with path.open("rb") as content:
            about["sha256"] = hashlib.file_digest(content, "sha256").hexdigest()
    if labelers is not None:
        people = set(labelers) - {""}
        about |= {"labelers": len(people), "labeled_by": sorted(map(_pseudonym, people))}
    return about


def _pseudonym(name: str) -> str:
    return hashlib.sha256(f"labeler {name}".encode()).hexdigest()[:12]
