"""What `heed doctor` says in the end: the outcome of each test, the findings, and on how much they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heed.doctor.audit import Results
from heed.doctor.chart import outcome
from heed.doctor.findings import TESTS, Finding


@dataclass(frozen=True)
class Verdict:
    """`title` says what was examined. `during` holds the outcomes that a finished run recorded itself, `figures` what
    the probes of the reward model gave, `skipped` why a test was not made.
    """

    title: str
    results: Results
    findings: list[Finding]
    responses: int
    tokens: int
    during: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)

    def outcome(self, test: str) -> str:
        """passed · failed · by construction · not tested: why."""
        return outcome(self.results.get(test), self.skipped.get(test, ""))

    @property
    def is_grave(self) -> bool:
        return any(found.severity == "error" for found in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "examined": self.title,
            "findings": [found.as_dict() for found in self.findings],
            "tests": {name: self.outcome(name) for name in TESTS},
            "during_the_run": dict(self.during),
            "reward_model": dict(self.figures),
            "responses": self.responses,
            "tokens": self.tokens,
        }

    def tests(self) -> list[dict[str, str]]:
        """Rows of the first table for people."""
        rows = []
        for name, text in TESTS.items():
            row = {"test": name, "what should hold": text, "outcome": self.outcome(name)}
            rows.append(row | ({"during the run": self.during.get(name, "not tested")} if self.during else {}))
        return rows

    def told(self) -> list[dict[str, str]]:
        """Rows of the second."""
        return [
            {"id": found.id, "severity": found.severity, "what is wrong": found.message, "what to do": found.hint}
            for found in self.findings
        ]
