"""A doctor beside two adapters of one tiny trunk, and rollouts for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from heed.clinic.live import LiveDoctor
from heed.models.answers import left_padded
from heed.models.policy import compare
from heed.models.roles import Roles
from heed.records import Prompt, Turn
from heed.rl.rollout import Question, Rollout

CPU = torch.device("cpu")


def watching(roles: Roles, path: Path, **changes: Any) -> LiveDoctor:
    options = {"batch": 32, "longest": 10, "temperature": 1.0, "microbatch": 16, "seed": 0, "kl_target": 0.0,
               "allow_biased_kl": False, "path": path}  # fmt: skip
    return LiveDoctor(roles.policy, roles.reference, None, **{**options, **changes})


def rollout(
    roles: Roles, doctor: LiveDoctor, seed: int = 1, count: int = 32, longest: int = 0, drawn_at: float = 1.0
) -> Rollout:
    """`count` rows; `longest`: the last prompt has so many tokens, and pads all others to them."""
    asked = [[2 + (7 * i + j) % 250 for j in range(1 + i % 7)] for i in range(count)]
    asked[-1] = asked[-1] if not longest else [2 + j for j in range(longest)]
    prompts = left_padded(asked, 1, CPU)
    responses = roles.policy.generate(prompts, 10, drawn_at, torch.Generator().manual_seed(seed))
    scored = compare(roles.policy, roles.reference, prompts, responses, 1.0, doctor.observers(prompts, responses))
    none = torch.zeros(count)
    questions = [Question(Prompt((Turn("user", "-"),)), tokens) for tokens in asked]
    return Rollout(questions, prompts, responses, none.bool(), scored, torch.zeros(responses.mask.shape), none, none)
