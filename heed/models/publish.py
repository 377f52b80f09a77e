"""What stock libraries want to find beside the weights: how a dialogue is written, and how to draw an answer."""

from __future__ import annotations

import copy
from collections.abc import Collection
from pathlib import Path

from transformers import GenerationConfig, PreTrainedTokenizerBase


def write_generation_files(
    path: Path,
    tokenizer: PreTrainedTokenizerBase,
    chat_template: str | None,
    max_new_tokens: int,
    stop_ids: Collection[int] = (),
) -> None:
    """Write `chat_template.jinja` and `generation_config.json` into a checkpoint directory that is being saved.

    With them `apply_chat_template` gives the tokens that the model was trained with, and `generate` draws from the
    model's whole distribution (transformers' own default keeps the 50 likeliest tokens) until one of `stop_ids`
    (without any: the tokenizer's end-of-text).
    """
    write_tokenizer(path, tokenizer, chat_template)
    ends = sorted({tokenizer.eos_token_id, *stop_ids})
    GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_new_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=ends[0] if len(ends) == 1 else ends,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(path)


def write_tokenizer(path: Path, tokenizer: PreTrainedTokenizerBase, chat_template: str | None) -> None:
    """Write the tokenizer with the template that the model was trained with. The one in use keeps its own."""
    told = copy.deepcopy(tokenizer)
    told.chat_template = _beginning(chat_template, tokenizer)
    told.save_pretrained(path)


def _beginning(chat_template: str | None, tokenizer: PreTrainedTokenizerBase) -> str | None:
    """A template that spells the beginning-of-text token, where the tokenizer puts it before a text by itself:
    `apply_chat_template` leaves that out. The tokenizer's own template is meant as it is."""
    bos = tokenizer.bos_token_id
    if not chat_template or chat_template == tokenizer.chat_template or bos is None:
        return chat_template
    return "{{ bos_token }}" + chat_template if tokenizer("")["input_ids"][:1] == [bos] else chat_template
