"""`--dry_run`: a few real steps of a stage, and from them what the whole run will need.

The steps run in a temporary directory, a state and what the stage saves for others with them, so that memory and disk
are measured and not modelled. Nothing is written where the run would write.
"""

from __future__ import annotations

import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch

from heed import disk

Batch = TypeVar("Batch")

STEPS = 3
"""The first of them is not timed: libraries prepare themselves in it, and its batch is the heaviest."""
ASIDE = ("evaluation", "save")
"""What is timed by itself and is no part of `time/step`."""


class Measured(Exception):
    """Leaves a stage when the steps of a dry run are made."""


@dataclass
class DryRun:
    """What the steps of a dry run took, in seconds and tokens; `afterwards` takes memory after the last step."""

    output: Path
    kept_states: int
    place: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="heed-dry-run-")))
    label: str = ""
    planned: int = 0
    seconds: list[float] = field(default_factory=list)
    aside: dict[str, float] = field(default_factory=dict)
    tokens: list[int] = field(default_factory=list)
    evaluations: int = 0
    afterwards: Callable[[], object] = bool

    @property
    def steps(self) -> int:
        """How many are made."""
        return min(STEPS, self.planned)

    def took(self, seconds: float, parts: dict[str, float], tokens: int) -> None:
        """A step, without what is timed aside."""
        self.seconds.append(seconds)
        self.tokens.append(tokens)
        self.aside |= {name: spent for name, spent in parts.items() if name in ASIDE}

    def estimate(self, description: dict[str, Any]) -> dict[str, Any]:
        """Parameters, bytes, tokens and seconds of the whole run."""
        timed, tokens = self.seconds[1:] or self.seconds, sum(self.tokens) / len(self.tokens)
        step, evaluation = sum(timed) / len(timed), self.aside.get("evaluation", 0.0)
        state = _size(self.place / "state")
        left = _size(self.place) - state + 4 * description.get("trained_parameters", 0)
        return {
            "parameters": description.get("parameters", 0),
            "trained_parameters": description.get("trained_parameters", 0),
            "memory": peak_memory(),
            "accelerator_memory": accelerator_memory(),
            "disk_while_training": left + (self.kept_states + 1) * state,
            "disk": left,
            "tokens": round(tokens * self.planned),
            "steps": self.planned,
            "step_seconds": step,
            "evaluations": self.evaluations,
            "evaluation_seconds": evaluation,
            "seconds": step * self.planned + evaluation * self.evaluations,
        }

    def lines(self, description: dict[str, Any]) -> list[str]:
        """The estimate for people."""
        found = self.estimate(description)
        trained, free = found["trained_parameters"], disk.free(self.output)
        memory = f"{found['memory'] / 1e6:,.0f} MB of this process at most"
        if found["accelerator_memory"]:
            memory += f", {found['accelerator_memory'] / 1e6:,.0f} MB of the accelerator"
        steps = f"{found['steps']:,} steps of {found['step_seconds']:.3g} s"
        if found["evaluations"]:
            steps += f", {found['evaluations']} evaluations of {found['evaluation_seconds']:.3g} s"
        return [
            f"dry run of {self.label}: {len(self.seconds)} steps were made, nothing was written to {self.output}",
            f"parameters  {found['parameters']:,}, of which {trained:,} are trained",
            f"memory      {memory}",
            f"disk        {found['disk_while_training'] / 1e6:,.1f} MB while it trains, {found['disk'] / 1e6:,.1f} MB "
            f"after it ({free / 1e6:,.0f} MB are free)",
            f"tokens      {found['tokens']:,}",
            f"time        {duration(found['seconds'])}: {steps}",
        ]

    def remove(self) -> None:
        """Nothing of it stays."""
        shutil.rmtree(self.place, ignore_errors=True)


def heaviest_first(batches: Sequence[Batch], lengths: Callable[[Batch], Sequence[int]]) -> list[Batch]:
    """The batch with the longest row first, of which memory is a question, and the others as they stood: the first step
    is not timed."""
    heaviest = max(range(len(batches)), key=lambda i: (max(lengths(batches[i])), sum(lengths(batches[i]))))
    return [batches[heaviest], *batches[:heaviest], *batches[heaviest + 1 :]]


def peak_memory() -> int:
    """The most bytes that this process has held in memory since it began."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def accelerator_memory() -> int:
    """The most bytes that tensors have held on the accelerator; 0 where there is none, or where it does not say."""
    return int(torch.cuda.max_memory_reserved()) if torch.cuda.is_available() else 0


def duration(seconds: float) -> str:
    """`2 h 5 min`, `3 min 20 s`, `12 s`."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
