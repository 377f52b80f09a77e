"""The slow proof can begin: the ward of a demo's models loads, and its healthy run is left alone."""

from __future__ import annotations

import json
from pathlib import Path

from table import load_ward


def test_the_ward_of_a_demo(tiny_runs: tuple[str, str], tmp_path: Path) -> None:
    for name, run in zip(("sft", "reward"), tiny_runs, strict=True):
        (tmp_path / name).symlink_to(run)
    (tmp_path / "world").mkdir()
    rows = [{"prompt": f"question {i} {'x' * (i % 5)}"} for i in range(100)]
    (tmp_path / "world" / "ppo-prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    ward = load_ward(str(tmp_path))
    assert len(ward.questions) == 97  # 3 % are held out
    assert ward.healthy(seed=0, rollouts=1) == []
