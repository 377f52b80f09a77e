"""What a page is made of: sections of charts and tables, before they become HTML."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from heed.report.chart import Chart
from heed.report.read import number
from heed.report.words import rounded

Level = Literal["grave", "warning", "good", "told"]
LEVELS: tuple[Level, ...] = ("grave", "warning", "good", "told")
"""The gravest first."""


Form = Literal["beside", "stacked", "paired"]


@dataclass(frozen=True)
class Note:
    """One line of the health list: what is so, and what to do about it."""

    level: Level
    sentence: str
    todo: str = ""
    where: str = ""  # id and steps of a finding


@dataclass(frozen=True)
class Figure:
    """An estimate with its interval. `low` and `high` are None where nothing tells them."""

    name: str
    estimate: float | None
    low: float | None = None
    high: float | None = None
    n: int | None = None

    @property
    def width(self) -> float | None:
        """From the low end of the interval to the high one."""
        return None if self.low is None or self.high is None else self.high - self.low

    @property
    def words(self) -> str:
        """The estimate, to the digits that its interval allows."""
        return rounded(self.estimate, self.width)

    @property
    def interval(self) -> str:
        """Its 95 % interval; empty where there is none."""
        return f"{rounded(self.low, self.width)} to {rounded(self.high, self.width)}" if self.width is not None else ""


@dataclass(frozen=True)
class FigureTable:
    """Figures of one unit under each other, drawn on one scale; `reference` is what they are compared with."""

    title: str
    figures: Sequence[Figure]
    note: str = ""
    reference: float | None = None
    kind: str = "figures"


@dataclass(frozen=True)
class Panels:
    """Charts side by side; under each other where they share their x axis; or in pairs."""

    charts: Sequence[Chart]
    form: Form = "beside"
    kind: str = "panels"


@dataclass(frozen=True)
class Table:
    """Plain rows under a heading row; numbers are set right where `numeric`."""

    title: str
    heading: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    open: bool = True
    numeric: bool = False
    marked: Sequence[int] = ()  # rows that differ
    kind: str = "table"


@dataclass(frozen=True)
class Answer:
    """What one model wrote, with what is known of it."""

    text: str
    score: float | None = None
    kl: float | None = None
    others: Mapping[str, float | None] = field(default_factory=dict)  # scores by further judges
    words: Sequence[str] = ()  # "right", "did not end"


@dataclass(frozen=True)
class Sample:
    """One prompt with every model's answer. `tags` say in which lists it stands."""

    prompt: str
    answers: Mapping[str, Answer]
    tags: Sequence[str] = ()
    about: str = ""  # source, or step
    reference: str = ""
    gain: float | None = None


@dataclass(frozen=True)
class Samples:
    """A table of samples with the lists that it can be narrowed to."""

    models: Sequence[str]
    rows: Sequence[Sample]
    tags: Sequence[str]
    note: str = ""
    kind: str = "samples"


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    text: str
    kind: str = "words"


Block = FigureTable | Panels | Table | Samples | Words


@dataclass(frozen=True)
class Section:
    """A heading with what stands under it."""

    id: str
    title: str
    blocks: Sequence[Block]
    lead: str = ""

    @property
    def short_title(self) -> str:
        """The title as the list of contents has it: without what stands behind a colon."""
        return self.title.partition(":")[0]


@dataclass(frozen=True)
class Link:
    """Another page of the same directory."""

    name: str
    address: str


@dataclass(frozen=True)
class Page:
    """Everything that a page says."""

    name: str
    sentence: str
    facts: Sequence[tuple[str, str]]
    notes: Sequence[Note]
    sections: Sequence[Section]
    links: Sequence[Link] = ()

    @property
    def level(self) -> Level:
        """The gravest of the notes."""
        return min((note.level for note in self.notes), key=LEVELS.index, default="good")


def figure(name: str, found: Mapping[str, Any] | float | None) -> Figure:
    """A figure of `report.json`: an estimate with its interval, or a bare number."""
    if not isinstance(found, Mapping):
        return Figure(name, number(found))
    count = number(found.get("n"))
    low, high = number(found.get("low")), number(found.get("high"))
    return Figure(name, number(found.get("estimate")), low, high, None if count is None else int(count))


def figures(title: str, found: Mapping[str, Any], note: str = "", reference: float | None = None) -> FigureTable:
    """Every figure of a mapping by its name; what is nothing is left out."""
    rows = [figure(name, value) for name, value in found.items() if value is not None]
    return FigureTable(title, [row for row in rows if row.estimate is not None], note, reference)
