"""What a chart holds, before it is drawn: lines with intervals, limits, axes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from heed.report.read import number
from heed.report.thin import LONG, WINDOWS, moving_mean
from heed.report.words import nice_ticks, short

Scale = Literal["linear", "root", "log2"]
LINES = 8  # that colours and dashes can tell apart
ROOM = 0.06  # empty above and below the data, as a share of it
NEAR = 0.6  # a limit is drawn where it stretches the axis by no more than this share


@dataclass(frozen=True)
class Line:
    """Values over x. `low` and `high` are its interval; a value that is None is a gap.

    `faint` is the raw line behind a mean. `labels` stand beside the points. `joined` draws the line between them.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    joined: bool = True
    marked: bool = False
    faint: bool = False
    averaged: bool = False
    labels: Sequence[str] = ()
    colour: int | None = None  # of its own, where a thing has the same in several charts

    @property
    def known(self) -> list[tuple[float, float]]:
        """The points that have a value."""
        return [(x, y) for x, y in zip(self.x, self.y, strict=True) if y is not None]


def estimated(
    name: str,
    x: Sequence[float],
    figures: Sequence[Mapping[str, Any]],
    joined: bool = True,
    marked: bool = True,
    labels: Sequence[str] = (),
) -> Line:
    """A line through estimates with their intervals, as `report.json` holds them."""
    estimates, lows, highs = ([number(found.get(key)) for found in figures] for key in ("estimate", "low", "high"))
    return Line(name, x, estimates, lows, highs, joined, marked, labels=labels)


@dataclass(frozen=True)
class Limit:
    """A value that a metric should stay under (or over), with what is said beside its line."""

    value: float
    words: str
    side: Literal["over", "under", "none"] = "over"  # where it is bad


@dataclass(frozen=True)
class Chart:
    """One picture. `note` says what healthy looks like; `group` names charts that share their x axis and crosshair."""

    id: str
    title: str
    lines: Sequence[Line]
    x_name: str = "step"
    y_name: str = ""
    limits: Sequence[Limit] = ()
    note: str = ""
    scale: Scale = "linear"
    group: str = ""
    wide: bool = False

    @property
    def alternative(self) -> str:
        """What the chart shows, in a sentence a line, for those who do not see it."""
        return f"{self.title}. " + " ".join(_told(line, self.x_name) for line in self.lines if not line.averaged)


@dataclass(frozen=True)
class Axes:
    """The ranges of a chart, and how a value becomes a place from 0 to 1 on it."""

    left: float
    right: float
    bottom: float
    top: float
    scale: Scale

    def across(self, x: float) -> float:
        """Place of x from the left edge."""
        low, high, at = (transformed(value, self.scale) for value in (self.left, self.right, x))
        return (at - low) / (high - low) if high > low else 0.5

    def down(self, y: float) -> float:
        """Place of y from the top edge."""
        return (self.top - y) / (self.top - self.bottom) if self.top > self.bottom else 0.5


def transformed(x: float, scale: Scale) -> float:
    """x on its axis."""
    if scale == "root":
        return math.sqrt(max(x, 0.0))
    return math.log2(x) if scale == "log2" else x


def axes(chart: Chart) -> Axes:
    """Ranges that hold every point and interval, and the limits that are near them."""
    across = [x for line in chart.lines for x, _ in line.known]
    heights = [y for line in chart.lines for y in _heights(line)]
    low, high = min(heights), max(heights)
    reach = (high - low) or abs(high) or 1.0
    for limit in drawn_limits(chart):
        low, high = min(low, limit.value), max(high, limit.value)
    padding = ROOM * ((high - low) or reach)
    bottom = 0.0 if 0 <= low < padding else low - padding
    left, right = min(across), max(across)
    if left == right:
        left, right = left - 0.5, right + 0.5
    return Axes(0.0 if chart.scale == "root" else left, right, bottom, high + padding, chart.scale)


def drawn_limits(chart: Chart) -> list[Limit]:
    """The limits that lie near enough to the data to be drawn; the others would flatten it."""
    heights = [y for line in chart.lines for y in _heights(line)]
    if not heights:
        return []
    low, high = min(heights), max(heights)
    reach = NEAR * ((high - low) or abs(high) or 1.0)
    return [limit for limit in chart.limits if low - reach <= limit.value <= high + reach]


def x_ticks(chart: Chart, frame: Axes, most: int = 6) -> list[float]:
    """Round numbers along the x axis; on a root axis they are squares, on a log axis powers of two."""
    if chart.scale == "log2":
        first, last = math.ceil(math.log2(frame.left)), math.floor(math.log2(frame.right))
        every = max(1, math.ceil((last - first + 1) / most))
        return [2.0**power for power in range(first, last + 1, every)]
    if chart.scale == "root":
        roots = nice_ticks(0.0, math.sqrt(frame.right), most + 2)
        return [round(root**2, 12) for root in roots]
    ticks = nice_ticks(frame.left, frame.right, most)
    return [tick for tick in ticks if chart.x_name != "step" or tick == int(tick)]


def with_means(lines: Sequence[Line]) -> list[Line]:
    """Long lines turned faint, each with its moving mean over it."""
    found: list[Line] = []
    for line in lines:
        if len(line.x) < LONG or not line.joined or line.low or line.marked:
            found.append(line)
            continue
        window = max(3, len(line.x) // WINDOWS)
        means = moving_mean(line.y, window)
        found += [replace(line, faint=True), Line(f"mean of {window}", line.x, means, averaged=True)]
    return found


def colour_places(lines: Sequence[Line]) -> list[int]:
    """The number of each line's colour: its own, or the next; a mean has that of the line before it."""
    places: list[int] = []
    for line in lines:
        following = places[-1] if line.averaged else (places[-1] + 1 if places else 0)
        places.append(following if line.colour is None else line.colour)
    return [place % LINES for place in places]


def _heights(line: Line) -> Iterator[float]:
    for values in (line.y, line.low, line.high):
        yield from (value for value in values if value is not None)


def _told(line: Line, x_name: str) -> str:
    known = line.known
    if not known:
        return f"{line.name}: no values."
    if len(known) == 1:
        return f"{line.name}: {short(known[0][1])} at {x_name} {short(known[0][0])}."
    lowest, highest = min(y for _, y in known), max(y for _, y in known)
    return (
        f"{line.name}: {short(known[0][1])} at {x_name} {short(known[0][0])}, {short(known[-1][1])} at "
        f"{short(known[-1][0])}, between {short(lowest)} and {short(highest)}."
    )
