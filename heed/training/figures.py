"""Figures with their intervals as a table for people; `report.json` holds the same for programs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heed.training.metrics import print_completions, short


def print_figures(figures: Mapping[str, Mapping[str, Any]], title: str = "") -> None:
    """A row for each `{"estimate", "low", "high", "n"}`: its name, the estimate, its 95 % interval and n."""
    rows = [
        {"figure": name, "estimate": short(found["estimate"]), "95 %": interval(found), "n": str(found["n"])}
        for name, found in figures.items()
    ]
    print_completions(rows, title)


def interval(figure: Mapping[str, Any]) -> str:
    """`0.61 – 0.66`."""
    return f"{short(figure['low'])} – {short(figure['high'])}"
