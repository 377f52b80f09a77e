"""What an SFT run reads, and which of it each optimiser step learns from."""

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
from heed.data.sources import read_demonstrations, read_texts
from heed.data.template import Template
from heed.errors import DataError
from heed.models.policy import Policy
from heed.records import Demonstration
from heed.settings.common import DataSettings
from heed.settings.sft import SFTSettings
from heed.training.order import shuffled_batches

TEXT_SEQUENCE = 128  # tokens in a row of mixed-in text, or the context if that is shorter

log = logging.getLogger("heed")


class Records(NamedTuple):
    """Cleaned demonstrations; no group is on both sides."""

    training: list[Demonstration]
    held_out: list[Demonstration]


class Lessons(NamedTuple):
    """What the model reads: demonstrations to learn, held-out ones, and rows of running text (or none)."""

    training: list[EncodedDemonstration]
    held_out: list[EncodedDemonstration]
    text: Tensor | None
    too_long: dict[str, int]


def read_splits(settings: SFTSettings, template: Template, tokenizer: PreTrainedTokenizerBase) -> Records:
    """Training and held-out demonstrations, cleaned."""

    def cleaned(source: DataSettings) -> list[Demonstration]:
        records, report = clean(read_demonstrations(source, settings.seed), settings.hygiene, template, tokenizer)
        log.info("%s: %s", source.path, report)
        return records

    records = cleaned(settings.data)
    if not settings.validation.path:
        return Records(*split_by_group(records, settings.validation_share, settings.seed))
    held_out = cleaned(settings.validation)
    groups = {record.group for record in held_out}
    training = [record for record in records if record.group not in groups]
    if len(training) < len(records):
        log.warning("left out %d demonstrations whose prompt is held out", len(records) - len(training))
    if not training:
        raise DataError(settings.data.path, "every prompt is held out too", "give other demonstrations to train on")
    return Records(training, held_out)


def read_mixed_text(training: Sequence[Demonstration], settings: SFTSettings) -> list[str]:
    """Documents to mix in: about twice what the run needs at its share, so that huge files are not read whole."""
    if not settings.pretrain_share:
        return []
    answers = settings.epochs * sum(len(record.response) for record in training)
    needed = answers * settings.pretrain_share / (1 - settings.pretrain_share)
    return read_texts(settings.pretrain_text, max(10_000, math.ceil(2 * needed)))


def encode(
    records: Records, documents: list[str], base: Policy, template: Template, settings: SFTSettings
) -> tuple[Records, Lessons]:
    """Everything as tokens, and the records that are left: a demonstration that does not fit is dropped, never cut."""
    tokenizer, room = base.trunk.tokenizer, min(settings.max_tokens, base.trunk.context)
    kept, lessons, too_long = [], [], {}
    for name, rows in records._asdict().items():
        encoded = encode_demonstrations(rows, template, tokenizer)
        fits = [len(lesson.tokens) <= room for lesson in encoded]
        kept.append([row for row, fit in zip(rows, fits, strict=True) if fit])
        lessons.append([lesson for lesson, fit in zip(encoded, fits, strict=True) if fit])
        too_long[name] = len(rows) - len(kept[-1])
        if not kept[-1]:
            told = f"none of the {len(rows)} {name} demonstrations is as short as {room} tokens"
            raise DataError("max_tokens", told, "raise `max_tokens`, or use a model with a longer context")
    dropped = sum(too_long.values())
    log.log(logging.WARNING if dropped else logging.INFO, "dropped %d demonstrations above %d tokens", dropped, room)
    text = text_rows(encode_texts(documents, tokenizer), min(TEXT_SEQUENCE, room), tokenizer.eos_token_id)
    if documents and not len(text):
        raise DataError("pretrain_text", "has fewer tokens than one row", "name files with more text")
    return Records(*kept), Lessons(*lessons, text if documents else None, too_long)


def draw_batches(lessons: Lessons, settings: SFTSettings) -> list[dict[str, list[EncodedDemonstration]]]:
    """What each step learns: `batch` demonstrations (`train`) and, if text is mixed in, rows of it (`text`), so many
    that they make up `pretrain_share` of the tokens that count so far, to within one row."""
    numbers = shuffled_batches(len(lessons.training), settings.batch, settings.epochs, settings.seed)
    batches = [{"train": [lessons.training[i] for i in rows]} for rows in numbers]
    if lessons.text is None:
        return batches
    share, owed = settings.pretrain_share, 0.0
    rows = text_lessons(lessons.text, settings.seed)
    for parts in batches:
        owed += counted(parts["train"]) * share / (1 - share)
        parts["text"] = []
        while owed > 0:
            parts["text"].append(next(rows))
            owed -= counted(parts["text"][-1:])
    return batches


def text_lessons(text: Tensor, seed: int) -> Iterator[EncodedDemonstration]:
    """Rows of running text without end, each pass in an order of its own; every token counts but the first."""
    generator = torch.Generator().manual_seed(seed)
    while True:
        for row in text[torch.randperm(len(text), generator=generator)]:
            yield EncodedDemonstration(row.tolist(), response_start=1)


def counted(lessons: Sequence[EncodedDemonstration]) -> int:
    """Tokens that the loss is taken on."""
    return sum(len(lesson.tokens) - lesson.response_start for lesson in lessons)
