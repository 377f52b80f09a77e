"""Models for the doctor, of whose tokenizers no more is needed than the ids of padding and end-of-text."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from heed.errors import CheckpointError
from heed.models.checkpoint import Checkpoint, open_checkpoint
from heed.models.load import load_causal_lm, load_tokenizer, parameter_count
from heed.models.roles import Shelf
from heed.models.trunk import Trunk


@dataclass(frozen=True)
class TwoIds:
    """What a file of rollouts knows of a tokenizer."""

    pad_token_id: int
    eos_token_id: int | None


def put_on(shelf: Shelf, name: str, pad: int | None, eos: tuple[int, ...]) -> None:
    """Load the weights under a checkpoint, with its tokenizer, its base's, or the ids of the file."""
    checkpoint = open_checkpoint(name, "policy")
    under = checkpoint.weights
    place = str(Path(under).resolve()) if Path(under).is_dir() else under
    if place in shelf.trunks or _has_tokenizer(checkpoint.path):
        return
    tokenizer = _tokenizer(checkpoint, pad, eos)
    model, _ = load_causal_lm(under, shelf.pick(parameter_count(under)), shelf.device)
    shelf.trunks[place] = Trunk(model, tokenizer, under)


def _has_tokenizer(path: str) -> bool:
    return not Path(path).is_dir() or any(
        (Path(path) / file).is_file() for file in ("tokenizer_config.json", "tokenizer.json", "vocab.json")
    )


def _tokenizer(checkpoint: Checkpoint, pad: int | None, eos: tuple[int, ...]) -> PreTrainedTokenizerBase:
    """Raises CheckpointError where neither the base nor the file knows."""
    if checkpoint.base is not None and _has_tokenizer(checkpoint.base):
        return load_tokenizer(checkpoint.base)
    if pad is None:
        hint = "write `pad_id` and `eos_id` into the rows, or copy the tokenizer's files there"
        raise CheckpointError(checkpoint.name, "has no tokenizer, and the file has no `pad_id`", hint)
    return cast(Any, TwoIds(pad, eos[0] if eos else None))
