"""Labels beside points, placed so that none covers another, on a phone's width and on a desk's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

WIDTHS = (270.0, 640.0)  # of the plot in pixels: both must do
HEIGHT = 210.0
LETTER, LINE = 6.6, 14.0  # pixels

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Label:
    """Words at a place from 0 to 1 of the plot, moved by pixels; `fixed` ones stand at the right edge of a limit."""

    words: str
    across: float
    down: float
    kind: str
    fixed: bool = False
    above: bool = False  # rather over its point than beside it: on a line, whose strokes are beside it
    dx: float = 0.0
    dy: float = 0.0
    anchor: str = "start"


PLACES = (("start", 8, 4), ("end", -8, 4), ("middle", 0, -9), ("middle", 0, 18), ("start", 6, -8), ("end", -6, -8),
          ("start", 6, 16), ("end", -6, 16))  # fmt: skip
"""Where a label may stand about its point: anchor, pixels to the right, pixels down."""


def placed(labels: Sequence[Label]) -> list[Label]:
    """Every label at the first place where it is inside the plot and on no other; one that has none is left out."""
    found: list[Label] = []
    taken: list[list[Box]] = [[] for _ in WIDTHS]
    points = [[_box(replace(label, words=""), width) for label in labels if not label.fixed] for width in WIDTHS]
    for label in labels:
        for option in _options(label):
            boxes = [_box(option, width) for width in WIDTHS]
            others = [around + _others(label, labels, spots) for around, spots in zip(taken, points, strict=True)]
            if all(_fits(box, around, width) for box, around, width in zip(boxes, others, WIDTHS, strict=True)):
                found.append(option)
                for around, box in zip(taken, boxes, strict=True):
                    around.append(box)
                break
    return found


def _others(label: Label, labels: Sequence[Label], spots: Sequence[Box]) -> list[Box]:
    moving = [one for one in labels if not one.fixed]
    return [spot for one, spot in zip(moving, spots, strict=True) if one is not label]


def _options(label: Label) -> list[Label]:
    if label.fixed:
        return [replace(label, anchor="end", dx=-4, dy=dy) for dy in (-4, 13)]
    places = [*PLACES[2:4], *PLACES[4:], *PLACES[:2]] if label.above else PLACES
    return [replace(label, anchor=anchor, dx=dx, dy=dy) for anchor, dx, dy in places]


def _box(label: Label, width: float) -> Box:
    wide = LETTER * len(label.words)
    x = label.across * width + label.dx - {"start": 0.0, "middle": wide / 2, "end": wide}[label.anchor]
    y = label.down * HEIGHT + label.dy
    return x, y - LINE + 3, x + wide, y + 3


def _fits(box: Box, others: Sequence[Box], width: float) -> bool:
    left, top, right, bottom = box
    if left < 0 or right > width or top < 0 or bottom > HEIGHT:
        return False
    return not any(left < o[2] and o[0] < right and top < o[3] and o[1] < bottom for o in others)
