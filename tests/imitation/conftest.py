from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heed.models.policy import Policy
from heed.models.roles import Shelf


@pytest.fixture
def base(tiny_directory: Path) -> Policy:
    """The tiny base model, to be fine-tuned."""
    return Shelf(lambda parameters: torch.float32, torch.device("cpu")).policy(str(tiny_directory), "sft")
