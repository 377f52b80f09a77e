"""What the tests of a run say: the outcome of each, and the findings, since when and how often."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.disk import append_whole
from heed.doctor.causes import settle
from heed.doctor.findings import TESTS, Finding, by_severity

log = logging.getLogger("heed")

CONSTRUCTED = "by construction"
"""Outcome of a test that cannot fail, because what it compares is one thing."""


def outcome(findings: Sequence[Finding] | None, skipped: str = "") -> str:
    """passed · failed · by construction · not tested: why. `skipped` is one of the last two, for what was not made."""
    if findings is None:
        return skipped or "not tested"
    if any(finding.severity != "info" for finding in findings):
        return "failed"
    return skipped or "passed"


class Chart:
    """Keeps what the tests of a run say. With a `file` each finding is printed once (again only if it is graver) and
    written down every time; without one neither happens.

    The file of an older run goes at the first step, unless the run is continued (`load_state_dict`).
    """

    def __init__(self, file: Path | None) -> None:
        self.file = file
        self.results: dict[str, list[Finding]] = {}
        self.skipped: dict[str, str] = {}
        self.findings: dict[str, Finding] = {}
        self.counts: dict[str, int] = {}
        self.steps: dict[str, int] = {}
        self.lines: int | None = None

    def take(
        self, step: int, results: Mapping[str, list[Finding]], skipped: Mapping[str, str] | None = None
    ) -> list[Finding]:
        """Add the results of tests by name (a band of health counts as one), and why others were not made; returns one
        finding a cause."""
        self.skipped |= skipped or {}
        for test, findings in results.items():  # the gravest is enough for an outcome
            self.results[test] = by_severity([*self.results.get(test, []), *findings])[:1]
        settled = settle([finding for some in results.values() for finding in some])
        for finding in settled:
            if self._is_news(finding):
                self.findings[finding.id] = finding
                if self.file is not None:
                    log.warning("%s %s: %s\nhint: %s", finding.severity, finding.id, finding.message, finding.hint)
            self.steps.setdefault(finding.id, step)
            self.counts[finding.id] = self.counts.get(finding.id, 0) + 1
        self._write(step, settled)
        return settled

    def _is_news(self, finding: Finding) -> bool:
        known = self.findings.get(finding.id)
        return known is None or by_severity([known, finding])[0] is not known

    def _write(self, step: int, findings: Sequence[Finding]) -> None:
        if self.file is None:
            return
        if self.lines is None:
            self.file.unlink(missing_ok=True)
            self.lines = 0
        if findings:
            lines = "".join(json.dumps({"step": step, **finding.as_dict()}) + "\n" for finding in findings)
            with self.file.open("ab", buffering=0) as file:
                append_whole(file, lines.encode())
            self.lines += len(findings)

    def outcomes(self) -> dict[str, str]:
        """The outcome of every test."""
        return {name: outcome(self.results.get(name), self.skipped.get(name, "")) for name in TESTS}

    def summary(self) -> dict[str, Any]:
        """For report.json: the outcome of every test, and how often and since when each finding was made."""
        return {
            "tests": self.outcomes(),
            "findings": {
                name: {"severity": finding.severity, "count": self.counts[name], "first_step": self.steps[name]}
                for name, finding in self.findings.items()
            },
        }

    def state_dict(self) -> dict[str, Any]:
        """Everything that `take` has learned, in values of JSON."""
        results = {test: [finding.as_dict() for finding in findings] for test, findings in self.results.items()}
        findings = [finding.as_dict() for finding in self.findings.values()]
        return {"results": results, "skipped": dict(self.skipped), "findings": findings, "counts": dict(self.counts),
                "steps": dict(self.steps), "lines": self.lines}  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a run stopped: lines that it wrote after this state are cut off its file."""
        self.results = {test: [Finding(**row) for row in rows] for test, rows in state["results"].items()}
        self.findings = {row["id"]: Finding(**row) for row in state["findings"]}
        self.skipped, self.counts, self.steps = (dict(state[name]) for name in ("skipped", "counts", "steps"))
        self.lines = state["lines"]
        if self.file is not None and self.lines is not None and self.file.is_file():
            kept = self.file.read_text(encoding="utf-8").splitlines(keepends=True)[: self.lines]
            partial = self.file.with_name(f".{self.file.name}.partial")
            partial.write_text("".join(kept), encoding="utf-8")
            os.replace(partial, self.file)
