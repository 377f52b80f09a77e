"""The controls of `kills.py`: states that lack a part, each of which must be caught.

    python tests/chaos/controls.py

A build that saves and does not read again: PPO's policy (moments, averaged weights), critic, price of KL (β), order of
the prompts (data position), held-out answers, doctor, random generators; and the moments of SFT, the reward model and
pretraining. Exit code 0: with each of them some killed run ended otherwise. Steps of SFT are short beside its start, so
that most kills come before its first state: eight of them caught nothing once, twenty-four did.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

KILLS = Path(__file__).with_name("kills.py")
FORGOTTEN = (
    ("ppo", "policy.optimizer"), ("ppo", "policy.average"), ("ppo", "critic"), ("ppo", "price"), ("ppo", "order"),
    ("ppo", "held_out"), ("ppo", "doctor"), ("ppo", "random"), ("sft", "optimizer"), ("reward", "optimizer"),
    ("pretrain", "optimizer"),
)  # fmt: skip


def main() -> int:
    missed = 0
    for stage, part in FORGOTTEN:
        kills = "8" if stage == "ppo" else "24"
        command = [sys.executable, str(KILLS), "--kills", kills, "--stages", stage, "--forget", part]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        is_caught = done.returncode == 1 and "runs differ" in done.stdout
        missed += not is_caught
        last = (done.stdout + done.stderr).strip().splitlines()[-1:]
        print(f"{stage} without {part}: {'caught' if is_caught else 'NOT CAUGHT'}, {' '.join(last)}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
