"""Two tokenizers built here, without a network, and the place of real data where there is some."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

CORPUS = [
    "Human: Name a fruit that is red.\n\nAssistant: A strawberry is red. How about a cherry?",
    "Below is an instruction that describes a task. ### Instruction: ### Input: ### Response:",
    "the and of to in is you that it he was for on are as with his they I at be this have from",
]


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE in the manner of GPT-2: any text, no beginning-of-text token."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<|endoftext|>", "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|endoftext|>", pad_token="<|pad|>")


@pytest.fixture(scope="session")
def word_tokenizer() -> PreTrainedTokenizerFast:
    """One entry a word, end of text among them."""
    words = ["<|endoftext|>", "<|pad|>", "<|unknown|>", "name", "a", "fruit", "pear"]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<|unknown|>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="<|endoftext|>", pad_token="<|pad|>", unk_token="<|unknown|>"
    )


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data, where `HEED_DATA_DIR` names it."""
    if "HEED_DATA_DIR" not in os.environ:
        pytest.skip("HEED_DATA_DIR is not set")
    return Path(os.environ["HEED_DATA_DIR"])
