"""A tokenizer held against the model that reads it: which ids have an embedding, which pads, which end an answer."""

from __future__ import annotations

import logging
from collections.abc import Iterable

from transformers import GenerationConfig, PreTrainedTokenizerBase

from heed.errors import CheckpointError

# Names by which tokenizers call a padding or a never-used token. "ÿ" and "<0xFF>" are byte 0xFF, which no valid UTF-8
# text contains: GPT-2 has no pad token of its own, and pad must not be EOS.
PAD_NAMES = (
    "<|pad|>", "<pad>", "[PAD]", "<|finetune_right_pad_id|>", "<|reserved_special_token_0|>", "<unk>", "[UNK]",
    "<|unk|>", "ÿ", "<0xFF>",
)  # fmt: skip

log = logging.getLogger("heed")


def has_pad(tokenizer: PreTrainedTokenizerBase, rows: int) -> bool:
    """Whether a tokenizer's own pad token can be used: an entry with an embedding, and not end-of-text."""
    pad = tokenizer.pad_token_id
    return pad is not None and pad != tokenizer.eos_token_id and pad < rows


def unused_entry(tokenizer: PreTrainedTokenizerBase, rows: int) -> str | None:
    """An entry that no text becomes, to pad with; None where the vocabulary has none that is known by name."""
    vocabulary = tokenizer.get_vocab()
    found = (name for name in PAD_NAMES if vocabulary.get(name, rows) < rows and name != tokenizer.eos_token)
    return next(found, None)


def pad_entry(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> str:
    """`unused_entry`, or a `CheckpointError`."""
    if (found := unused_entry(tokenizer, rows)) is None:
        told = "its tokenizer has no pad token other than its end-of-text token that the model has an embedding for"
        raise CheckpointError(name, told, "name a rare entry of its vocabulary as `pad_token` in tokenizer_config.json")
    return found


def check_vocabulary(tokenizer: PreTrainedTokenizerBase, rows: int, name: str) -> None:
    """Raise `CheckpointError` where text can become an id for which the model has no embedding.

    Special entries that neither the chat template nor the tokenizer itself writes are harmless: text never becomes
    them, because what a user wrote is never read as a special token.
    """
    beyond = {entry: i for entry, i in tokenizer.get_vocab().items() if i >= rows}
    if not beyond:
        return
    written = {tokenizer.eos_token_id, tokenizer.bos_token_id, tokenizer.unk_token_id, *tokenizer("")["input_ids"]}
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    template = str(tokenizer.chat_template or "")
    harm = [entry for entry, i in beyond.items() if i not in special or i in written or entry in template]
    if harm:
        told = (
            f"its tokenizer has other entries than the model's {rows:,} embeddings: {len(harm)}, such as {min(harm)!r}"
        )
        hint = "resize the embeddings (resize_token_embeddings) and save the model, or use its own tokenizer"
        raise CheckpointError(name, told, hint)


def stop_ids(tokenizer: PreTrainedTokenizerBase, configs: Iterable[GenerationConfig], rows: int) -> frozenset[int]:
    """The ids that end an answer: the tokenizer's end-of-text, and the special tokens that a generation config names.

    Chat models often have several: `<eos>` and `<end_of_turn>`. An ordinary entry would cut answers in the middle.
    """
    named: set[int] = set()
    for config in configs:
        told = config.eos_token_id
        named.update(told if isinstance(told, list) else [] if told is None else [told])
    special = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    if ordinary := sorted(named - special - {tokenizer.eos_token_id}):
        log.debug("generation_config.json ends answers at ordinary entries, which is not followed: %s", ordinary)
    return frozenset({tokenizer.eos_token_id, *(i for i in named & special if i < rows)})
