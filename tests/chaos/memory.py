"""Does PPO's memory grow with its steps, and what does saving cost?

    python tests/chaos/memory.py --demo runs/demo          # 500 steps of the pocket model; `make memory`

Least squares over what the process holds after each step, the first fifth left out: libraries fill their caches in it.
Saving is timed by itself: at the default interval it happens every ten minutes. Exit code 0: below 1 MB a 100 steps,
and below 2 % of a run.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np

from heed.flows.demo import Place, ppo_settings
from heed.settings.demo import DemoSettings
from heed.stages import ppo
from heed.training.loop import SAVE_SECONDS, Loop
from heed.training.run_dir import RunDir

MOST_MB, MOST_SHARE = 1.0, 0.02


def held() -> float:
    """Megabytes that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def watch(memory: list[float], saves: list[float]) -> None:
    """From now on every step and every saving of a run adds a number."""
    record = Loop.record

    def recorded(self: Loop, *arguments: Any, **options: Any) -> None:
        record(self, *arguments, **options)
        memory.append(held())

    def timed(name: str) -> None:
        method = getattr(RunDir, name)

        def saved(self: RunDir, *arguments: Any, **options: Any) -> Any:
            started = time.perf_counter()
            found = method(self, *arguments, **options)
            saves.append(time.perf_counter() - started)
            return found

        setattr(RunDir, name, saved)

    Loop.record = recorded  # type: ignore[method-assign]
    timed("save_state")
    timed("save_checkpoint")


def slope(memory: list[float], block: int = 25) -> tuple[float, float]:
    """Megabytes a 100 steps, and its standard error from the residuals of means over blocks of steps."""
    kept = np.array(memory[len(memory) // 5 :])
    means = kept[: len(kept) // block * block].reshape(-1, block).mean(axis=1)
    steps = (np.arange(len(means)) + 0.5) * block / 100
    line = np.polyfit(steps, means, 1)
    rest = means - np.polyval(line, steps)
    error = np.sqrt(rest @ rest / (len(means) - 2) / ((steps - steps.mean()) ** 2).sum())
    return float(line[0]), float(error)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--demo", default="runs/demo", help="a demo's directory: its SFT and reward model are used")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--batch", type=int, default=16)
    asked = parser.parse_args()
    memory: list[float] = []
    saves: list[float] = []
    watch(memory, saves)
    with tempfile.TemporaryDirectory() as place:
        changes = {
            "output": f"{place}/run", "steps": asked.steps, "batch": asked.batch, "minibatch": asked.batch // 2,
            "microbatch": asked.batch, "save_every": 50, "evaluations": 5, "kl_budget": 0.0, "kl_coef": 0.5,
            "validation_limit": 32, "allow_biased_kl": True,
        }  # fmt: skip
        ppo.run(ppo_settings(Place(Path(asked.demo)), DemoSettings()).model_copy(update=changes))
    rise, error = slope(memory)
    share = (sum(saves) / (asked.steps / 50)) / SAVE_SECONDS  # a state and a checkpoint, every ten minutes
    print(f"{len(memory)} steps, {memory[-1]:.0f} MB at the end, {rise:+.3f} ± {error:.3f} MB a 100 steps")
    print(f"a saving takes {sum(saves) / (asked.steps / 50):.3f} s: {share:.3%} of a run at the default interval")
    return 1 if rise >= MOST_MB or share >= MOST_SHARE else 0


if __name__ == "__main__":
    sys.exit(main())
