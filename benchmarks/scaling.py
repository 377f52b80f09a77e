"""Does the cost of PPO grow with the work, and with nothing else? Steps of a small model, larger and larger ones.

    python benchmarks/scaling.py [--place build/bench] [--steps 4]

Weights are random, prompts are a few words, and an answer almost never ends before its last token. Sizes take turns, so
that a slow minute of the machine meets all of them; a line each: counted tokens a step, samples and tokens a second
(medians), and the same a unit of work beside the smallest size. The last line is the slope of a long run's step time.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sides.heed_side import settings
from sides.inputs import SHAPES, Shape, write

import heed

FACTORS = (1, 2, 4, 8)
BATCH, RESPONSE = 32, 8
LONG = 200  # steps of the run whose slope is told


def run(place: Path, shape: Shape, steps: int) -> list[dict[str, Any]]:
    """Rows of `timings.jsonl` joined with how long answers were; the first step is left out: libraries prepare
    themselves in it."""
    with tempfile.TemporaryDirectory() as output:
        asked = {**settings("ppo", place, shape), "steps": steps, "save_every": 0}
        heed.ppo(**asked, output=output, overwrite=True, device="cpu")
        read = [(Path(output) / name).read_text().splitlines() for name in ("timings.jsonl", "metrics.jsonl")]
    rows = [{**json.loads(metrics), **json.loads(timing)} for timing, metrics in zip(*read, strict=True)]
    return rows[1:]


def slope(seconds: Sequence[float]) -> tuple[float, float]:
    """Least squares: the rise of a step's time over the whole run as a share of its mean, and its standard error."""
    count, mean = len(seconds), statistics.fmean(seconds)
    places = [i - (count - 1) / 2 for i in range(count)]
    square = sum(place * place for place in places)
    found = sum(place * second for place, second in zip(places, seconds, strict=True)) / square
    left = [second - mean - found * place for place, second in zip(places, seconds, strict=True)]
    error = (sum(one * one for one in left) / (count - 2) / square) ** 0.5
    return found * count / mean, error * count / mean


def main() -> None:
    """Every size in turns, then one long run."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--place", default="build/bench")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--long", type=int, default=LONG)
    asked = parser.parse_args()
    plain = replace(SHAPES["pocket"], batch=BATCH, response=RESPONSE)
    place = Path(asked.place) / "pocket"
    write(place, SHAPES["pocket"])
    sizes = {("batch", factor): replace(plain, batch=BATCH * factor) for factor in FACTORS}
    sizes |= {("response", factor): replace(plain, response=RESPONSE * factor) for factor in FACTORS[1:]}
    found: dict[tuple[str, int], list[dict[str, Any]]] = {size: [] for size in sizes}
    for _ in range(asked.rounds):
        for size, shape in sizes.items():
            found[size] += run(place, shape, asked.steps)
    for (name, factor), rows in found.items():
        step = statistics.median(row["time/step"] for row in rows)
        batch = sizes[name, factor].batch
        length = statistics.fmean(row["length/mean"] for row in rows)
        print(f"{name:<8} x{factor}  batch {batch:>3}  answers {length:5.1f} tokens  {step:6.3f} s a step  "
              f"{batch / step:6.1f} samples/s  {batch * length / step:7.0f} tokens/s")  # fmt: skip
    rise, error = slope([row["time/step"] for row in run(place, plain, asked.long)])
    print(f"over {asked.long} steps a step's time rises by {rise:+.1%} (standard error {error:.1%})")


if __name__ == "__main__":
    main()
