"""The chart of a run: which tests were made, and what was found, since when and how often."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.doctor.causes import settle
from heed.doctor.findings import TESTS, Finding, by_severity

log = logging.getLogger("heed")


def outcome(found: Sequence[Finding] | None) -> str:
    """passed, failed, or not tested."""
    if found is None:
        return "not tested"
    return "failed" if any(one.severity != "info" for one in found) else "passed"


class Chart:
    """Keeps what the tests of a run say. With a `file` each finding is printed once (again only if it is graver) and
    written down every time; without one neither happens.
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.results: dict[str, list[Finding]] = {}
        self.told: dict[str, Finding] = {}
        self.counts: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        if file is not None:
            file.unlink(missing_ok=True)

    def take(self, step: int, results: Mapping[str, list[Finding]]) -> list[Finding]:
        """Add the results of tests by name (a band of health counts as one); returns one finding a cause."""
        for test, found in results.items():
            self.results[test] = self.results.get(test, []) + found
        findings = settle([found for some in results.values() for found in some])
        for found in findings:
            if self._is_news(found):
                self.told[found.id] = found
                if self.file is not None:
                    log.warning("%s %s: %s\nhint: %s", found.severity, found.id, found.message, found.hint)
            self.steps.setdefault(found.id, step)
            self.counts[found.id] = self.counts.get(found.id, 0) + 1
        if findings and self.file is not None:
            with self.file.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"step": step, **found.as_dict()}) + "\n" for found in findings)
        return findings

    def _is_news(self, found: Finding) -> bool:
        told = self.told.get(found.id)
        return told is None or by_severity([told, found])[0] is not told

    def summary(self) -> dict[str, Any]:
        """For report.json: the outcome of every test, and how often and since when each finding was made."""
        return {
            "tests": {name: outcome(self.results.get(name)) for name in TESTS},
            "findings": {
                name: {"severity": found.severity, "count": self.counts[name], "first_step": self.steps[name]}
                for name, found in self.told.items()
            },
        }
