"""heed beside its peers on this machine: the same work, in turns, in one run; and beside the arithmetic that it needs.

`python benchmarks/side_by_side.py [WORK ...] [--shape gpt2 pocket] [--rounds 3]`, on a machine with nothing else to do.
Each work takes up to five minutes; `results.md` keeps the last run of each.
"""

from __future__ import annotations

import argparse
import importlib.metadata as installed
import json
import statistics
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sides.floor import operations, seconds, updating
from sides.inputs import SHAPES
from sides.programs import BENCHMARKS, Program, environment
from sides.table import told, write

from heed.cli import QUIET
from heed.training.describe import commit, host

WORKS = ("ppo", "sft", "reward", "rollout", "rollout-ends", "score")
RESULTS = BENCHMARKS / "results.json"
PEERS = {"ppo": "trl==1.12.0", "sft": "trl==1.16.0", "reward": "trl==1.16.0"}
SETTINGS = {
    "ppo": ("float32",),  # its `bf16` changes nothing on a processor
    "sft": ("bfloat16", "all-bfloat16", "all-bfloat16-grouped", "float32"),
    "reward": ("bfloat16", "all-bfloat16", "float32"),
}


def versions() -> tuple[str, list[str]]:
    """torch, and what else a peer shares with heed's environment."""
    torch = f"torch=={installed.version('torch').partition('+')[0]}"
    return torch, [f"{name}=={installed.version(name)}" for name in ("transformers", "peft")]


def peers(work: str, shape: str, place: Path, inputs: Path) -> list[Program]:
    """The other side, in each of its settings."""
    dtype = "bfloat16" if shape == "gpt2" else "float32"
    if work not in PEERS:
        name = "generate" if work.startswith("rollout") else "transformers"
        command = [sys.executable, "-m", "sides.stock_side", work, str(inputs), shape, dtype]
        return [Program(f"{name}, {dtype}", command, place / f"{work}-{name}.log")]
    torch, others = versions()
    python = environment(place, PEERS[work].replace("==", "-"), [torch, PEERS[work], *others])
    return [
        Program(
            f"{PEERS[work].replace('==', ' ')}, {setting}",
            [python, "-m", "sides.trl_side", work, str(inputs), shape, setting],
            place / f"{work}-{setting}.log",
        )
        for setting in SETTINGS[work]
    ]


def best_of(programs: Sequence[Program]) -> tuple[Program, dict[str, float]]:
    """The fastest setting by one piece of each, which is not counted; and what each did, tokens a second."""
    if len(programs) == 1:
        return programs[0], {}
    found = {}
    for program in programs:
        piece = program.piece().told
        found[program.name] = (piece["prompts"] + piece["responses"]) / piece["seconds"]
        print(f"  {program.name}: {found[program.name]:.0f} tokens/s", flush=True)
        program.stop()
        program.pieces.clear()
    return max(programs, key=lambda program: found[program.name]), found


def compare(work: str, shape: str, rounds: int, place: Path) -> dict[str, Any]:
    """heed, the best setting of the peer, and the rate of this machine's products, in turns."""
    inputs, script = place / shape, [sys.executable, "-m", "sides.heed_side"]
    subprocess.run([*script, "inputs", str(inputs), shape], check=True, cwd=BENCHMARKS)
    peer, settings = best_of(peers(work, shape, place, inputs))
    ours = Program("heed", [*script, work, str(inputs), shape], place / f"{work}-heed.log", QUIET)
    rates = Program("rates", [*script, f"rates-{work}", str(inputs), shape], place / "rates.log")
    for program in (ours, peer, rates):
        program.start()
    for number in range(rounds):
        for program in (ours, peer, rates):
            piece = program.piece()
            if program is not rates:
                marked = f"  BESIDE OTHER WORK ({piece.others:.2f} cores)" if piece.disturbed else ""
                print(f"  {number + 1} {program.name}: {piece.told['seconds']:.2f} s{marked}", flush=True)
    for program in (ours, peer, rates):
        program.stop()
    measured = {
        kind: statistics.median(piece.told[kind] for piece in rates.pieces)
        for kind in ("rows", "head", "step", "step head")
    }
    return {
        "work": work, "shape": shape, "when": datetime.now(UTC).isoformat(timespec="minutes"), **machine(),
        "rates": measured, "settings": settings,
        "sides": [side(program, work, shape, measured) for program in (ours, peer)],
    }  # fmt: skip


def side(program: Program, work: str, shape: str, rates: dict[str, float]) -> dict[str, Any]:
    """One side's pieces, with the seconds that their arithmetic needs at least."""
    pieces = [
        {
            **piece.told,
            "floor": seconds(operations(work, SHAPES[shape], piece.told), rates),
            **({"update floor": seconds(updating(SHAPES[shape], piece.told), rates)} if "update" in piece.told else {}),
            "others": round(piece.others, 2), "load": round(piece.load, 2), "disturbed": piece.disturbed,
        }
        for piece in program.pieces
    ]  # fmt: skip
    return {"name": program.name, "pieces": pieces}


def machine() -> dict[str, Any]:
    """Commit and machine."""
    return {"commit": commit() or "unknown", "host": host()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("works", nargs="*", help=f"of {', '.join(WORKS)}; none: all")
    parser.add_argument("--shape", nargs="*", default=["gpt2"], choices=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--place", type=Path, default=Path("build/bench"), help="environments, inputs, logs")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    if unknown := set(asked.works) - set(WORKS):
        parser.error(f"there is no work {', '.join(sorted(unknown))}: choose of {', '.join(WORKS)}")
    asked.place.mkdir(parents=True, exist_ok=True)
    place = asked.place.resolve()
    for shape in asked.shape:
        for work in asked.works or WORKS:
            print(f"{work}, {shape}", flush=True)
            found = compare(work, shape, asked.rounds, place)
            print("\n".join(told(found)), flush=True)
            kept = json.loads(asked.results.read_text()) if asked.results.exists() else {}
            kept[f"{work}, {shape}"] = found
            write(kept, asked.results)


if __name__ == "__main__":
    main()
