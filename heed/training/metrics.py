"""What a person sees while a stage runs: a bar on a terminal, plain lines elsewhere, tables of completions."""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table
from rich.text import Text

from heed.training.whole import WholeRun

SECONDS_BETWEEN_LINES = 10.0
LINES_OF_A_RUN = 20
PLAIN_WIDTH = 120

log = logging.getLogger("heed")


class Progress:
    """Steps of a stage, as a context manager around its loop.

    On a terminal it is a bar with the time left and the last metrics. Elsewhere a bar would show nothing until the end,
    so it is a line every `every` steps (0 = about twenty in all), after ten silent seconds, and for the last step:
    `ppo 12/100  score 0.31  kl 1.2  eta 3:20`. `done` steps were done before this process began. In a `whole` run of
    several stages, what is left of all of them is said too: `eta 3:20, whole run 12:05`.
    """

    def __init__(self, label: str, total: int, every: int = 0, done: int = 0, whole: WholeRun | None = None) -> None:
        self._label = label
        self._total, self._done = total, done
        self._whole = whole
        self._every = every or max(1, math.ceil(total / LINES_OF_A_RUN))
        self._started = self._last_line = time.monotonic()
        self._bar: Panel | None = None

    def __enter__(self) -> Self:
        self._started = self._last_line = time.monotonic()
        if sys.stderr.isatty():
            self._bar = Panel.on_standard_error()
            self._task = self._bar.add_task(self._label, total=self._total, completed=self._done)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Say that `step` (the first is 1) is done, with the few metrics that are worth a line."""
        figures = [f"{name} {short(value)}" for name, value in metrics.items()]
        whole = self._of_all_stages(step)
        if self._bar:
            self._bar.shown = [*whole, *figures]
            self._bar.update(self._task, completed=step)
        elif self._is_due(step):
            self._last_line = time.monotonic()
            eta = ", ".join([f"eta {self._eta(step)}", *whole])
            log.info("%s %d/%d  %s  %s", self._label, step, self._total, "  ".join(figures), eta)

    def _of_all_stages(self, step: int) -> list[str]:
        """What is left of all stages in a row, where this is one of them and something can be told."""
        if self._whole is None:
            return []
        left = self._whole.seconds_left(self._done / self._total, step / self._total)
        return [] if left is None else [f"{self._whole.name} {clock(left)}"]

    def _is_due(self, step: int) -> bool:
        silent = time.monotonic() - self._last_line
        return step % self._every == 0 or step == self._total or silent >= SECONDS_BETWEEN_LINES

    def _eta(self, step: int) -> str:
        return clock((time.monotonic() - self._started) / max(1, step - self._done) * (self._total - step))


class Panel(Bar):
    """Stage, bar, step and time left on a line; the metrics on the next ones, none of them broken in two.

    On one line, 80 columns would show the metrics and nothing else.
    """

    shown: Sequence[str] = ()

    @classmethod
    def on_standard_error(cls) -> Panel:
        """A panel that leaves standard output to the results."""
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        return cls(*columns, console=Console(stderr=True))

    def get_renderables(self) -> Iterator[RenderableType]:
        yield from super().get_renderables()
        if self.shown:  # asked before there is a console, too
            yield Text(filled(self.shown, self.console.width), no_wrap=True, overflow="ellipsis")


def filled(figures: Sequence[str], width: int) -> str:
    """Figures side by side in as few lines of that width as hold them, each whole."""
    lines = [""]
    for figure in figures:
        longer = f"{lines[-1]}  {figure}" if lines[-1] else figure
        if lines[-1] and len(longer) > width:
            lines.append(figure)
        else:
            lines[-1] = longer
    return "\n".join(lines)


def clock(seconds: float) -> str:
    """`3:20`, `1:03:20`."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def short(value: float | None) -> str:
    """A metric in four digits; a dash where there is no number."""
    return "–" if value is None or not math.isfinite(value) else f"{value:.4g}"


def completions_table(rows: Sequence[Mapping[str, object]], title: str = "") -> Table:
    """Texts side by side: a column for each key of the rows, numbers in four digits.

    Texts are shown as they are: what a model wrote is neither markup nor control codes for the terminal.
    """
    names = list(dict.fromkeys(name for row in rows for name in row))
    table = Table(title=Text(title) if title else None, title_justify="left", show_lines=True)
    for name in names:
        table.add_column(Text(name), overflow="fold")
    for row in rows:
        table.add_row(*(Text(_cell(row.get(name, ""))) for name in names))
    return table


def print_completions(rows: Sequence[Mapping[str, object]], title: str = "") -> None:
    """Print `completions_table` on standard output, as wide as the terminal (120 columns elsewhere)."""
    console = Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
    console.print(completions_table(rows, title))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return short(value)
    return "".join(character if character.isprintable() or character == "\n" else "·" for character in str(value))
