"""A GPT-2 of a few thousand weights with a tokenizer of its own, in the layout that `from_pretrained` opens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from heed.batches import PromptBatch
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.sampler import Responses
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings

CPU = torch.device("cpu")
LORA = LoraSettings(rank=4, alpha=8)


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Vocabulary: end-of-text 0, pad 1, then 256 bytes. Weights are large, so that logits are far from uniform."""
    path = tmp_path_factory.mktemp("tiny")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<|endoftext|>", "<|pad|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", pad_token="<|pad|>"
    ).save_pretrained(path)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(vocabulary), n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        pad_token_id=1, initializer_range=0.3,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(path)
    return path


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


def disturb(policy: Policy, size: float = 0.05, seed: int = 0) -> None:
    """Move the trained weights a little, so that the adapter does something."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in policy.parameters().values():
        parameter.data += size * torch.randn(parameter.shape, generator=generator)
