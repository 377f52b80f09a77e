"""A chart → SVG that stretches with the page while its text does not, so that it is sharp on a phone and on paper.

Lines are in a picture of their own that is stretched to the space there is, with strokes that are not. Texts are placed
by percentages in pictures that are not stretched. No style attributes: the page's content security policy forbids them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from markupsafe import Markup

from heed.report.chart import Axes, Chart, Line, axes, colour_places, drawn_limits, x_ticks
from heed.report.place import Label, placed
from heed.report.thin import thin
from heed.report.words import nice_ticks, short, visible

UNITS = 10_000  # of the stretched picture, both ways: hover reads values back from it to four digits
Y_TICKS, X_TICKS = 5, 6


def draw(chart: Chart) -> Markup:
    """The frame of a chart: axis texts, grid, limits, intervals, lines, labels."""
    frame = axes(chart)
    across, up = x_ticks(chart, frame, X_TICKS), nice_ticks(frame.bottom, frame.top, Y_TICKS)
    lines = list(zip(chart.lines, colour_places(chart.lines), strict=True))
    pieces = [*_grid(frame, across, up), *_limits(chart, frame)]
    pieces += [piece for line, colour in lines for piece in _interval(line, frame, colour)]
    pieces += [piece for line, colour in lines for piece in _line(line, frame, colour, chart.scale)]
    labels = placed([*_limit_labels(chart, frame), *_point_labels(chart, frame)])
    return _frame(chart, frame, pieces, labels, across, up)


def swatch(line: Line, colour: int) -> Markup:
    """A line as the legend shows it: the same colour, dash and mark."""
    kind = f"c{colour}{' faint' if line.faint else ''}{' averaged' if line.averaged else ''}"
    drawn = Markup('<path class="line {}" d="M0 5H26"/>').format(kind) if line.joined else Markup()
    drawn += Markup('<path class="mark {}" d="M13 5h0"/>').format(kind) if line.marked else Markup()
    return Markup('<svg class="swatch" width="26" height="10" aria-hidden="true">{}</svg>').format(drawn)


def _frame(
    chart: Chart, frame: Axes, pieces: Sequence[Markup], labels: Sequence[Label], across: Sequence[float],
    up: Sequence[float],
) -> Markup:  # fmt: skip
    y_texts = Markup().join(
        Markup('<text x="100%" y="{}%" class="up">{}</text>').format(_percent(frame.down(y)), short(y)) for y in up
    )
    x_texts = Markup().join(
        Markup('<text x="{}%" y="14">{}</text>').format(_percent(frame.across(x)), short(x)) for x in across
    )
    return Markup(
        '<div class="frame"><svg class="y-axis" aria-hidden="true">{y}</svg>'
        '<svg class="plot" viewBox="0 0 {units} {units}" preserveAspectRatio="none" role="img" aria-label="{told}" '
        'data-left="{left}" data-right="{right}" data-bottom="{bottom}" data-top="{top}" data-scale="{scale}" '
        'data-x="{x_name}">{drawn}</svg><svg class="over" aria-hidden="true">{labels}</svg>'
        '<svg class="x-axis" aria-hidden="true">{x}</svg></div>'
    ).format(
        y=y_texts, x=x_texts, units=UNITS, told=visible(chart.alternative), left=repr(frame.left),
        right=repr(frame.right), bottom=repr(frame.bottom), top=repr(frame.top),
        scale=frame.scale, x_name=visible(chart.x_name),
        drawn=Markup().join(pieces), labels=Markup().join(_text(label) for label in labels),
    )  # fmt: skip


def _grid(frame: Axes, across: Sequence[float], up: Sequence[float]) -> Iterator[Markup]:
    horizontal = "".join(f"M0 {_y(frame, y)}H{UNITS}" for y in up)
    vertical = "".join(f"M{_x(frame, x)} 0V{UNITS}" for x in across)
    yield Markup('<path class="grid" d="{}"/>').format(horizontal + vertical)
    if frame.bottom < 0 < frame.top:
        yield Markup('<path class="zero" d="M0 {}H{}"/>').format(_y(frame, 0.0), UNITS)


def _limits(chart: Chart, frame: Axes) -> Iterator[Markup]:
    for limit in drawn_limits(chart):
        at = _y(frame, limit.value)
        if limit.side != "none":
            top, height = (0, at) if limit.side == "over" else (at, UNITS - at)
            area = Markup('<rect class="warned" x="0" y="{}" width="{}" height="{}"/>')
            yield area.format(top, UNITS, height)
        yield Markup('<path class="limit" d="M0 {}H{}"/>').format(at, UNITS)


def _interval(line: Line, frame: Axes, colour: int) -> Iterator[Markup]:
    """A band behind a joined line, a whisker through each of separate points."""
    known = [
        (_x(frame, x), _y(frame, low), _y(frame, high))
        for x, low, high in zip(line.x, line.low, line.high, strict=True)
        if low is not None and high is not None
    ] if line.low else []  # fmt: skip
    if line.joined and len(known) > 1:
        kept = [known[i] for i in thin([low for _, low, _ in known])]
        there, back = [f"{x} {high}" for x, _, high in kept], [f"{x} {low}" for x, low, _ in reversed(kept)]
        yield Markup('<path class="band c{}" d="M{}Z"/>').format(colour, "L".join(there + back))
    else:
        whiskers = "".join(f"M{x} {low}V{high}" for x, low, high in known)
        yield Markup('<path class="whisker c{}" d="{}"/>').format(colour, whiskers) if whiskers else Markup()


def _line(line: Line, frame: Axes, colour: int, scale: str) -> Iterator[Markup]:
    points = [_point(line, i, frame, scale) for i in thin(line.y)]
    kind = f"c{colour}{' faint' if line.faint else ''}{' averaged' if line.averaged else ''}"
    if line.joined:
        yield Markup('<path class="line {}" data-name="{}" d="{}"/>').format(kind, visible(line.name), _path(points))
    if line.marked or len([point for point in points if point]) == 1:
        marks = "".join(f"M{point}h0" for point in points if point)
        hover = Markup() if line.joined else Markup(' data-name="{}"').format(visible(line.name))
        yield Markup('<path class="mark {}"{} d="{}"/>').format(kind, hover, marks)


def _point(line: Line, i: int, frame: Axes, scale: str) -> str | None:
    x, y = line.x[i], line.y[i]
    return None if y is None or (scale == "log2" and x <= 0) else f"{_x(frame, x)} {_y(frame, y)}"


def _path(points: Sequence[str | None]) -> str:
    """Lines through the points, broken at every gap."""
    drawn, gap = [], True
    for point in points:
        if point is not None:
            drawn.append(f"{'M' if gap else 'L'}{point}")
        gap = point is None
    return "".join(drawn)


def _limit_labels(chart: Chart, frame: Axes) -> Iterator[Label]:
    for limit in drawn_limits(chart):
        yield Label(limit.words, 1.0, frame.down(limit.value), "limit", fixed=True)


def _point_labels(chart: Chart, frame: Axes) -> Iterator[Label]:
    for line, colour in zip(chart.lines, colour_places(chart.lines), strict=True):
        for words, x, y in zip(line.labels, line.x, line.y, strict=bool(line.labels)):
            if words and y is not None:
                yield Label(words, frame.across(x), frame.down(y), f"c{colour}", above=line.joined)


def _text(label: Label) -> Markup:
    return Markup('<text x="{}%" y="{}%" dx="{}" dy="{}" class="{} {}">{}</text>').format(
        _percent(label.across), _percent(label.down), label.dx, label.dy, label.anchor, label.kind, visible(label.words)
    )


def _x(frame: Axes, x: float) -> int:
    return round(UNITS * frame.across(x))


def _y(frame: Axes, y: float) -> int:
    return round(UNITS * frame.down(y))


def _percent(place: float) -> str:
    return f"{100 * place:.4g}"
