"""The code of docs/python.md, run block after block in one process, where its files lie."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import heed

PAGE = Path(__file__).parents[1] / "docs" / "python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """The files that the page names."""
    animals = ["cat", "dog", "cow", "hen", "pig", "bee"]
    prompts = [f"what is a {animal} {i}?" for i in range(12) for animal in animals]
    rows = {
        "demonstrations": [{"prompt": prompt, "response": f"a {prompt.split()[3]} ."} for prompt in prompts],
        "prompts": [{"prompt": prompt} for prompt in prompts],
        "rankings": [{"prompt": prompt, "responses": ["a cat", "no ."], "ranks": [1, 2]} for prompt in prompts],
    }
    for name, lines in rows.items():
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "text.txt").write_text("<|endoftext|>".join(f"{prompt} a cat . no ." for prompt in prompts * 6))
    return tmp_path


def test_every_block_runs(files: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(BLOCKS)], cwd=files, capture_output=True, text=True, check=False, timeout=280
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "ppo 3/3" in done.stderr  # progress is heard
    assert "the run in runs/ppo is finished" in done.stdout


def test_every_function_is_told() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in heed.__all__ if f"heed.{name}" not in text] == []
