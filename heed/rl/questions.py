"""Prompts that a policy is asked: with the tokens that every model reads for them, trained on or held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heed.data.batch import text_rows
from heed.data.encode import encode_texts
from heed.data.hygiene import split_by_group
from heed.data.prompts import prompt_set
from heed.data.sources import read_prompts, read_texts
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
) -> tuple[list[Question], list[Question]]:
    """Cleaned prompts to train on and held-out ones that share no group with them, tokenised.

    Each leaves room for `max_new_tokens` in `context`. Held out are those of `validation`, or where it names none
    `validation_share` of the groups of `prompts`; at most `validation_limit`.
    """

    def questions(records: list[Prompt]) -> list[Question]:
        kept = prompt_set(records, hygiene, template, tokenizer, context, max_new_tokens)
        return [Question(record, tokens) for record, tokens in zip(kept.records, kept.tokens, strict=True)]

    records = read_prompts(prompts, seed)
    if validation.path:
        held_out = read_prompts(validation, seed)
        groups = {record.group for record in held_out}
        records = [record for record in records if record.group not in groups]
    else:
        records, held_out = split_by_group(records, validation_share, seed)
    return questions(records), questions(held_out)[:validation_limit]


def read_text(files: Sequence[str], sequence: int, tokenizer: PreTrainedTokenizerBase, context: int) -> Tensor:
    """Pretraining text for PPO-ptx, `[rows, sequence]`; at least one row, which fits the context."""
    if sequence > context:
        raise ConfigError("ptx.sequence", f"{sequence} is more than the model's {context}", f"lower it to {context}")
    rows = text_rows(encode_texts(read_texts(files), tokenizer), sequence, tokenizer.eos_token_id)
    if not len(rows):
        told = f"has fewer tokens than the {sequence} of one row"
        raise DataError(", ".join(files), told, "name files with more text, or lower `ptx.sequence`")
    return rows
