"""What people typed that looks like a template's own words: speakers' markers, special tokens. It stays text."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from transformers import PreTrainedTokenizerBase

from heed.data.special import special_tokens
from heed.data.tally import Tally
from heed.data.template import Template
from heed.records import Demonstration, Prompt, Ranking

log = logging.getLogger("heed")


def tell_spelled(
    records: Sequence[Demonstration | Prompt | Ranking], template: Template, tokenizer: PreTrainedTokenizerBase
) -> Tally:
    """Log in one line how many records spell a marker or a special token inside a turn; returns the list."""
    found, special = Tally(), special_tokens(tokenizer)
    for record in records:
        texts = list(_texts(record))
        if any(marker in text for text in texts for marker in template.markers):
            found.add("rows with a speaker's marker inside a turn", record.where)
        if any(special.search(text) for text in texts):
            found.add("rows that spell a special token", record.where)
    if found:
        log.info("kept as words: %s", found)
    return found


def _texts(record: Demonstration | Prompt | Ranking) -> Iterator[str]:
    yield from (turn.content.strip() for turn in record.prompt)
    if isinstance(record, Ranking):
        yield from record.responses
    elif isinstance(record, Demonstration):
        yield record.response.strip()
