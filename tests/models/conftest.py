"""A loaded trunk, and prompts and responses with ordinary tokens as padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from heed.batches import PromptBatch, Responses
from heed.models.checkpoint import open_checkpoint
from heed.models.trunk import Trunk

CPU = torch.device("cpu")


@pytest.fixture
def trunk(tiny_directory: Path) -> Trunk:
    return Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, CPU)


@pytest.fixture
def prompts() -> PromptBatch:
    """Three prompts of 5, 3 and 1 tokens; the padding is an ordinary token, which must not matter."""
    tokens = torch.tensor([[40, 41, 42, 43, 44], [9, 9, 50, 51, 52], [9, 9, 9, 9, 60]])
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 0, 1, 1, 1], [0, 0, 0, 0, 1]]).bool()
    return PromptBatch(tokens, mask)


@pytest.fixture
def responses() -> Responses:
    """Of 4, 2 (ended) and 1 (ended) tokens, padded with an ordinary token."""
    tokens = torch.tensor([[70, 71, 72, 73], [80, 0, 7, 7], [0, 7, 7, 7]])
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]]).bool()
    return Responses(tokens, mask, torch.zeros(tokens.shape))
