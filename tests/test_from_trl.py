"""Every setting and metric that docs/from-trl.md maps to is one that heed has."""

from __future__ import annotations

import re
from pathlib import Path

from heed import config
from heed.settings.ppo import PPOSettings

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "from-trl.md").read_text(encoding="utf-8")
METRICS = set(re.findall(r"`([a-z0-9_]+/[a-z0-9_]+)`", (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")))
SETTINGS = {name for name, _ in config.fields(PPOSettings)} | set(PPOSettings.model_fields)


def rows(heading: str) -> list[list[str]]:
    """Cells of the table under a heading."""
    text = PAGE.partition(heading)[2].partition("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_settings() -> None:
    found = rows("# Coming from TRL")
    assert len(found) > 30
    for _, ours, differs in found:
        named = re.findall(r"`([^`]+)`", ours)
        assert named or ours == "none"
        assert set(named) <= SETTINGS, ours
        inside = [name for name in re.findall(r"`([a-z_.]+)`", differs) if not name.endswith((".md", ".jsonl"))]
        assert {name for name in inside if "/" not in name} <= SETTINGS, differs


def test_metrics() -> None:
    found = rows("## Names of metrics")
    assert len(found) == 10
    for _, ours in found:
        assert set(re.findall(r"`([^`]+)`", ours)) <= METRICS, ours
