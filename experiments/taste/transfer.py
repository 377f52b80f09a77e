"""How many sets of answers must a person rank until the policy follows their taste? `make taste`

python experiments/taste/transfer.py --demo runs/demo --output runs/taste            # three tastes, three seeds
python experiments/taste/transfer.py --tasks 40 --tastes curt --seeds 1 --demo …     # one cell

Each cell is what a newcomer does: `heed label` is started, somebody ranks over HTTP, `heed loop` goes round once with
recipes/pocket/my-taste.yaml, `heed evaluate` has both policies answer new questions. Whose answer does that person like
better? A tie is half a win. A cell that is done is not done again. Intervals are over questions.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from heed.formulas.statistics import win_rate
from heed.labeling.simulated import SimulatedLabeler
from heed.pocket.tastes import TASTES, by_liking, liking
from heed.records import Candidates, Turn, read_jsonl, write_jsonl

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"invite \S+: (http\S+)")
SPARE = 60  # tasks beyond those that are ranked
HEED = [sys.executable, "-m", "heed.cli"]


def main() -> int:
    """Every cell of the grid, then the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", type=Path, default=Path("runs/demo"))
    parser.add_argument("--output", type=Path, default=Path("runs/taste"))
    parser.add_argument("--tasks", type=int, nargs="+", default=[20, 40, 80, 150])
    parser.add_argument("--tastes", nargs="+", default=list(TASTES), choices=list(TASTES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--figure", type=Path, help="draw the curve here, as SVG")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the loop, for example ppo.steps=30")
    wanted = parser.parse_args()
    for count in wanted.tasks:
        for taste in wanted.tastes:
            for seed in wanted.seeds:
                cell(wanted.demo, wanted.output / f"{taste}-{count}-{seed}", taste, count, seed, wanted.set)
    found = [json.loads(file.read_text()) for file in sorted(wanted.output.glob("*/cell.json"))]
    show(found)
    if wanted.figure:
        from curve import draw

        draw(found, wanted.figure)
    return 0


def cell(demo: Path, place: Path, taste: str, count: int, seed: int, changes: list[str]) -> None:
    """One person, so many tasks."""
    if (place / "cell.json").exists():
        return
    began = time.monotonic()
    place.mkdir(parents=True, exist_ok=True)
    ranked = label(demo, place, taste, count, seed)
    flags = [part for change in changes for part in ("--" + change.partition("=")[0], change.partition("=")[2])]
    named = ["--set.demo", str(demo), "--set.labels", str(place / "labels"), "--seed", str(seed)]
    heed(place, "loop", str(ROOT / "recipes" / "pocket" / "my-taste.yaml"), *named, "--once", *flags)
    policy = place / "labels" / "loop" / "round-001" / "ppo"
    asked = "--prompts", str(demo / "world" / "evaluation-prompts.jsonl"), "--hygiene.shared_prefix", "0"
    heed(
        place, "evaluate", "--models.start", str(demo / "sft"), "--models.policy", str(policy), *asked,
        "--hygiene.max_per_user", "0", "--sampling.max_new_tokens", "24", "--sampling.temperature", "0.9",
        "--seed", str(seed), "--output", str(place / "evaluate"), "--overwrite",
    )  # fmt: skip
    seconds = time.monotonic() - began
    about = {"taste": taste, "tasks": count, "ranked": ranked, "seed": seed, "seconds": round(seconds, 1)}
    about |= judged(place, taste, seed) | {"changes": changes}
    (place / "cell.json").write_text(json.dumps(about, indent=2) + "\n")
    print(json.dumps(about), flush=True)


def label(demo: Path, place: Path, taste: str, count: int, seed: int) -> int:
    """Start the page on some of the demo's candidates, and rank so many over HTTP; returns the number acknowledged."""
    candidates = read_jsonl(demo / "sample" / "candidates.jsonl", Candidates)
    some = random.Random(f"taste {seed}").sample(candidates, count + SPARE)
    write_jsonl(place / "candidates.jsonl", some)
    arguments = [str(place / "candidates.jsonl"), "--output", str(place / "labels"), "--port", "0", "--no-browser"]
    log = place / "label.log"
    with log.open("wb") as told:
        command = [*HEED, "label", *arguments, "--invite", taste]
        page = subprocess.Popen(command, stdout=told, stderr=told)
        try:
            while not (found := LINK.search(log.read_text())):
                if page.poll() is not None:
                    raise RuntimeError(log.read_text())
                time.sleep(0.1)
            person = SimulatedLabeler(found[1], by_liking(taste, seed))
            ranked = sum(1 for _ in person.work(most=count))
            person.close()
        finally:
            page.send_signal(signal.SIGINT)
            page.wait()
    return ranked


def heed(place: Path, *arguments: str) -> None:
    """A command of heed; what it says goes into a file."""
    with (place / f"{arguments[0]}.log").open("wb") as told:
        subprocess.run([*HEED, *arguments], stdout=told, stderr=told, check=True, env=os.environ)


def judged(place: Path, taste: str, seed: int) -> dict[str, Any]:
    """How often this person likes the new policy's answer better, and what else became of the answers."""
    rows = [json.loads(line) for line in (place / "evaluate" / "samples.jsonl").read_text().splitlines()]
    likes: dict[str, list[float]] = {"start": [], "policy": []}
    for row in rows:
        prompt = (Turn("user", row["prompt"]),) if isinstance(row["prompt"], str) else tuple(
            Turn(**turn) for turn in row["prompt"]
        )  # fmt: skip
        for name, scores in likes.items():
            scores.append(liking(taste, prompt, row["responses"][name], row["finished"][name]))
    report = json.loads((place / "evaluate" / "report.json").read_text())
    reward = json.loads((place / "labels" / "loop" / "round-001" / "reward" / "report.json").read_text())
    return {
        "win_rate": win_rate(likes["policy"], likes["start"], seed).as_dict(),
        "liking": {name: float(np.mean(scores)) for name, scores in likes.items()},
        "words": {name: float(np.mean([len(r["responses"][name].split()) for r in rows])) for name in likes},
        "kl": report["models"]["policy"]["kl"]["exact"],
        "accuracy": reward["accuracy"],
    }


def show(found: list[dict[str, Any]]) -> None:
    """A row a cell, as Markdown."""
    print(
        "\n| taste | tasks | seed | likes the new answer better | reward model right | KL | seconds |\n"
        + "|---" * 7
        + "|"
    )
    for row in sorted(found, key=lambda row: (row["taste"], row["tasks"], row["seed"])):
        wins, accuracy, kl = (
            f"{k * each['estimate']:.{digits}f} ({k * each['low']:.{digits}f} – {k * each['high']:.{digits}f})"
            for each, k, digits in ((row["win_rate"], 100, 1), (row["accuracy"], 100, 0), (row["kl"], 1, 1))
        )
        print(
            f"| {row['taste']} | {row['tasks']} | {row['seed']} | {wins} | {accuracy} | {kl} | {row['seconds']:.0f} |"
        )


if __name__ == "__main__":
    sys.exit(main())
