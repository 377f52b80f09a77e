"""Wins by the source of the prompt are those of a trained model, not of the base that was shown demonstrations."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from heed.report.sections import _by_source


def test_a_base_is_not_the_main_model_whatever_it_was_shown() -> None:
    def wins(*names: str) -> list[Any]:
        rows = [
            {"source": source, "scores": {name: {"judge": value} for value, name in enumerate((*names, "sft"))}}
            for source in ("a", "b")
        ]
        report = {"baseline": "sft", "against_baseline": {key: {} for key in names}}
        run: Any = SimpleNamespace(report=report, samples=rows)
        return list(_by_source(run, ["judge"]))

    (table,) = wins("best-of-4", "base", "base-4-shot")
    assert "best-of-4" in repr(table) and "shot" not in repr(table)
    assert wins("base", "base-4-shot") == []
