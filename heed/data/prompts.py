"""Prompts ready to be answered, and demonstrations shown in front of them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import median

from transformers import PreTrainedTokenizerBase

from heed.data.encode import encode_prompts
from heed.data.hygiene import clean
from heed.data.template import Template
from heed.errors import ConfigError
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
) -> PromptSet:
    """Cleaned and encoded prompts, each of which leaves room in the context for a whole response."""
    if max_new_tokens >= context:
        told = f"{max_new_tokens} leaves no room for a prompt in the model's {context} positions"
        raise ConfigError("sampling.max_new_tokens", told, f"lower it to {context // 2}")
    fitting = hygiene.model_copy(update={"max_prompt_tokens": min(hygiene.max_prompt_tokens, context - max_new_tokens)})
    kept, report = clean(records, fitting, template, tokenizer)
    log.info("%s", report)
    tokens = encode_prompts([record.prompt for record in kept], template, tokenizer)
    counts = {name: count for name, count in asdict(report).items() if name != "read"}
    return PromptSet(kept, tokens, counts)


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
