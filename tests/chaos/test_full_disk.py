"""A short form of `full_disk.py`: some writes of two stages, and some sizes of a real disk."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).with_name("full_disk.py")


@pytest.mark.parametrize("options", [("--stages", "sft", "ppo", "--sites", "4"), ("--stages", "sft", "--disk")])
def test_a_full_disk_loses_nothing(options: tuple[str, ...]) -> None:
    command = [sys.executable, str(PROGRAM), *options, *(["--sites", "100"] if "--disk" in options else [])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    if "no disk can be mounted here" in done.stderr:
        pytest.skip("no disk can be mounted here")
    assert done.returncode == 0, done.stdout + done.stderr[-2000:]
    tried = re.findall(r"full at (\d+) of|(\d+) full disks", done.stdout)
    assert tried and all(int(one or other) >= 4 for one, other in tried), done.stdout


def test_rows_that_are_left_half_are_caught() -> None:
    """The control: a build that leaves half a row behind."""
    spoiled = f"""
import runpy, sys
from heed import disk
disk.append_whole = lambda file, line: file.write(line)
sys.path.insert(0, {str(PROGRAM.parent)!r})
sys.argv = ["full_disk.py", "--stages", "sft", "--sites", "20"]
runpy.run_path({str(PROGRAM)!r}, run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", spoiled], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 1, done.stdout + done.stderr[-2000:]
    assert "cannot be read" in done.stdout
