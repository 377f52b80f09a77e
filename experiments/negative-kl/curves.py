"""`curves.json` of `founding.py` → a figure: `python curves.py curves.json founding.svg`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 300, 260, 40, 34, 30, 10
STYLES = {
    "right": ("#1a5fb4", "scored as it is drawn"),
    "scoring": ("#b3261e", "scored without positions and temperature"),
    "minimum": ("#c88800", "drawn with a minimum length"),
    "dropout": ("#5b2a86", "scored with dropout"),
}
"""Colour and name of each variant that the figure shows."""


@dataclass(frozen=True)
class Line:
    """One curve: a value at each step."""

    colour: str
    values: Sequence[float]


def panel(title: str, lines: Sequence[Line], left: int) -> str:
    """A plot of lines over steps 1, 2, …, with a line at zero; `left` is where it begins in the figure."""
    low = min(0.0, *(value for line in lines for value in line.values))
    high = max(0.0, *(value for line in lines for value in line.values))
    margin = 0.05 * (high - low)
    low, high = low - margin, high + margin
    steps = max(len(line.values) for line in lines)
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(step: int) -> float:
        return left + LEFT + across * (step - 1) / max(1, steps - 1)

    def y(value: float) -> float:
        return TOP + down * (high - value) / (high - low)

    parts = [text(left + LEFT, 20, title, weight="bold")]
    for value in ticks(low, high):
        colour = "#555" if value == 0 else "#ddd"
        parts.append(f'<path d="M{x(1):.0f} {y(value):.1f}H{x(steps):.0f}" stroke="{colour}"/>')
        parts.append(text(left + LEFT - 6, y(value) + 4, f"{value:g}", anchor="end"))
    for step in sorted({1, *range(5, steps + 1, 5)}):
        parts.append(text(x(step), HEIGHT - BOTTOM + 16, str(step), anchor="middle"))
    for line in lines:
        points = " ".join(f"{x(i):.0f},{y(value):.1f}" for i, value in enumerate(line.values, 1))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{line.colour}" stroke-width="1.8"/>')
    return "\n".join(parts)


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers between `low` and `high`, zero among them."""
    size = next(
        unit * 10**power for power in range(-4, 5) for unit in (1, 2, 5) if (high - low) / (unit * 10**power) <= 6
    )
    return [round(i * size, 6) for i in range(-1000, 1000) if low <= i * size <= high]


def text(x: float, y: float, words: str, anchor: str = "start", weight: str = "normal") -> str:
    """A line of text."""
    return f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" font-weight="{weight}">{escape(words)}</text>'


def figure(curves: dict[str, dict]) -> str:
    """KL as it is logged, KL as it is, and the reward model's score, of every variant."""
    shown = [variant for variant in STYLES if variant in curves]
    titles = {"k1": "KL as logged, nats a response", "exact": "KL of the policy", "score": "score"}
    parts = []
    for place, (name, title) in enumerate(titles.items()):
        lines = [Line(STYLES[variant][0], [row[name] for row in curves[variant]["steps"]]) for variant in shown]
        parts.append(panel(title, lines, place * WIDTH))
    for place, variant in enumerate(shown):
        colour, label = STYLES[variant]
        left, top = LEFT + place % 2 * 1.5 * WIDTH, HEIGHT + 14 + place // 2 * 18
        parts.append(f'<path d="M{left:.0f} {top}h26" stroke="{colour}" stroke-width="1.8"/>')
        parts.append(text(left + 33, top + 4, label))
    width, height = len(titles) * WIDTH, HEIGHT + 44
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="12">'
    return "\n".join([start, '<rect width="100%" height="100%" fill="#fff"/>', *parts, "</svg>", ""])


if __name__ == "__main__":
    source, target = map(Path, sys.argv[1:])
    target.write_text(figure(json.loads(source.read_text(encoding="utf-8"))), encoding="utf-8")
