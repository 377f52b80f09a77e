from __future__ import annotations

import pytest
import torch

from heed.errors import RunError
from heed.models.roles import Shelf
from heed.models.scalar_head import RewardModel
from heed.preference.normalise import normalise
from heed.settings.common import SamplingSettings


def test_normalisation_needs_samples_that_differ(tiny_runs: tuple[str, str]) -> None:
    """Raw scores that are all alike have no unit."""
    policy = Shelf(lambda _: torch.float32, torch.device("cpu")).policy(tiny_runs[0], "sft")
    head = torch.nn.Linear(32, 1, bias=False).requires_grad_(False)
    torch.nn.init.zeros_(head.weight)
    with pytest.raises(RunError, match="the SFT model's samples score the same for all 2 answers: 0"):
        normalise(
            RewardModel(policy.trunk, "sft", head), policy, [[5], [6]], [], SamplingSettings(max_new_tokens=2), 100,
            torch.Generator(),
        )  # fmt: skip
