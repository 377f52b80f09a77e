"""Policy and reference for the doctor's tests."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside this file are found by nothing else

from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.roles import Roles, trained_copy
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings

CPU = torch.device("cpu")


@pytest.fixture
def roles(tiny_directory: Path) -> Roles:
    """Policy and reference as two adapters of one trunk, a little apart. There is no need to score."""
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, CPU)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        trunk.model.transformer.wte.weight.mul_(0.6)  # milder logits
    reference = trained_copy(Policy(trunk), "reference", LoraSettings(rank=4, alpha=8))
    policy = trained_copy(reference, "policy", LoraSettings(rank=4, alpha=8))
    with torch.no_grad():
        for model in (reference, policy):
            for parameter in model.parameters().values():
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return Roles(policy, reference, cast(Any, None), cast(Any, None))
