"""Prompts ready to be answered, and demonstrations shown in front of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

from transformers import PreTrainedTokenizerBase

from heed.data.encode import encode_prompts
from heed.data.hygiene import Room, clean, split_by_group, unlike
from heed.data.tally import Tally
from heed.data.template import Template
from heed.errors import ConfigError, DataError
from heed.records import SPEAKER_MARKERS, Dialogue, Prompt, Turn
from heed.settings.common import HygieneSettings

log = logging.getLogger("heed")


@dataclass(frozen=True)
class PromptSet:
    """Prompts, each with its tokens, and how many were dropped and why."""

    records: list[Prompt]
    tokens: list[list[int]]
    dropped: dict[str, int]


def prompt_set(
    records: Sequence[Prompt],
    hygiene: HygieneSettings,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    max_new_tokens: int,
    name: str = "",
    dropped: Tally | None = None,
) -> PromptSet:
    """Cleaned and encoded prompts, each of which leaves room in the context for a whole response.

    `name` (training, held-out) says in the log which they are; without one the file does. What goes is added to
    `dropped`, if that is given.
    """
    if max_new_tokens >= context:
        told = f"{max_new_tokens} leaves no room for a prompt in the model's {context} positions"
        raise ConfigError("sampling.max_new_tokens", told, f"lower it to {context // 2}")
    kept, report = clean(records, hygiene, template, tokenizer, Room(context, max_new_tokens), dropped)
    is_most = 2 * report.kept < report.read
    told = name or _file(records)
    log.log(logging.WARNING if is_most else logging.INFO, "%s%s", f"{told}: " if told else "", report)
    tokens = encode_prompts([record.prompt for record in kept], template, tokenizer)
    return PromptSet(kept, tokens, report.counts)


def cleaned_split(
    records: Sequence[Prompt],
    held_out: Sequence[Prompt],
    share: float,
    seed: int,
    hygiene: HygieneSettings,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    room: Room,
    dropped: Tally | None = None,
) -> tuple[PromptSet, PromptSet]:
    """(training, held out): cleaned first and split then, so that no prompt has a near duplicate on the other side.

    `held_out` are prompts of a file of their own; where there are none, a `share` of the groups is held out.
    Raises DataError where a side has no prompt left.
    """

    def cleaned(some: Sequence[Prompt], name: str) -> PromptSet:
        return prompt_set(some, hygiene, template, tokenizer, room.context, room.max_new_tokens, name, dropped)

    if not held_out:
        every = cleaned(records, "")
        parts = split_by_group(every.records, share, seed)
        training, apart = (_those_of(every, part) for part in parts)
        log.info("split: %s prompts to train on, %s held out", f"{len(parts[0]):,}", f"{len(parts[1]):,}")
        return training, apart
    training, apart = cleaned(records, "training"), cleaned(held_out, "held-out")
    left = unlike(training.records, apart.records, hygiene.shared_prefix)
    if not left:
        raise DataError("prompts", "every prompt is held out too", "give other prompts to train on")
    if len(left) < len(training.records):
        log.warning("left out %s prompts that are like a held-out one", f"{len(training.records) - len(left):,}")
    return _those_of(training, left), apart


def _those_of(whole: PromptSet, records: Sequence[Prompt]) -> PromptSet:
    """The part of a set that these of its records are."""
    chosen = {id(record) for record in records}
    places = [i for i, record in enumerate(whole.records) if id(record) in chosen]
    return PromptSet([whole.records[i] for i in places], [whole.tokens[i] for i in places], whole.dropped)


def _file(records: Sequence[Prompt]) -> str:
    """The file that the first record is from."""
    return records[0].where.rpartition(":")[0] if records else ""


def take_shots(records: Sequence[Prompt], count: int) -> tuple[Dialogue, list[Prompt]]:
    """`count` prompts with their reference answers as one dialogue to stand before others, and the prompts left over.

    They are the first ones whose reference is not longer than the median, so that several fit into a context.
    """
    if count == 0:
        return (), list(records)
    lengths = [len(record.reference) for record in records if record.reference]
    short = [r for r in records if r.reference and len(r.reference) <= median(lengths)][:count]
    if len(short) < count:
        told = f"{count} demonstrations are asked for, but {len(lengths)} prompts have a reference answer"
        raise ConfigError("few_shot", told, "give demonstrations as `prompts`, or set `few_shot` to 0")
    shown = tuple(turn for r in short for turn in (*r.prompt, Turn("assistant", r.reference or "")))
    return shown, [record for record in records if record not in short]


NEXT_TURN = (*SPEAKER_MARKERS, "\n\n### ")


def until_next_turn(text: str) -> tuple[str, bool]:
    """The words before the model goes on to write somebody else's turn, as models that are not fine-tuned do; and
    whether it did."""
    ends = [text.find(mark) for mark in NEXT_TURN if mark in text]
    return (text[: min(ends)].strip(), True) if ends else (text, False)
