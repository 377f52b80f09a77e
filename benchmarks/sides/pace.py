"""One side of a comparison: pieces of work, each done when it is asked for, so that two programs can take turns.

The other end of standard input writes `go` for each piece; what a piece took is one line of JSON on what was standard
output. Everything else that the libraries print goes to standard error. No package is needed here.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path


class Pace:
    """Waits to be asked, and says what a piece took. `every`: steps that make one piece."""

    def __init__(self, every: int = 1) -> None:
        self.every, self.steps, self.counts = every, 0, dict[str, float]()
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)
        self._began = 0.0

    def begin(self) -> None:
        """Wait until a piece is asked for; where none is asked for any more the program ends."""
        if self.steps == 0:
            print(json.dumps({"ready": True}), file=self._out)
            if sys.stdin.readline().strip() != "go":
                os._exit(0)  # in the middle of a library's training loop
            self._began, self.counts = time.perf_counter(), {}

    def count(self, rows: float, prompts: float, responses: float) -> None:
        """Part of the piece in hand: rows, and tokens in their prompts and responses."""
        for name, number in (("rows", rows), ("prompts", prompts), ("responses", responses)):
            self.counts[name] = self.counts.get(name, 0) + number

    def done(self, **measured: float) -> None:
        """A step is done."""
        self.counts |= measured
        self.steps += 1
        if self.steps == self.every:
            seconds, self.steps = time.perf_counter() - self._began, 0
            told = {"seconds": seconds, "memory": peak_memory(), **self.counts}
            print(json.dumps(told), file=self._out)


def peak_memory() -> int:
    """The most memory that this process has held, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024
