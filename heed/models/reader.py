"""Do two checkpoints read alike? Only then may token ids that one wrote be given to the other."""

from __future__ import annotations

from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from heed.errors import CheckpointError
from heed.models.checkpoint import Checkpoint
from heed.models.load import context_length, load_config, load_tokenizer, vocabulary_size

SPECIAL = ("bos_token_id", "eos_token_id", "unk_token_id")


class Reader(NamedTuple):
    """What decides how a checkpoint reads: the template's name and hash (None: not told), its tokenizer, the entries
    that it has an embedding for, and the tokens that it sees at most."""

    name: str
    template: dict[str, Any] | None
    tokenizer: PreTrainedTokenizerBase
    rows: int
    context: int

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Reader:
        """From a checkpoint's files; loads no weights."""
        config, tokenizer = load_config(checkpoint.weights), load_tokenizer(checkpoint.path)
        template = checkpoint.metadata.get("template")
        return cls(checkpoint.name, template, tokenizer, vocabulary_size(config), context_length(config, tokenizer))


def same_reader(reader: Reader, writer: Reader, longest: int | None = None) -> str | None:
    """None where ids that `writer` wrote are the same text to `reader`, else the reason in words.

    `longest`: tokens that will be shown to it at most; without it, all that the writer can see.
    """
    if None not in (reader.template, writer.template) and reader.template != writer.template:
        names = [str((one.template or {}).get("name")) for one in (reader, writer)]
        same = " of other content" if names[0] == names[1] else ""
        return f"was trained with template {names[0]}, but {writer.name} with {names[1]}{same}"
    if reader.tokenizer.get_vocab() != writer.tokenizer.get_vocab():
        return f"its tokenizer has other entries than that of {writer.name}"
    for special in SPECIAL:
        own, other = getattr(reader.tokenizer, special), getattr(writer.tokenizer, special)
        if own != other:
            return f"its {special} is {own}, that of {writer.name} is {other}"
    if (own := _framed(reader.tokenizer)) != (other := _framed(writer.tokenizer)):
        return f"its tokenizer puts {own} around a text, that of {writer.name} {other}"
    if reader.rows < writer.rows:
        return f"has {reader.rows:,} embeddings, and {writer.name} draws from {writer.rows:,} tokens"
    if reader.context < (needed := longest or writer.context):
        return f"sees {reader.context:,} tokens, and is to read {needed:,} of {writer.name}"
    return None


def require_same_reader(reader: Checkpoint, writer: Checkpoint, longest: int | None = None) -> None:
    """Raise `CheckpointError` where ids of `writer` are not the same text to `reader`."""
    if reader.path != writer.path and (why := same_reader(Reader.of(reader), Reader.of(writer), longest)):
        raise CheckpointError(reader.name, why, f"give a model that was trained from {writer.name}, or from its base")


def _framed(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """What a tokenizer puts around every text by itself."""
    return list(tokenizer("")["input_ids"])
