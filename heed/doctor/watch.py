"""The alarm policy: which sums over rollouts are too far from what the policy says to be chance.

About eight tests a rollout over 500 rollouts are looked at, so the limits are wide: |z| > 4 once is a warning, |z| > 6,
or more than 4 twice in a row, is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from heed.doctor.causes import name_cause
from heed.doctor.checks import symptom
from heed.doctor.findings import Finding, Severity
from heed.doctor.statistics import WARN, Sum, load_sum
from heed.doctor.suspects import Explanation

STOP = 6.0


class Watch:
    """Two sums of each test. `recent` is judged and begun anew as soon as it holds enough; a smaller one waits for the
    next rollout's. `total` runs on and is judged after 2, 4, 8, … rollouts: few looks at what is small but persistent.
    """

    def __init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Forget everything: after weights have jumped, as when a checkpoint was loaded."""
        self.recent: dict[str, Sum] = {}
        self.total: dict[str, Sum] = {}
        self.suspicious: set[str] = set()
        self.rollouts = 0
        self.z: dict[str, float | None] = {}

    def __call__(self, sums: Mapping[str, Sum]) -> list[Finding]:
        """Add one rollout; returns the tests that fail, by T number."""
        self.rollouts += 1
        doubled = self.rollouts > 1 and self.rollouts & (self.rollouts - 1) == 0
        found = []
        for name, one in sums.items():
            recent = self.recent[name] = self.recent[name] + one if name in self.recent else one
            total = self.total[name] = self.total[name] + one if name in self.total else one
            self.z[name] = recent.z
            judged = total if doubled and abs(recent.z or 0) <= WARN else recent
            if abs(judged.z or 0) > WARN:
                found.append(symptom(name, judged, self._severity(name, judged.z or 0)))
                self.suspicious.add(name)
                del self.recent[name], self.total[name]
            elif recent.is_whole:
                self.suspicious.discard(name)
                del self.recent[name]
        return found

    def state_dict(self) -> dict[str, Any]:
        """Everything that a later rollout is judged with, in values of JSON and tensors."""
        sums = {"recent": self.recent, "total": self.total}
        saved = {kind: {name: one.state_dict() for name, one in some.items()} for kind, some in sums.items()}
        return {**saved, "suspicious": sorted(self.suspicious), "rollouts": self.rollouts}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a run stopped."""
        self.recent, self.total = (
            {name: load_sum(one) for name, one in state[kind].items()} for kind in ("recent", "total")
        )
        self.suspicious, self.rollouts = set(state["suspicious"]), state["rollouts"]

    def _severity(self, name: str, z: float) -> Severity:
        return "error" if abs(z) > STOP or name in self.suspicious else "warning"


def examine(watch: Watch, sums: Mapping[str, Sum], suspect: Callable[[], Explanation | None]) -> list[Finding]:
    """Judge one rollout; where a test fails, ask `suspect` which other sampler explains it, and name the cause."""
    symptoms = watch(sums)
    return name_cause(symptoms, suspect()) if symptoms else []
