"""Runs that collapse on purpose, and runs that do not: what does the doctor call them?

    python experiments/doctor/collapses.py --demo runs/demo --output runs/collapses [--only WORDS] [--steps 40]

Each run is `heed ppo` from the demo's SFT model with its settings, but for what is named: a reward model that was
taught to like the shortest answer, or repetition; no KL price for 80 steps; or nothing, for 200 steps under five seeds.
One line a run: what was found live, since which step and how often, what `heed doctor RUN` says, its exit code.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import random
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

os.environ["HF_HUB_OFFLINE"] = "1"

from heed.flows.demo_settings import Place, ppo_settings, reward_settings
from heed.formulas.repetition import distinct_ngrams, repeated_ngrams
from heed.rl.rollout import Rollout, rollout_metrics
from heed.settings.common import DataSettings
from heed.settings.demo import DemoSettings
from heed.settings.doctor import DoctorSettings
from heed.stages import doctor, ppo, reward

HEALTHY_SEEDS, HEALTHY_STEPS = 5, 200


def with_text(rollout: Rollout, *rest: Any) -> dict[str, float | None]:
    """The rollout's metrics with those of its text, where they are not there yet."""
    tokens, mask = rollout.responses.tokens, rollout.mask
    text = {"text/distinct_2": float(distinct_ngrams(tokens, mask, 2)),
            "text/repeated_2": float(repeated_ngrams(tokens, mask, 2))}  # fmt: skip
    return {**text, **rollout_metrics(rollout, *rest)}


def ranked(demo: Path, file: Path, prefer: Callable[[str], float], generator: random.Random) -> None:
    """Rankings of the demo's prompts by a wrong taste: the answers of its rankings, and the same spoilt."""
    with file.open("w", encoding="utf-8") as out:
        for line in (demo / "world" / "rankings.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            responses = list(dict.fromkeys(spoilt(text, generator) for text in row["responses"]))
            if len(responses) < 2:
                continue
            order = sorted({prefer(text) for text in responses}, reverse=True)
            ranks = [order.index(prefer(text)) + 1 for text in responses]
            out.write(json.dumps({"prompt": row["prompt"], "responses": responses, "ranks": ranks}) + "\n")


def spoilt(text: str, generator: random.Random) -> str:
    """An answer that repeats itself, or breaks off, or neither."""
    words = text.split() or ["a"]
    match generator.randrange(3):
        case 0:
            return " ".join(words[: generator.randint(1, len(words))])
        case 1:
            return " ".join(words + [words[-1]] * generator.randint(2, 6))
    return " ".join(words)


def shortest(text: str) -> float:
    """The fewer words the better."""
    return -float(len(text.split()))


def repetitive(text: str) -> float:
    """The more words that follow themselves the better."""
    words = text.split()
    return float(sum(a == b for a, b in pairwise(words)))


def taught(demo: Path, output: Path, prefer: Callable[[str], float]) -> str:
    """A reward model of that taste."""
    rankings = output / f"{prefer.__name__}.jsonl"
    ranked(demo, rankings, prefer, random.Random(0))
    own = {"data": DataSettings(path=str(rankings)), "validation": DataSettings(), "start_from": ""}
    run = {"output": str(output / prefer.__name__), "overwrite": True}
    settings = reward_settings(Place(demo), DemoSettings(output=str(demo))).model_copy(update={**own, **run})
    reward.run(settings)
    return str(settings.output)


def trained(demo: Path, output: Path, **changes: Any) -> dict[str, Any]:
    """One run of PPO, and what the doctor says during it and after."""
    own = {"overwrite": True, "output": str(output), "kl_budget": 0, **changes}
    settings = ppo_settings(Place(demo), DemoSettings(output=str(demo))).model_copy(update=own)
    with mock.patch.object(ppo, "rollout_metrics", with_text):
        ppo.run(settings)
    found = json.loads((output / "report.json").read_text(encoding="utf-8"))["doctor"]["findings"]
    verdict = output / "verdict.json"
    code = doctor.run(DoctorSettings(target=str(output), json=str(verdict)))
    told = json.loads(verdict.read_text(encoding="utf-8"))
    after = [[one["id"], one["severity"]] for one in told["findings"]]
    rows = [json.loads(line) for line in (output / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    shown = {name: [round(rows[0][name], 3), round(rows[-1][name], 3)] for name in (
        "score/mean", "kl/exact", "policy/entropy", "length/mean", "text/distinct_2", "text/repeated_2")}  # fmt: skip
    return {"run": output.name, "live": found, "after": after, "exit": code, "first and last": shown}


def main(arguments: Sequence[str]) -> None:
    """Run what is asked for, one after another."""
    parser = argparse.ArgumentParser(description="runs that collapse on purpose")
    parser.add_argument("--demo", default="runs/demo")
    parser.add_argument("--output", default="runs/collapses")
    parser.add_argument("--only", default="")
    parser.add_argument("--steps", type=int, default=40)
    asked = parser.parse_args(arguments)
    logging.disable(logging.INFO)
    demo, output = Path(asked.demo), Path(asked.output)
    output.mkdir(parents=True, exist_ok=True)
    runs: dict[str, Callable[[], dict[str, Any]]] = {
        "no price": lambda: trained(demo, output / "no-price", kl_coef=0, steps=80, evaluations=9),
        "short": lambda: trained(
            demo, output / "short", reward_model=taught(demo, output, shortest), steps=asked.steps, evaluations=5),
        "repeats": lambda: trained(
            demo, output / "repeats", reward_model=taught(demo, output, repetitive), steps=asked.steps, evaluations=5),
    }  # fmt: skip
    for seed in range(HEALTHY_SEEDS):
        runs[f"healthy {seed}"] = lambda seed=seed: trained(  # type: ignore[misc]
            demo, output / f"healthy-{seed}", seed=seed, steps=HEALTHY_STEPS, evaluations=11)  # fmt: skip
    for name, run in runs.items():
        if any(word in name for word in asked.only.split(",")):
            with contextlib.redirect_stdout(io.StringIO()):  # tables of the stages
                found = run()
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
