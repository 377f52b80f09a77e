"""The cells of `transfer.py` as a figure: wins of the new policy over how many tasks were ranked, a panel a taste."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, TOP, BOTTOM, RIGHT = 270, 250, 40, 34, 44, 12
BARS = {40: 65.0, 150: 75.0}
"""Wins in percent that a taste should have after so many tasks."""
LOWEST, HIGHEST = 40.0, 100.0


def draw(cells: Sequence[dict[str, Any]], path: Path) -> None:
    """Write the figure. A dot is a seed, its line the 95 % interval over questions; the curve is the seeds' mean."""
    tastes = list(dict.fromkeys(cell["taste"] for cell in sorted(cells, key=lambda cell: cell["taste"])))
    parts = [piece for place, taste in enumerate(tastes) for piece in panel(taste, cells, place * WIDTH)]
    width = WIDTH * len(tastes)
    box = f'viewBox="0 0 {width} {HEIGHT}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box} font-family="sans-serif" font-size="11">'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([head, f'<rect width="{width}" height="{HEIGHT}" fill="#fff"/>', *parts, "</svg>\n"]))


def panel(taste: str, cells: Sequence[dict[str, Any]], left: int) -> Iterator[str]:
    """One taste: grid, what it should reach, intervals, dots, curve."""
    mine = [cell for cell in cells if cell["taste"] == taste]
    counts = sorted({cell["tasks"] for cell in cells})
    first, last = math.log(counts[0]), math.log(counts[-1])

    def x(tasks: float) -> float:
        return left + LEFT + 12 + (WIDTH - LEFT - RIGHT - 24) * (math.log(tasks) - first) / max(last - first, 1e-9)

    def y(percent: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (HIGHEST - percent) / (HIGHEST - LOWEST)

    yield words(left + LEFT, 20, taste, "start", "bold")
    for percent in (40, 50, 60, 70, 80, 90, 100):
        colour = "#555" if percent == 50 else "#ddd"
        yield f'<path d="M{left + LEFT} {y(percent):.1f}H{left + WIDTH - RIGHT}" stroke="{colour}"/>'
        yield words(left + LEFT - 6, y(percent) + 4, f"{percent} %", "end")
    for tasks in counts:
        yield words(x(tasks), HEIGHT - BOTTOM + 16, str(tasks), "middle")
    yield words(left + LEFT + (WIDTH - LEFT - RIGHT) / 2, HEIGHT - 8, "tasks ranked", "middle")
    for tasks, bar in BARS.items():
        if tasks in counts:
            yield f'<path d="M{x(tasks) - 12:.1f} {y(bar):.1f}h24" stroke="#b3261e" stroke-width="2"/>'
    means = [(tasks, _mean(mine, tasks)) for tasks in counts if any(cell["tasks"] == tasks for cell in mine)]
    for (a, wins), (b, more) in pairwise(means):
        yield f'<path d="M{x(a):.1f} {y(wins):.1f}L{x(b):.1f} {y(more):.1f}" stroke="#1a5fb4" stroke-width="1.8"/>'
    for cell in mine:
        at = x(cell["tasks"]) + 5 * (cell["seed"] - 2)
        wins = {name: y(100 * cell["win_rate"][name]) for name in ("low", "estimate", "high")}
        yield f'<path d="M{at:.1f} {wins["low"]:.1f}V{wins["high"]:.1f}" stroke="#1a5fb4"/>'
        yield f'<circle cx="{at:.1f}" cy="{wins["estimate"]:.1f}" r="2.5" fill="#1a5fb4"/>'


def words(x: float, y: float, said: str, anchor: str, weight: str = "normal") -> str:
    """A line of text."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-weight="{weight}">{escape(said)}</text>'


def _mean(cells: Sequence[dict[str, Any]], tasks: int) -> float:
    wins = [100 * cell["win_rate"]["estimate"] for cell in cells if cell["tasks"] == tasks]
    return sum(wins) / len(wins)
