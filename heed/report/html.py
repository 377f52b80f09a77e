"""A page → one HTML file: our own style and script inside, nothing fetched, every text escaped.

The content security policy names the two by their hashes, so that nothing else in the file can run, whatever a model
wrote into it.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from heed.report.blocks import Block, Figure, FigureTable, Page, Section
from heed.report.chart import Chart, Line, colour_places
from heed.report.draw import UNITS, draw, swatch
from heed.report.thin import listed
from heed.report.words import interval, rounded, short, visible

LONG_WORD = 24  # letters
HERE = Path(__file__).parent / "templates"
SIGNS = {"grave": "✕", "warning": "▲", "good": "✓", "told": "i"}
NAMES = {"grave": "Grave", "warning": "Warning", "good": "Good", "told": "Note"}
VERDICTS = {
    "grave": "Something is wrong",
    "warning": "Needs a look",
    "good": "Nothing wrong was found",
    "told": "Nothing wrong was found",
}


def html(page: Page, every: float = 0.0) -> str:
    """The file's text. With `every` it is the live page, which asks the server that it came from again and again."""
    style, script = (static(name) for name in ("style.css", "page.js"))
    policy = content_policy(style, script, live=every > 0)
    template = environment().get_template("page.html")
    return template.render(
        page=page, policy=policy, style=Markup(style), script=Markup(script), signs=SIGNS, names=NAMES,
        verdicts=VERDICTS, every=every,
    )  # fmt: skip


def content_policy(style: str, script: str, live: bool) -> str:
    """Nothing may be loaded and nothing may run but our own style and script; the live page may ask its own server."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    asks = "'self'" if live else "'none'"
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        f"connect-src {asks}; base-uri 'none'; form-action 'none'"
    )


@dataclass(frozen=True)
class Listing:
    """The table beneath a chart."""

    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    count: int

    @property
    def left_out(self) -> int:
        """Rows that are in the file but not here."""
        return self.count - len(self.rows)


def listing(chart: Chart) -> Listing:
    """A chart's numbers, as exact as the file has them to four digits: a row an x, a column a line."""
    lines = [line for line in chart.lines if not line.averaged]
    across = sorted({x for line in lines for x in line.x})
    if any(len(set(line.x)) < len(line.x) for line in lines) or all(not line.joined for line in lines):
        return _points(chart, lines)
    columns = [_column(line, across) for line in lines]
    kept = listed([values for values, _ in columns])
    rows = [(short(across[i]), *(texts[i] for _, texts in columns)) for i in kept]
    return Listing((chart.x_name, *(line.name for line in lines)), rows, len(across))


def span(table: FigureTable) -> tuple[float, float] | None:
    """The lowest and the highest that a table's figures may be; None where no figure has an interval to be drawn."""
    told = [value for one in table.figures for value in (one.estimate, one.low, one.high) if value is not None]
    told += [] if table.reference is None else [table.reference]
    drawn = any(one.low is not None and one.high is not None for one in table.figures)
    return (min(told), max(told)) if drawn and min(told) < max(told) else None


def bar(row: Figure, table: FigureTable) -> Markup:
    """A figure on the scale of its table: its interval, the estimate, and what it is compared with."""
    ends = span(table)
    if row.estimate is None or ends is None:
        return Markup()
    low, high = ends

    def place(value: float) -> int:
        return round(UNITS * (0.03 + 0.94 * (value - low) / (high - low)))

    middle = f"M{place(table.reference)} 5V9995" if table.reference is not None else ""
    spread = f"M{place(row.low)} 5000H{place(row.high)}" if row.low is not None and row.high is not None else ""
    return Markup(
        '<svg viewBox="0 0 {units} {units}" preserveAspectRatio="none" aria-hidden="true">'
        '<path class="limit" d="{middle}"/>'
        '<path class="spread" d="{spread}"/><path class="dot" d="M{at} 5000h0"/></svg>'
    ).format(units=UNITS, middle=middle, spread=spread, at=place(row.estimate))


@cache
def environment() -> Environment:
    """Templates with escaping on, and a name that is not there an error."""
    found = Environment(
        loader=FileSystemLoader(HERE), autoescape=True, undefined=StrictUndefined, finalize=_shown, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    found.filters |= {
        "draw": draw,
        "swatch": swatch,
        "legend": _legend,
        "listed": listing,
        "short": short,
        "signed": _signed,
        "bar": bar,
        "ends": _ends,
        "is_long": _is_long,
        "grouped": _grouped,
        "number_in": _number_in,
    }
    return found


@cache
def static(name: str) -> str:
    """The text of our style or script."""
    return (HERE / name).read_text(encoding="utf-8")


def _shown(value: Any) -> Any:
    """Every text of a template, before it is escaped: what cannot be seen is written out."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _ends(table: FigureTable) -> tuple[str, str] | None:
    found = span(table)
    return None if found is None else (rounded(found[0], found[1] - found[0]), rounded(found[1], found[1] - found[0]))


def _is_long(text: str) -> bool:
    """Whether a word of it may be broken anywhere: a path, not a name."""
    return any(len(word) > LONG_WORD for word in text.split())


def _grouped(blocks: Sequence[Block]) -> list[tuple[str, list[Block]]]:
    """Blocks of a kind that follow each other, together."""
    return [(kind, list(some)) for kind, some in groupby(blocks, lambda block: block.kind)]


def _number_in(block: Block, section: Section) -> int:
    return next(i for i, one in enumerate(section.blocks, start=1) if one is block)


def _legend(chart: Chart) -> list[tuple[Line, int]]:
    return list(zip(chart.lines, colour_places(chart.lines), strict=True))


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _points(chart: Chart, lines: Sequence[Line]) -> Listing:
    """Separate points: a row each, under the line's name."""
    rows = [
        (line.labels[i] if line.labels else line.name, short(line.x[i]), _cell(line, i))
        for line in lines
        for i in range(len(line.x))
    ]
    kept = [rows[i] for i in listed([[float(i) for i in range(len(rows))]])]
    return Listing(("point", chart.x_name, chart.y_name or "value"), kept, len(rows))


def _column(line: Line, across: Sequence[float]) -> tuple[list[float | None], list[str]]:
    places = {x: i for i, x in enumerate(line.x)}
    found: list[int | None] = [places.get(x) for x in across]
    values = [None if i is None else line.y[i] for i in found]
    return values, ["" if i is None else _cell(line, i) for i in found]


def _cell(line: Line, i: int) -> str:
    value: Any = line.y[i]
    told = interval({"low": line.low[i], "high": line.high[i]}) if line.low else ""
    return f"{short(value)} ({told})" if told else short(value)
