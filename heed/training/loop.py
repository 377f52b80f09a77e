"""The steps of a stage: counted, timed, written down, and saved so that a stopped run can go on.

    with Loop(run_dir, "sft", steps, parts) as loop:
        for step in loop:                              # begins after the last saved state
            ...
            if loop.is_due(evaluations):
                with loop.clock("evaluation"):
                    ...
            loop.record(metrics, SHOWN, tokens)

It never calls stage code: a stage reads from top to bottom as the paper does.
"""

from __future__ import annotations

import logging
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, ClassVar, Self, final

from torch.profiler import record_function

from heed.errors import RunError
from heed.training.dry_run import ASIDE, Measured
from heed.training.metrics import Progress
from heed.training.run_dir import RunDir
from heed.training.state import Part
from heed.training.whole import WholeRun

SAVE_SECONDS = 600.0
"""Between saved states where `save_every` is 0."""
STOPS = (signal.SIGINT, signal.SIGTERM)

log = logging.getLogger("heed")


@final
class Loop:
    """Steps 1 to `steps`, as a context manager and an iterator.

    `parts` are the named parts of the stage's state (weights, optimisers, generators, running figures …). They get
    their saved states when the loop is entered, and are saved every `save_every` steps (0: about every ten minutes),
    after the last one, when SIGINT or SIGTERM asks the run to stop, which it does after the step in hand, and before a
    RunError leaves. A second signal stops at once.
    """

    watcher: ClassVar[Callable[[int], None] | None] = None
    """Told of every step that is done, of whatever run: for `heed profile`, which ends one by what it raises."""

    def __init__(self, run_dir: RunDir, label: str, steps: int, parts: Mapping[str, Part], save_every: int = 0) -> None:
        self.run_dir, self.label, self.steps, self.parts = run_dir, label, steps, dict(parts)
        self.step = run_dir.saved.step if run_dir.saved else 0
        self._save_every, self._last_save = save_every, time.monotonic()
        self._is_last, self._is_inside, self._saves = False, False, False
        self._rows_before: dict[str, int] = {}  # how long the files of rows were when the step began
        self._rows: Callable[[], Iterable[Mapping[str, Any]]] = list
        self._signal: int | None = None
        self._handlers: dict[int, Any] = {}
        self._seconds: dict[str, float] = {}
        self._shown: dict[str, float | None] = {}
        self._tokens = 0
        self._progress = Progress(label, steps, done=self.step, whole=WholeRun.current)

    def __enter__(self) -> Self:
        if self.run_dir.saved:
            self.run_dir.saved.load(self.parts)
            self._is_last = bool(self.run_dir.saved.about.get("ended"))
        if threading.current_thread() is threading.main_thread():
            self._handlers = {number: signal.signal(number, self._ask_to_stop) for number in STOPS}
        self._progress.__enter__()
        self._last_save = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.__exit__(kind, error, trace)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if isinstance(error, RunError) and self._is_inside:
            self._write_rows(error)
            if self._parts_are_finite():
                self._save_within()

    def __iter__(self) -> Iterator[int]:
        """Step numbers. The body of a step calls `record` once."""
        dry = self.run_dir.dry
        if dry is not None:
            dry.label, dry.planned = self.label, self.steps
        while self.step < self.steps and not self._is_last:
            self._begin()
            yield self.step
            self._end()
            if Loop.watcher is not None:
                Loop.watcher(self.step)
            if dry is not None and self.step >= dry.steps:
                dry.afterwards()
                raise Measured

    def record(
        self, metrics: Mapping[str, float | None], shown: Sequence[str] = (), tokens: int = 0, **seconds: float
    ) -> None:
        """Write the row of this step. `shown` of its metrics are for the progress line; `tokens` were computed."""
        with self.clock("io"):
            self.run_dir.record(self.step, metrics)
        self._shown, self._tokens = {name: metrics[name] for name in shown if name in metrics}, tokens

    def reads(self, rows: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        """This step is computed from these rows, which are asked for, and written, only where it must stop."""
        self._rows = rows

    def is_due(self, times: int) -> bool:
        """Whether this is one of `times` steps at even distances, the last step among them."""
        if self.run_dir.dry is not None:
            self.run_dir.dry.evaluations = min(times, self.steps)
            return self.step == self.run_dir.dry.steps
        return self.step in evenly_spaced(times, self.steps)

    def end(self) -> None:
        """This step is the last, however many were planned."""
        self._is_last = True

    @contextmanager
    def clock(self, name: str) -> Iterator[None]:
        """Time a part of the step as `time/NAME`."""
        started = time.perf_counter()
        try:
            with record_function(f"time/{name}"):
                yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.perf_counter() - started

    @property
    def saves(self) -> bool:
        """Whether a state is saved after this step: then the stage may save what others can open, too."""
        self._saves = self._saves or self._is_time_to_save()
        return self._saves

    def _write_rows(self, error: RunError) -> None:
        """What the step was computed from, for the person who looks for the reason."""
        if rows := [dict(row) for row in self._rows()]:
            path = self.run_dir.write_rows(f"step-{self.step}-rows.jsonl", rows)
            error.hint += f"; the rows of this step are in {path}"

    def _save_within(self) -> None:
        """Save what there is in the middle of a step: it is begun again, with weights that may have moved already. A
        state of its beginning is left alone."""
        if not self.run_dir.has_state(self.step - 1):
            self.run_dir.save_state(self.step - 1, self.parts, self._rows_before, within_step=self.step)

    def _begin(self) -> None:
        self.step += 1
        self._rows_before = self.run_dir.row_lengths()
        self._seconds, self._saves, self._is_inside, self._rows = {}, False, True, list
        self._began = time.perf_counter()

    def _end(self) -> None:
        self._is_inside = False
        whole = time.perf_counter() - self._began
        seconds = whole - sum(self._seconds.get(name, 0.0) for name in ASIDE)
        timings = {"time/step": seconds} | {f"time/{name}": spent for name, spent in self._seconds.items()}
        if self._tokens:
            timings["perf/tokens_per_second"] = self._tokens / seconds
        self.run_dir.time(self.step, timings)
        if self.run_dir.dry is not None:
            self.run_dir.dry.took(seconds, self._seconds, self._tokens)
        self._progress.update(self.step, self._shown | self._pace(timings))
        is_end = self._is_last or self.step == self.steps  # what comes after it may take long, and fail
        if self.saves or is_end or self._signal is not None:
            self.run_dir.save_state(self.step, self.parts, ended=self._is_last)
            self._last_save = time.monotonic()
        if self._signal is not None:
            self._leave()

    def _pace(self, timings: Mapping[str, float]) -> dict[str, float | None]:
        """How fast it goes, and how much the doctor has found, if it looks."""
        found = self.run_dir.path / "findings.jsonl"
        rate = {"tokens/s": timings["perf/tokens_per_second"]} if self._tokens else {}
        return {**rate, **({"findings": found.read_bytes().count(b"\n")} if found.exists() else {})}

    def _is_time_to_save(self) -> bool:
        if self.run_dir.dry is not None:
            return self.step == self.run_dir.dry.steps
        if self._save_every:
            return self.step % self._save_every == 0
        return time.monotonic() - self._last_save >= SAVE_SECONDS

    def _ask_to_stop(self, number: int, frame: FrameType | None) -> None:
        if self._signal is not None or not self._is_inside:
            self._signal = number
            self._leave()
        self._signal = number
        log.warning("stopping after step %d; once more to stop at once", self.step)

    def _leave(self) -> None:
        if self._signal == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(128 + (self._signal or 0))

    def _parts_are_finite(self) -> bool:
        return all(_is_finite(part.state_dict()) for part in self.parts.values())


def evenly_spaced(times: int, steps: int) -> set[int]:
    """`times` steps (fewer if there are fewer) at even distances, the last step among them."""
    return {math.ceil(i * steps / times) for i in range(1, times + 1)}


def _is_finite(value: Any) -> bool:
    """Whether no number in a state is NaN or infinite."""
    if isinstance(value, Mapping):
        return all(_is_finite(item) for item in value.values())
    if isinstance(value, list | tuple):
        return all(_is_finite(item) for item in value)
    if hasattr(value, "isfinite"):
        return bool(value.isfinite().all())
    return not isinstance(value, float) or math.isfinite(value)
