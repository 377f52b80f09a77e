"""Proxy and gold score along a PPO run on the pocket world, in windows of steps: `python curve.py RUN`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from heed.formulas.statistics import bootstrap_mean
from heed.pocket.gold import judge
from heed.records import Turn

WINDOWS = 10


def main(run: Path) -> None:
    """Print, for each tenth of the run, the mean reward-model score and the mean gold score of the recorded samples."""
    rows = [json.loads(line) for line in (run / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    metrics = {row["step"]: row for row in map(json.loads, (run / "metrics.jsonl").read_text().splitlines())}
    last = max(metrics)
    print("steps        score    gold  (95 %)           KL, nats    n")
    for window in range(WINDOWS):
        first, end = 1 + window * last // WINDOWS, (window + 1) * last // WINDOWS
        shown = [row for row in rows if first <= row["step"] <= end]
        gold = bootstrap_mean([judge_row(row) for row in shown], seed=0)
        score = sum(row["score"] for row in shown) / len(shown)
        kl = sum(metrics[step]["kl/exact"] for step in range(first, end + 1)) / (end - first + 1)
        interval = f"{gold.low:6.2f} – {gold.high:5.2f}"
        print(f"{first:4d} – {end:4d}  {score:6.2f}  {gold.estimate:6.2f}  {interval}  {kl:8.2f}  {len(shown):4d}")


def judge_row(row: dict) -> float:
    """The gold score of one recorded sample."""
    prompt = tuple(Turn(turn["role"], turn["content"]) for turn in row["prompt"])
    return judge(prompt, row["response"], row["finished"]).score


if __name__ == "__main__":
    main(Path(sys.argv[1]))
