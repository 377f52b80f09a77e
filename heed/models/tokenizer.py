"""Tokenizers trained on a run's own text, in the layout that `AutoTokenizer` opens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from heed.errors import ConfigError

END, PAD, UNKNOWN = "<|endoftext|>", "<|pad|>", "<|unk|>"  # ids 0, 1 and, for words, 2
READ_CHARACTERS = 20_000_000  # more text changes the entries little and costs minutes

WORD = r"[\p{L}\p{N}_]+(?:['’\-][\p{L}\p{N}_]+|[.,]\p{N}+)*"  # don't, well-known and 1,000.5 are one word each
OPENING = r"(\[{"


def train_tokenizer(
    kind: Literal["bytes", "words"], documents: Sequence[str], vocabulary: int, context: int
) -> PreTrainedTokenizerFast:
    """A tokenizer of at most `vocabulary` entries, special ones included; one of them begins and ends texts.

    bytes: byte-level BPE as GPT-2's, lossless for every text. words: `word_tokenizer`.
    Raises ConfigError where the vocabulary has no room for what every text needs.
    """
    if kind == "bytes":
        core, special, least = _byte_tokenizer(), [END, PAD], 2 + 256
        trainer: trainers.Trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=special,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    else:
        core, special, least = word_tokenizer(), [END, PAD, UNKNOWN], 3 + 1
        trainer = trainers.WordLevelTrainer(vocab_size=vocabulary, special_tokens=special, show_progress=False)
    if vocabulary < least:
        raise ConfigError("vocabulary", f"{vocabulary} is too small for {kind}", f"give at least {least}")
    core.train_from_iterator(_sample(documents), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=END,
        eos_token=END,
        pad_token=PAD,
        unk_token=UNKNOWN if UNKNOWN in special else None,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def word_tokenizer() -> Tokenizer:
    """Words, marks and newlines, one entry each; the space between them belongs to none, so `red` has one entry.

    Reading back, a space goes before every word and opening bracket, except at the start of the text, of a line and
    after an opening bracket. Text that is spaced so comes back as it was; other spacing and unknown words are lost.
    """
    core = Tokenizer(models.WordLevel(unk_token=UNKNOWN))
    core.pre_tokenizer = pre_tokenizers.Split(Regex(rf"{WORD}|\n|\S"), "removed", invert=True)
    core.decoder = decoders.Sequence(
        [
            decoders.Replace(Regex(rf"^(?=[\p{{L}}\p{{N}}_{OPENING}]|<\|)"), " "),
            decoders.Fuse(),
            decoders.Replace(Regex(rf"^ |(?<=[\n{OPENING}]) "), ""),
        ]
    )
    return core


def _byte_tokenizer() -> Tokenizer:
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    return core


def _sample(documents: Sequence[str]) -> Iterator[str]:
    """Documents from the first on, until there are `READ_CHARACTERS`."""
    left = READ_CHARACTERS
    for document in documents:
        yield document[:left]
        left -= len(document)
        if left <= 0:
            return
