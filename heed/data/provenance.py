"""What a model was made from, in a form that can be compared later: a file's hash, its rows, its labelers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from heed.settings.common import DataSettings


def provenance(source: DataSettings, rows: int, labelers: int | None = None) -> dict[str, Any]:
    """A source of rows for `heed.json`: its name, SHA-256 (of a file), rows that were used, people who labeled them."""
    path = Path(source.path)
    about: dict[str, Any] = {"name": path.name, "rows": rows}
    if path.is_file():
        with path.open("rb") as content:
            about["sha256"] = hashlib.file_digest(content, "sha256").hexdigest()
    return about if labelers is None else {**about, "labelers": labelers}
