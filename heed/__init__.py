"""The whole InstructGPT loop: demonstrations → SFT → rankings → reward model → PPO. `docs/python.md` shows it."""

from __future__ import annotations

from heed.api import (
    best_of_n,
    demo,
    diagnose,
    evaluate,
    evaluate_reward,
    load_policy,
    load_reward,
    ppo,
    pretrain,
    read_run,
    resume,
    reward,
    sample,
    score,
    sft,
)

__all__ = [
    "best_of_n", "demo", "diagnose", "evaluate", "evaluate_reward", "load_policy", "load_reward", "ppo", "pretrain",
    "read_run", "resume", "reward", "sample", "score", "sft",
]  # fmt: skip
