"""What `heed doctor` says in the end: the outcome of each test, the findings, and on how much they stand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from heed.doctor.audit import Results
from heed.doctor.chart import outcome
from heed.doctor.findings import TESTS, Finding

HEALTHY, FINDINGS, NOT_JUDGED = 0, 3, 4
"""Exit codes: nothing grave was found; something was; there was too little to say either."""

AFTER_A_RUN = {"T5": "only a run's first rollout can tell", "T11": "an update is needed"}


def not_made(unfinished: str = "") -> dict[str, str]:
    """Why tests cannot be made after a run; `unfinished`: none can, and why."""
    reasons = dict.fromkeys(TESTS, unfinished) if unfinished else AFTER_A_RUN
    return {test: f"not tested: {why}" for test, why in reasons.items()}


@dataclass(frozen=True)
class Verdict:
    """`title` says what was examined. `during` holds the outcomes that a finished run recorded itself, `figures` what
    the probes of the reward model gave, `skipped` why a test was not made, `unjudged` why there is no verdict at all.
    """

    title: str
    results: Results
    findings: list[Finding]
    responses: int
    tokens: int
    during: Mapping[str, str] = field(default_factory=dict)
    figures: Mapping[str, Any] = field(default_factory=dict)
    skipped: Mapping[str, str] = field(default_factory=dict)
    unjudged: str = ""

    @property
    def is_grave(self) -> bool:
        return any(finding.severity == "error" for finding in self.findings)

    @property
    def code(self) -> int:
        """0 healthy, 3 findings, 4 not judged."""
        return FINDINGS if self.is_grave else NOT_JUDGED if self.unjudged else HEALTHY

    @property
    def conclusion(self) -> str:
        """One line for people."""
        if self.is_grave:
            return "mend this and run again: what a fault hides is found after it"
        if self.unjudged:
            return f"not judged: {self.unjudged}"
        few = next((why for why in self.skipped.values() if "too few" in why), "")
        told = "nothing is wrong with what could be tested" if not self.findings else "nothing grave was found"
        return f"{told}; not judged: {few.removeprefix('not tested: ')}" if few else told

    def outcome(self, test: str) -> str:
        """passed · failed · by construction · not tested: why."""
        return outcome(self.results.get(test), self.skipped.get(test, ""))

    def as_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "examined": self.title,
            "verdict": {HEALTHY: "healthy", FINDINGS: "findings", NOT_JUDGED: "not judged"}[self.code],
            "conclusion": self.conclusion,
            "findings": [finding.as_dict() for finding in self.findings],
            "tests": {name: self.outcome(name) for name in TESTS},
            "during_the_run": dict(self.during),
            "reward_model": dict(self.figures),
            "responses": self.responses,
            "tokens": self.tokens,
        }

    def test_rows(self) -> list[dict[str, str]]:
        """Rows of the first table for people."""
        rows = []
        for name, text in TESTS.items():
            row = {"test": name, "what should hold": text, "outcome": self.outcome(name)}
            rows.append(row | ({"during the run": self.during.get(name, "not tested")} if self.during else {}))
        return rows

    def finding_rows(self) -> list[dict[str, str]]:
        """Rows of the second."""
        return [
            {
                "id": finding.id,
                "severity": finding.severity,
                "what is wrong": finding.message,
                "what to do": finding.hint,
            }
            for finding in self.findings
        ]
