"""What an SFT run learns from: demonstrations, held-out ones, rows of running text; and in which order."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heed.data.batch import text_rows
from heed.data.encode import EncodedDemonstration, encode_demonstrations, encode_texts
from heed.data.hygiene import clean, split_by_group
from heed.data.order import shuffled_batches
from heed.data.sources import read_demonstrations, read_texts
from heed.data.template import Template
from heed.errors import DataError
from heed.models.policy import Policy
from heed.records import Demonstration
from heed.settings.common import DataSettings, HygieneSettings

TEXT_SEQUENCE = 128  # tokens in a row of mixed-in text, or the context if that is shorter

log = logging.getLogger("heed")


class Records(NamedTuple):
    """Cleaned demonstrations; no group is on both sides."""

    training: list[Demonstration]
    held_out: list[Demonstration]


class Examples(NamedTuple):
    """What the model reads: demonstrations to learn, held-out ones, and rows of running text (or none)."""

    training: list[EncodedDemonstration]
    held_out: list[EncodedDemonstration]
    text: Tensor | None
    too_long: dict[str, int]


def read_splits(
    data: DataSettings,
    validation: DataSettings,
    validation_share: float,
    hygiene: HygieneSettings,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    seed: int,
) -> Records:
    """Training and held-out demonstrations, cleaned. Held out are those of `validation`, or where it names none
    `validation_share` of the groups of `data`."""

    def cleaned(source: DataSettings) -> list[Demonstration]:
        records, report = clean(read_demonstrations(source, seed), hygiene, template, tokenizer)
        log.info("%s: %s", source.path, report)
        return records

    records = cleaned(data)
    if not validation.path:
        return Records(*split_by_group(records, validation_share, seed))
    held_out = cleaned(validation)
    groups = {record.group for record in held_out}
    training = [record for record in records if record.group not in groups]
    if len(training) < len(records):
        log.warning("left out %d demonstrations whose prompt is held out", len(records) - len(training))
    if not training:
        raise DataError(data.path, "every prompt is held out too", "give other demonstrations to train on")
    return Records(training, held_out)


def read_mixed_text(files: Sequence[str], share: float, epochs: float, training: Sequence[Demonstration]) -> list[str]:
    """Documents to mix in: about twice what the run needs at their share of the tokens, so that huge files are not read
    whole."""
    if not share:
        return []
    answers = epochs * sum(len(record.response) for record in training)
    return read_texts(files, max(10_000, math.ceil(2 * (answers * share / (1 - share)))))


def encode(
    records: Records, documents: list[str], base: Policy, template: Template, max_tokens: int
) -> tuple[Records, Examples]:
    """Everything as tokens, and the records that are left: a demonstration that does not fit is dropped, never cut."""
    tokenizer, room = base.trunk.tokenizer, min(max_tokens, base.trunk.context)
    kept, examples, too_long = [], [], {}
    for name, rows in records._asdict().items():
        encoded = encode_demonstrations(rows, template, tokenizer)
        fits = [len(example.tokens) <= room for example in encoded]
        kept.append([row for row, fit in zip(rows, fits, strict=True) if fit])
        examples.append([example for example, fit in zip(encoded, fits, strict=True) if fit])
        too_long[name] = len(rows) - len(kept[-1])
        if not kept[-1]:
            told = f"none of the {len(rows)} {name} demonstrations is as short as {room} tokens"
            raise DataError("max_tokens", told, "raise `max_tokens`, or use a model with a longer context")
    dropped = sum(too_long.values())
    log.log(logging.WARNING if dropped else logging.INFO, "dropped %d demonstrations above %d tokens", dropped, room)
    text = text_rows(encode_texts(documents, tokenizer), min(TEXT_SEQUENCE, room), tokenizer.eos_token_id)
    if documents and not len(text):
        raise DataError("pretrain_text", "has fewer tokens than one row", "name files with more text")
    return Records(*kept), Examples(*examples, text if documents else None, too_long)


def draw_batches(
    examples: Examples, batch: int, epochs: float, share: float, seed: int
) -> list[dict[str, list[EncodedDemonstration]]]:
    """What each step learns: `batch` demonstrations (`train`) and, if text is mixed in, rows of it (`text`), so many
    that they make up `share` of the tokens that count so far, to within one row."""
    numbers = shuffled_batches(len(examples.training), batch, epochs, seed)
    batches = [{"train": [examples.training[i] for i in rows]} for rows in numbers]
    if examples.text is None:
        return batches
    owed, rows = 0.0, text_examples(examples.text, seed)
    for parts in batches:
        owed += counted(parts["train"]) * share / (1 - share)
        parts["text"] = []
        while owed > 0:
            parts["text"].append(next(rows))
            owed -= counted(parts["text"][-1:])
    return batches


def text_examples(text: Tensor, seed: int) -> Iterator[EncodedDemonstration]:
    """Rows of running text without end, each pass in an order of its own; every token counts but the first."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for row in text[torch.randperm(len(text), generator=generator)]:
            yield EncodedDemonstration(row.tolist(), response_start=1)


def counted(examples: Sequence[EncodedDemonstration]) -> int:
    """Tokens that the loss is taken on."""
    return sum(len(example.tokens) - example.response_start for example in examples)
