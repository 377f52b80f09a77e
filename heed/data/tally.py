"""What was left out or mended: how many of each kind, the first place of each, and the whole list as a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from heed.words import clean

MOST_TOLD = 8  # kinds in one line; the others are in the file


class Tally:
    """Places of rows with a reason each, in the order in which they were met.

    A reason is the plural noun under which a row is counted. Printed, it is one line:
    `2 identical pairs (first at pairs.jsonl:4), 1 empty responses (first at pairs.jsonl:9)`.
    """

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def add(self, reason: str, where: str) -> None:
        """Count the row at `where`."""
        self.rows.append((reason, where))

    def extend(self, other: Tally) -> None:
        """Take over what another one has counted."""
        self.rows += other.rows

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self.rows)

    def __str__(self) -> str:
        counts: dict[str, int] = {}
        for reason, _ in self.rows:
            counts[reason] = counts.get(reason, 0) + 1
        firsts = dict(reversed(self.rows))
        ordered = sorted(counts, key=lambda reason: -counts[reason])
        told = [f"{counts[reason]:,} {reason}" + _at(firsts[reason]) for reason in ordered[:MOST_TOLD]]
        rest = sum(counts[reason] for reason in ordered[MOST_TOLD:])
        return ", ".join(told) + (f", {rest:,} of other kinds" if rest else "")

    def write(self, path: Path) -> None:
        """The whole list as JSONL, a row `{"where", "reason"}` each; no file where nothing was counted."""
        if not self.rows:
            path.unlink(missing_ok=True)
            return
        partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
        try:
            with partial.open("w", encoding="utf-8", newline="\n") as file:
                for reason, where in self.rows:
                    row = {"where": clean(where), "reason": clean(reason)}
                    file.write(json.dumps(row, ensure_ascii=False) + "\n")
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


def _at(where: str) -> str:
    return f" (first at {where})" if where else ""
