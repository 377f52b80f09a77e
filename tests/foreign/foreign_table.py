"""The whole proof: every fault in rollouts of another trainer, with and without log-probabilities, and healthy files.

    python tests/foreign/foreign_table.py [--seeds 3] [--only WORDS] [--kinds gpt2,llama]

Exit code 1: fewer than 95 % of the single faults were named exactly, or a healthy file was not clean.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import logging
import os
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from foreign_faults import FAULTS, Fault
from foreign_trainer import Models, Rows, build, rollout, write
from transformers.utils import logging as transformers_logging

from heed.settings.doctor import DoctorSettings
from heed.stages import doctor

NAMED = 0.95
HEALTHY_ROWS = (12, 24, 64)
LINES = ("sampler_logprobs", "policy_logprobs", "ref_logprobs")
ASKED = ("sampler_version", "policy_logprobs_again")


@dataclass(frozen=True)
class Told:
    """What `heed doctor --rollouts` says of a file."""

    code: int
    ids: list[str]
    verdict: dict[str, Any]
    seconds: float

    def names(self, fault: Fault) -> bool:
        """Exactly the cause; or, where only more columns can settle it, T2 with a hint that asks for them."""
        if self.ids == [fault.cause]:
            return True
        hints = " ".join(finding["hint"] for finding in self.verdict["findings"])
        return fault.asks and self.code == 3 and self.ids == ["T2"] and all(name in hints for name in ASKED)


def examined(models: Models, rows: Rows, place: Path, with_models: bool = True, **settings: Any) -> Told:
    """Run the command on a file."""
    path, out = write(rows, place / "rollouts.jsonl"), place / "findings.json"
    named = {"model": str(models.place / "policy"), "reference": str(models.place / "reference")} if with_models else {}
    started = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        asked = DoctorSettings(rollouts=str(path), json=str(out), device="cpu", **{**named, **settings})
        code = doctor.run(asked)
    verdict = json.loads(out.read_text(encoding="utf-8"))
    found = [finding["id"] for finding in verdict["findings"] if finding["severity"] != "info"]
    return Told(code, found, verdict, time.perf_counter() - started)


def without_lines(rows: Rows) -> Rows:
    """The ids alone."""
    return [{name: value for name, value in row.items() if name not in LINES} for row in rows]


@cache
def models_of(kind: str, seed: int) -> Models:
    return build(kind, seed, Path(tempfile.mkdtemp(prefix=f"foreign-{kind}-{seed}-")))


def main() -> int:
    parser = argparse.ArgumentParser(description="every fault in rollouts of another trainer")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="")
    parser.add_argument("--kinds", default="gpt2,llama")
    parser.add_argument("--healthy", type=int, default=1)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    transformers_logging.disable_progress_bar()
    torch.set_num_threads(1)
    right = tried = 0
    unclean = 0
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        for kind in arguments.kinds.split(","):
            for fault in FAULTS:
                if kind not in fault.kinds or not any(word in fault.name for word in arguments.only.split(",")):
                    continue
                for ids_only in (False, True) if fault.ids_only else (False,):
                    told = []
                    for seed in range(arguments.seeds):
                        models = models_of(kind, seed)
                        rows = fault.make(models, fault.rows, seed + 11)
                        rows = without_lines(rows) if ids_only else rows
                        told.append(examined(models, rows, place, temperature=fault.temperature))
                    named = sum(one.names(fault) for one in told)
                    right, tried = right + named, tried + len(told)
                    said = "; ".join(" ".join(one.ids) or f"exit {one.code}" for one in told)
                    seconds = max(one.seconds for one in told)
                    mark = "  " if named == len(told) else "✗ "
                    print(f"{mark}{kind} | {fault.name}{', ids alone' if ids_only else ''} | {fault.cause} | "
                          f"{named}/{len(told)} | {said} | {seconds:.1f} s", flush=True)  # fmt: skip
            for count in HEALTHY_ROWS if arguments.healthy else ():
                for seed in range(arguments.seeds):
                    rows = rollout(models_of(kind, seed), count, seed + 70)
                    one = examined(models_of(kind, seed), rows, place)
                    clean = one.ids == [] and one.code == 0
                    unclean += not clean
                    print(f"{'  ' if clean else '✗ '}{kind} | healthy, {count} rows, seed {seed} | "
                          f"{' '.join(one.ids) or f'exit {one.code}'} | {one.seconds:.1f} s", flush=True)  # fmt: skip
    print(f"{right} of {tried} named exactly, {unclean} healthy files not clean")
    return 0 if right >= NAMED * tried and not unclean else 1


if __name__ == "__main__":
    sys.exit(main())
