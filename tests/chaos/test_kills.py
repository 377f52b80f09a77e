"""A short form of `make chaos`: some kills, and the control that must be caught."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).with_name("kills.py")


def kills(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(KILLS), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)


def test_killed_runs_end_as_the_one_that_was_not(tmp_path: Path) -> None:
    done = kills("--kills", "10", "--stages", "sft", "ppo")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    assert "10 kills, 0 runs differ" in done.stdout


@pytest.mark.parametrize("part", ["random", "critic"])
def test_a_state_without_a_part_is_caught(part: str) -> None:
    done = kills("--kills", "6", "--stages", "ppo", "--forget", part)
    assert done.returncode == 1, done.stdout + done.stderr[-2000:]
