"""Prompts that a policy is asked: with the tokens that every model reads for them, trained on or held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heed.data.batch import text_rows
from heed.data.encode import encode_texts
from heed.data.hygiene import Room
from heed.data.prompts import PromptSet, cleaned_split
from heed.data.sources import read_prompts, read_texts
from heed.data.tally import Tally
from heed.data.template import Template
from heed.errors import ConfigError, DataError
from heed.records import Prompt
from heed.settings.common import DataSettings, HygieneSettings


@dataclass(frozen=True)
class Question:
    """A prompt and the tokens that every model reads for it."""

    record: Prompt
    tokens: list[int]


def read_questions(
    prompts: DataSettings,
    validation: DataSettings,
    validation_share: float,
    validation_limit: int,
    hygiene: HygieneSettings,
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    context: int,
    max_new_tokens: int,
    seed: int,
    dropped: Tally,
) -> tuple[list[Question], list[Question]]:
    """Cleaned prompts to train on and held-out ones that are unlike them, tokenised; `dropped` is told of the others.

    Each leaves room for `max_new_tokens` in `context`. Held out are those of `validation`, or where it names none
    `validation_share` of the groups of `prompts`; at most `validation_limit`.
    """

    held_out = read_prompts(validation, seed, dropped) if validation.path else []
    training, apart = cleaned_split(
        read_prompts(prompts, seed, dropped), held_out, validation_share, seed, hygiene, template, tokenizer,
        Room(context, max_new_tokens), dropped,
    )  # fmt: skip
    return questions_of(training), questions_of(apart)[:validation_limit]


def questions_of(prompts: PromptSet) -> list[Question]:
    """Prompts with their tokens."""
    return [Question(record, tokens) for record, tokens in zip(prompts.records, prompts.tokens, strict=True)]


def read_text(files: Sequence[str], sequence: int, tokenizer: PreTrainedTokenizerBase, context: int) -> Tensor:
    """Pretraining text for PPO-ptx, `[rows, sequence]`; at least one row, which fits the context."""
    if sequence > context:
        raise ConfigError("ptx.sequence", f"{sequence} is more than the model's {context}", f"lower it to {context}")
    rows = text_rows(encode_texts(read_texts(files), tokenizer), sequence, tokenizer.eos_token_id)
    if not len(rows):
        told = f"has fewer tokens than the {sequence} of one row"
        raise DataError(", ".join(files), told, "name files with more text, or lower `ptx.sequence`")
    return rows
