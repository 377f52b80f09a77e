"""What stock libraries want to find beside the weights: how a dialogue is written, and how to draw an answer."""

from __future__ import annotations

import copy
from pathlib import Path

from transformers import GenerationConfig, PreTrainedTokenizerBase


def write_generation_files(
    path: Path, tokenizer: PreTrainedTokenizerBase, chat_template: str | None, max_new_tokens: int
) -> None:
    """Write `chat_template.jinja` and `generation_config.json` into a checkpoint directory that is being saved.

    With them `apply_chat_template` gives the text that the model was trained with, and `generate` draws from the
    model's whole distribution (transformers' own default keeps the 50 likeliest tokens).
    """
    told = copy.deepcopy(tokenizer)  # the tokenizer in use keeps the template that it came with
    told.chat_template = chat_template
    told.save_pretrained(path)
    GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_new_tokens,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    ).save_pretrained(path)
