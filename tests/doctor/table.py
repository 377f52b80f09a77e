"""The slow proof: every fault under many seeds, and hundreds of rollouts of healthy runs; prints a table in Markdown.

    python tests/doctor/table.py --demo runs/demo [--seeds 20] [--healthy 200] [--only WORDS] [--file runs/doctor.jsonl]

`--demo` names a directory of `heed demo` that has got as far as its reward model. Every result is appended to `--file`,
and what the file has is not run again: delete it after a change of the code. Exit code 1: a fault was named in less
than 95 % of the seeds, or a healthy run was not found healthy.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from faults import FAULTS
from transformers.utils import logging as transformers_logging
from ward import Ward

from heed.doctor.findings import CAUSES
from heed.settings.common import AdamWSettings, DecaySettings
from heed.settings.ppo import PPOSettings
from heed.stages import ppo

EPISODES = 128  # of a rollout that a verdict is asked for: about 1,250 tokens
HEALTHY_SEEDS = 5
NAMED = 0.95
WARNINGS = 1  # in a healthy run


def load_ward(demo: str) -> Ward:
    """The models of a demo, with its settings of PPO but for the warm-up, which would only take time."""
    settings = PPOSettings(
        output="none", model=f"{demo}/sft", reward_model=f"{demo}/reward", device="cpu", dtype="float32",
        prompts={"path": f"{demo}/world/ppo-prompts.jsonl"}, hygiene={"shared_prefix": 0, "max_prompt_tokens": 40},
        sampling={"max_new_tokens": 24, "batch": EPISODES}, batch=64, minibatch=32, microbatch=64, epochs=1,
        kl_coef=0.1, missing_eos={"mode": "replace", "value": 3.0}, critic_warmup=0, warmup_steps=0,
        optimizer=DecaySettings(learning_rate=1e-3, schedule="constant", eps=1e-5),
        value_optimizer=AdamWSettings(learning_rate=1e-3, eps=1e-5),
    )  # fmt: skip
    inputs = ppo.read(settings)
    torch.manual_seed(0)
    roles, _ = ppo.load(settings, inputs, torch.device("cpu"))
    return Ward(roles, settings, inputs.template, inputs.questions, EPISODES)


class Results:
    """Rows in a file, one a trial; what is there is not done again."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, Any]] = []
        if file.exists():
            self.rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]

    def has(self, fault: str, seed: int) -> bool:
        return any((row["fault"], row["seed"]) == (fault, seed) for row in self.rows)

    def add(self, row: dict[str, Any]) -> None:
        self.rows.append(row)
        with self.file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), file=sys.stderr, flush=True)


def try_all(ward: Ward, results: Results, seeds: int, only: str) -> None:
    """Every fault whose name has one of the words in it, seed by seed."""
    for seed in range(seeds):
        for fault in FAULTS:
            if any(word in fault.name for word in only.split(",")) and not results.has(fault.name, seed):
                outcome = ward.try_out(fault, seed)
                results.add({**asdict(outcome), "right": outcome.is_right})


def try_healthy(ward: Ward, results: Results, rollouts: int) -> None:
    """Runs of so many rollouts, each learned from."""
    name = f"healthy, {rollouts} rollouts"
    for seed in range(HEALTHY_SEEDS if rollouts else 0):
        if not results.has(name, seed):
            found = Counter((one.severity, one.id) for one in ward.healthy(seed, rollouts))
            told = [[severity, one, count] for (severity, one), count in found.items() if severity != "info"]
            results.add({"fault": name, "seed": seed, "told": told})


def table(rows: list[dict[str, Any]]) -> str:
    """fault × cause × how often anything grave was found, how often the cause and nothing else, in which step."""
    lines = ["| fault | cause | detected | named | median step |", "|---|---|---|---|---|"]
    for fault in FAULTS:
        mine = [row for row in rows if row["fault"] == fault.name]
        if mine:
            found, right = (sum(bool(row[key]) for row in mine) for key in ("found", "right"))
            step, n = median(row["step"] for row in mine), len(mine)
            lines.append(f"| {fault.name} | {fault.cause} | {found}/{n} | {right}/{n} | {step:g} |")
    return "\n".join(lines)


def measured(told: list[list[Any]], severity: str) -> int:
    """Rollouts in which the measurement was called wrong; bands of health judge the course of a run instead."""
    return sum(count for grave, one, count in told if grave == severity and (one in CAUSES or one.startswith("T")))


def health(rows: list[dict[str, Any]]) -> str:
    """Healthy runs: errors and warnings in each."""
    lines = ["| healthy run | errors | warnings | bands of health |", "|---|---|---|---|"]
    for row in rows:
        if "told" in row:
            errors, warnings = (measured(row["told"], severity) for severity in ("error", "warning"))
            bands = ", ".join(f"{one} × {count}" for _, one, count in row["told"] if one.startswith("H")) or "none"
            lines.append(f"| {row['fault']}, seed {row['seed']} | {errors} | {warnings} | {bands} |")
    return "\n".join(lines)


def is_proven(rows: list[dict[str, Any]]) -> bool:
    """Every fault named often enough, every healthy run left alone."""
    trials = {fault.name: [row["right"] for row in rows if row["fault"] == fault.name] for fault in FAULTS}
    named = all(sum(rights) >= NAMED * len(rights) for rights in trials.values())
    calm = [measured(row["told"], "error") == 0 and measured(row["told"], "warning") <= WARNINGS
            for row in rows if "told" in row]  # fmt: skip
    return named and all(calm)


def main() -> int:
    parser = argparse.ArgumentParser(description="every fault under many seeds, and healthy runs")
    parser.add_argument("--demo", default="runs/demo", help="a directory of `heed demo` with sft/, reward/ and world/")
    parser.add_argument("--seeds", type=int, default=20, help="trials of each fault")
    parser.add_argument("--healthy", type=int, default=200, help="rollouts of each of five healthy runs; 0 = none")
    parser.add_argument("--only", default="", help="faults with one of these words in their name, separated by commas")
    parser.add_argument("--file", default="", help="where results are kept; default: doctor.jsonl in the demo")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    ward, results = load_ward(arguments.demo), Results(Path(arguments.file or f"{arguments.demo}/doctor.jsonl"))
    try_all(ward, results, arguments.seeds, arguments.only)
    try_healthy(ward, results, arguments.healthy)
    print(f"{table(results.rows)}\n\n{health(results.rows)}")
    return 0 if is_proven(results.rows) else 1


if __name__ == "__main__":
    sys.exit(main())
