"""How long several stages in a row will still take, told from within the stage that runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import ClassVar, Self


class WholeRun:
    """Steps of a flow with what each costs beside the others, in any unit; a context manager around them.

    The pace is that of what this process has worked on: a step that was finished before, or that has no loop and so
    tells nothing, only counts while it lies ahead.
    """

    current: ClassVar[WholeRun | None] = None
    """The one that is going on."""

    def __init__(self, costs: Sequence[float], name: str = "whole run") -> None:
        self.name = name
        self._costs = list(costs)
        self._step, self._began = -1, time.monotonic()
        self._worked = self._seconds = 0.0  # of the steps before this one
        self._here = 0.0  # cost of what was worked on in this step

    def __enter__(self) -> Self:
        WholeRun.current = self
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        WholeRun.current = None

    def begin_step(self) -> None:
        """The next step begins."""
        now = time.monotonic()
        if self._here:
            self._worked, self._seconds = self._worked + self._here, self._seconds + now - self._began
        self._step, self._began, self._here = self._step + 1, now, 0.0

    def seconds_left(self, before: float, done: float) -> float | None:
        """Until the end of the last step. A share `done` of this step is done, `before` of it by an earlier process;
        None before anything was worked on."""
        cost = self._costs[self._step]
        self._here = cost * (done - before)
        worked = self._worked + self._here
        if not worked:
            return None
        pace = (self._seconds + time.monotonic() - self._began) / worked
        return pace * (cost * (1 - done) + sum(self._costs[self._step + 1 :]))
