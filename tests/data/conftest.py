"""Two tokenizers built here, without a network, and the place of real data where there is some."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from tokenizers.processors import TemplateProcessing
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
def beginning_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The byte-level one, which now puts a beginning-of-text token before every text."""
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"bos_token": "<|begin|>"})
    own.backend_tokenizer.post_processor = TemplateProcessing(
        single="<|begin|> $A", special_tokens=[("<|begin|>", own.bos_token_id)]
    )
    return own


@pytest.fixture(scope="session", params=["always", "first"])
def spaced_tokenizer(request: pytest.FixtureRequest) -> PreTrainedTokenizerFast:
    """In the manner of Llama 2: a space is put before whatever text it is given (later: before what begins a text),
    `<s>` before that."""
    core = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="never")
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    core.train_from_iterator([f" {line}" for line in CORPUS], trainer)
    told = json.loads(core.to_str()) | {"pre_tokenizer": None}
    told["added_tokens"] = told["added_tokens"][:3]
    core = Tokenizer.from_str(json.dumps(told))
    if request.param == "always":
        core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="first", split=True)
    core.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


@pytest.fixture(scope="session")
def unigram_tokenizer() -> PreTrainedTokenizerFast:
    """A vocabulary of pieces with scores, in which `</s>` is the likeliest piece of the text `</s>`."""
    core = Tokenizer(models.Unigram())
    core.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    letters = sorted(set("".join(CORPUS) + "</s>|0123456789"))
    trainer = trainers.UnigramTrainer(
        vocab_size=150, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False,
        initial_alphabet=letters,
    )  # fmt: skip
    core.train_from_iterator(CORPUS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


CHAT = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="session")
def chat_tokenizer(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """The byte-level one with a chat template of its own."""
    own = copy.deepcopy(tokenizer)
    own.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    own.chat_template = CHAT
    return own


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real data, where `HEED_DATA_DIR` names it."""
    if "HEED_DATA_DIR" not in os.environ:
        pytest.skip("HEED_DATA_DIR is not set")
    return Path(os.environ["HEED_DATA_DIR"])
