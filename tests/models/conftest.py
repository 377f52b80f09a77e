"""A loaded trunk, a small Llama with a head of its own, and prompts and responses with ordinary tokens as padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from heed.batches import PromptBatch, Responses
from heed.models.checkpoint import open_checkpoint
from heed.models.trunk import Trunk

CPU = torch.device("cpu")


@pytest.fixture
def trunk(tiny_directory: Path) -> Trunk:
    return Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, CPU)


@pytest.fixture(scope="session")
def llama(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reads as `tiny_directory` does; its output layer is not its embedding."""
    path = tmp_path_factory.mktemp("llama")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=258, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=64, bos_token_id=0, eos_token_id=0, pad_token_id=1,
        initializer_range=0.2,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(path)
    AutoTokenizer.from_pretrained(tiny_directory).save_pretrained(path)
    return path


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
