"""What a step costs, foretold from the size of its work: a formula for time and one for memory, held against steps.

    python benchmarks/cost.py [--place build/bench] [--works sft reward ppo]

Three models of random weights (LoRA of rank 16) × three batches, each step in a process of its own. The middle model's
middle batch settles the use of the arithmetic; with the smallest step it settles memory's two numbers; the others are
foretold.

    seconds = operations / rate / use        operations: benchmarks/sides/floor.py; rate: measured before; use: settled
    bytes   = program + weights + kept · tokens · layers · width        tokens: of the largest microbatch
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from sides import heed_side
from sides.floor import operations, products, seconds
from sides.heed_side import rate, settings, stage
from sides.inputs import SHAPES, Shape, write
from sides.pace import peak_memory
from sides.programs import BENCHMARKS
from torch import Tensor
from transformers.cache_utils import Cache

from heed.models.trunk import Trunk

MODELS = {
    "9 M": replace(SHAPES["gpt2"], layers=4, width=256, heads=4, vocab=24_000),
    "38 M": replace(SHAPES["gpt2"], layers=8, width=512, heads=8, vocab=24_000),
    "124 M": SHAPES["gpt2"],
}
BATCHES = (4, 8, 16)
STEPS = 3  # of which the first is not timed


class Steps:
    """As `sides.pace.Pace`, for so many steps."""

    def __init__(self) -> None:
        self.took: list[float] = []
        self.seen: list[dict[str, float]] = []

    def begin(self) -> None:
        if len(self.took) == STEPS:
            raise KeyboardInterrupt
        self.began = time.perf_counter()
        self.seen.append(dict.fromkeys(("rows", "prompts", "responses"), 0.0))

    def count(self, rows: float, prompts: float, responses: float) -> None:
        """Part of the step in hand."""
        for name, number in (("rows", rows), ("prompts", prompts), ("responses", responses)):
            self.seen[-1][name] += number

    def done(self, **_: float) -> None:
        """A step is done."""
        self.took.append(time.perf_counter() - self.began)


def measure(work: str, model: str, batch: int, place: Path) -> dict[str, Any]:
    """Steps of one stage, in this process: seconds and seconds of arithmetic of each timed one, bytes at most, and the
    bytes that were held before the first."""
    shape = replace(MODELS[model], batch=batch)
    inputs = place / f"cost-{model.replace(' ', '')}"
    write(inputs, shape)
    usual = settings

    def of_this_batch(*asked: Any) -> dict[str, Any]:
        return {**usual(*asked), "batch": batch}

    hidden, largest = Trunk.hidden, [0]

    def watched(trunk: Trunk, tokens: Tensor, mask: Tensor, cache: Cache | None = None) -> Tensor:
        if torch.is_grad_enabled():
            largest.append(int(mask.sum()))
        return hidden(trunk, tokens, mask, cache)

    steps, rates = Steps(), {kind: rate(*product, torch.bfloat16) for kind, product in products(work, shape).items()}
    with (
        patch.object(heed_side, "settings", of_this_batch),
        patch.object(Trunk, "hidden", watched),
        suppress(KeyboardInterrupt),  # how a stage is stopped
    ):
        stage(work, inputs, shape, steps)
    timed = steps.seen[1:STEPS]
    return {
        "seconds": statistics.median(steps.took[1:]), "bytes": peak_memory(), "weights": weights(shape),
        "in_flight": max(largest) * shape.layers * shape.width, "rates": rates,
        "operations": [operations(work, shape, counts) for counts in timed],
    }  # fmt: skip


def weights(shape: Shape) -> float:
    """Bytes of the frozen model: bfloat16, the blocks twice more as packed copies, the head once more in float32."""
    return 2 * (3 * shape.matrices + shape.vocab * shape.width) + 4 * shape.vocab * shape.width


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--place", type=Path, default=Path("build/bench"))
    parser.add_argument("--works", nargs="*", default=["sft", "reward", "ppo"])
    parser.add_argument("--one", nargs=3, metavar=("WORK", "MODEL", "BATCH"), help=argparse.SUPPRESS)
    asked = parser.parse_args()
    place = asked.place.resolve()
    if asked.one:
        work, model, batch = asked.one
        print(json.dumps(measure(work, model, int(batch), place)))
        return
    place.mkdir(parents=True, exist_ok=True)
    for work in asked.works:
        found = {(model, batch): alone(work, model, batch, place) for model in MODELS for batch in BATCHES}
        print("\n".join(table(work, found)), flush=True)


def alone(work: str, model: str, batch: int, place: Path) -> dict[str, Any]:
    """`measure` in a process of its own."""
    command = [sys.executable, __file__, "--place", str(place), "--one", work, model, str(batch)]
    done = subprocess.run(command, cwd=BENCHMARKS, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(work: str, found: dict[tuple[str, int], dict[str, Any]]) -> list[str]:
    """A line for each step: what was foretold, what was found, and how far off that is. A model's rates are the medians
    of those that its processes measured."""
    models = list(MODELS)
    for model in models:
        own = [found[model, batch] for batch in BATCHES]
        rates = {kind: statistics.median(one["rates"][kind] for one in own) for kind in own[0]["rates"]}
        for one in own:
            one["needed"] = statistics.median(seconds(needed, rates) for needed in one["operations"])
    known, least = found[models[1], BATCHES[1]], found[models[0], BATCHES[0]]
    use = known["needed"] / known["seconds"]
    kept = (known["bytes"] - least["bytes"] - known["weights"] + least["weights"]) / (
        known["in_flight"] - least["in_flight"]
    )
    program = least["bytes"] - least["weights"] - kept * least["in_flight"]
    lines = [
        f"{work}: use {use:.0%}, kept {kept:.0f} bytes a token, layer and width, program {program / 1e9:.2f} GB", "",
        "| model | batch | s a step: foretold, found | off | GB: foretold, found | off |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for (model, batch), one in found.items():
        took, held = (
            (one["needed"] / use, one["seconds"]),
            (program + one["weights"] + kept * one["in_flight"], one["bytes"]),
        )
        cells = [f"{a:.2f}, {b:.2f} | {a / b - 1:+.0%}" for a, b in (took, (held[0] / 1e9, held[1] / 1e9))]
        lines.append(f"| {model} | {batch} | {' | '.join(cells)} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
