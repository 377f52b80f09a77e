"""`heed profile`: a trace and a table of a recipe's first steps."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from heed import cli
from heed.training.loop import Loop


@pytest.fixture
def recipe(tiny_runs: tuple[str, str], tmp_path: Path) -> Path:
    asked = "".join(json.dumps({"prompt": f"question {i}"}) + "\n" for i in range(40))
    (tmp_path / "prompts.jsonl").write_text(asked)
    path = tmp_path / "ppo.yaml"
    path.write_text(
        f"set: {{batch: 8}}\nppo: {{model: {tiny_runs[0]}, reward_model: {tiny_runs[1]}, steps: 9, batch: '${{batch}}',"
        f" minibatch: 4, critic_warmup: 0, validation_limit: 8, sampling: {{max_new_tokens: 6}},\n"
        f" prompts: {tmp_path / 'prompts.jsonl'}, output: {tmp_path / 'run'}}}\n"
    )
    return path


def test_a_trace_and_a_table(recipe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = tmp_path / "profile"
    assert cli.main(["profile", str(recipe), "--set.batch", "12", "--steps", "2", "--output", str(place)]) == 0
    table = (place / "table.txt").read_text()
    events = json.loads((place / "trace.json").read_text())["traceEvents"]
    for part in ("rollout", "score", "update", "doctor", "io"):
        assert f"time/{part}" in table
        own = [
            event for event in events if event.get("name") == f"time/{part}" and event.get("cat") == "user_annotation"
        ]
        assert len(own) >= 2  # two steps
    assert "aten::addmm" in table and "aten::" in capsys.readouterr().out
    assert not (tmp_path / "run").exists() and Loop.watcher is None


def test_too_few_steps_are_told(recipe: Path, tmp_path: Path) -> None:
    """In a process of its own: a profiler that is still on when it ends is a segmentation fault, not exit code 2."""
    command = [sys.executable, "-m", "heed.cli", "profile", str(recipe), "--steps", "9", "--output", "profile"]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 2, ended.stderr
    assert "ppo has 9 steps, 10 are needed" in ended.stderr


def test_what_is_no_recipe_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["profile", str(tmp_path)]) == 2
    assert "is no recipe" in capsys.readouterr().err
