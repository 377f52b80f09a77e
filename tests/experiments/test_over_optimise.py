"""The script of proxy and gold score along a run, on rows by hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from heed.pocket.gold import judge
from heed.records import Turn

SCRIPT = Path(__file__).parents[2] / "experiments" / "over-optimise" / "curve.py"


def test_a_line_for_each_tenth_of_the_run(tmp_path: Path) -> None:
    asked = [{"role": "user", "content": "what is an apple?"}]
    rows = [
        {
            "step": step, "prompt": asked, "response": "an apple is a fruit.",
            "score": step / 10, "finished": True,
        }
        for step in range(1, 21) for _ in range(2)
    ]  # fmt: skip
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    steps = [{"step": step, "kl/exact": float(step)} for step in range(1, 21)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in steps))
    found = subprocess.run([sys.executable, SCRIPT, tmp_path], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr[-2000:]
    gold = judge((Turn("user", "what is an apple?"),), "an apple is a fruit.", True).score
    lines = [line.split() for line in found.stdout.splitlines()[1:]]
    assert len(lines) == 10
    for i, line in enumerate(lines):  # first – end, score, gold, low – high, KL, n; two steps in each tenth
        first = 2 * i + 1
        assert (int(line[0]), int(line[2])) == (first, first + 1)
        assert float(line[3]) == round((2 * first + 1) / 20, 2)
        assert float(line[4]) == round(gold, 2)
        assert (float(line[-2]), int(line[-1])) == (first + 0.5, 4)
