"""Record + tokenizer → token ids. Prompt and response are tokenised apart and joined; nothing is ever re-tokenised.

The plural functions call the tokenizer once for all rows, which is what makes them fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heed.data.special import beginning, broken_up, control_ids, special_tokens
from heed.data.template import Refused, Template
from heed.records import Demonstration, Dialogue, Ranking

IDENTICAL, TOO_LONG = "identical responses", "responses that do not fit"
NO_TOKEN = "prompts without a token"
CHUNK_CHARACTERS = 4_000_000  # text tokenised at once: the tokenizer holds about a hundred bytes a token meanwhile


class EncodedDemonstration(NamedTuple):
    """Prompt and response in one row; `tokens[response_start:]` is the response with its end-of-text token."""

    tokens: list[int]
    response_start: int


class EncodedRanking(NamedTuple):
    """The whole text of each response, the same prompt in front of all of them."""

    texts: list[list[int]]
    ranks: list[int]
    response_start: int


@dataclass(frozen=True, slots=True)
class RankingReport:
    """How many rankings could not be encoded, and how many lost the left end of their prompt.

    `reasons[i]` is why ranking i is lost, as a plural noun.
    """

    identical: int
    too_long: int
    cut: int
    refused: int = 0
    reasons: dict[int, str] = field(default_factory=dict)

    def __str__(self) -> str:
        told = (
            f"{self.identical:,} with identical responses, {self.too_long:,} with a response that does not fit, "
            f"{self.cut:,} with a prompt cut from the left"
        )
        return told + (f", {self.refused:,} with a prompt that cannot be written" if self.refused else "")


def encode_prompt(dialogue: Dialogue, template: Template, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a prompt, ready for the response to follow."""
    return encode_prompts([dialogue], template, tokenizer)[0]


def encode_prompts(
    dialogues: Sequence[Dialogue], template: Template, tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """Token ids of each prompt. A beginning-of-text token stands in front where the tokenizer adds one by itself.

    Raises `Refused` where the model's chat template does not take one; `encode_each` tells them apart instead.
    """
    return [_taken(row) for row in encode_each(dialogues, template, tokenizer)]


def encode_each(
    dialogues: Sequence[Dialogue], template: Template, tokenizer: PreTrainedTokenizerBase
) -> list[list[int] | Refused]:
    """Token ids of each prompt, or why the model's chat template does not take it."""
    texts = [_rendered(dialogue, template) for dialogue in dialogues]
    start = [] if template.special_tokens else beginning(tokenizer)
    rows = iter(_tokenised([text for text in texts if isinstance(text, str)], template, tokenizer))
    return [start + next(rows) if isinstance(text, str) else text for text in texts]


def _rendered(dialogue: Dialogue, template: Template) -> str | Refused:
    try:
        return template.render(dialogue)
    except Refused as refused:
        return refused


def _taken(row: list[int] | Refused) -> list[int]:
    if isinstance(row, Refused):
        raise row
    return row


def encode_response(
    text: str, template: Template, tokenizer: PreTrainedTokenizerBase, finished: bool = True
) -> list[int]:
    """Token ids of a response as it follows its prompt; a finished one ends with the end-of-text token."""
    return encode_responses([text], template, tokenizer, [finished])[0]


def encode_responses(
    texts: Sequence[str],
    template: Template,
    tokenizer: PreTrainedTokenizerBase,
    finished: Sequence[bool] | None = None,
) -> list[list[int]]:
    """Token ids of each response; all are finished unless `finished` says otherwise."""
    return _ended([template.response_text(text) for text in texts], template, tokenizer, finished)


def _ended(
    texts: list[str], template: Template, tokenizer: PreTrainedTokenizerBase, finished: Sequence[bool] | None = None
) -> list[list[int]]:
    rows = _after_prompt(texts, template, tokenizer)
    ended = [True] * len(rows) if finished is None else finished
    return [[*row, tokenizer.eos_token_id] if end else row for row, end in zip(rows, ended, strict=True)]


def encode_demonstration(
    demonstration: Demonstration, template: Template, tokenizer: PreTrainedTokenizerBase
) -> EncodedDemonstration:
    """(tokens, response_start): the loss is taken on `tokens[response_start:]`."""
    return encode_demonstrations([demonstration], template, tokenizer)[0]


def encode_demonstrations(
    demonstrations: Sequence[Demonstration], template: Template, tokenizer: PreTrainedTokenizerBase
) -> list[EncodedDemonstration]:
    """Each demonstration's tokens, in order. What is too long is for the caller to drop and count."""
    prompts = encode_prompts([d.prompt for d in demonstrations], template, tokenizer)
    responses = _ended([template.answer_text(d.response) for d in demonstrations], template, tokenizer)
    return [EncodedDemonstration(p + r, len(p)) for p, r in zip(prompts, responses, strict=True)]


def encode_ranking(
    ranking: Ranking, template: Template, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> EncodedRanking | None:
    """The texts to score, or None where they cannot be told apart or a response does not fit into `max_tokens`."""
    return encode_rankings([ranking], template, tokenizer, max_tokens)[0][0]


def encode_rankings(
    rankings: Sequence[Ranking], template: Template, tokenizer: PreTrainedTokenizerBase, max_tokens: int
) -> tuple[list[EncodedRanking | None], RankingReport]:
    """Each ranking's texts, in order, with None for those that are lost, and the count of these.

    A prompt that is too long is cut from its left end, by the same number of tokens for all of its responses, and
    keeps its beginning-of-text token; a response is never cut. One token of the prompt at least must be left.
    """
    asked = list(dict.fromkeys(ranking.prompt for ranking in rankings))  # several people may have ranked the same
    prompts = dict(zip(asked, encode_each(asked, template, tokenizer), strict=True))
    told = list(dict.fromkeys(each for r in rankings for each in zip(r.responses, r.finished, strict=True)))
    texts, ends = [text for text, _ in told], [finished for _, finished in told]
    responses = dict(zip(told, encode_responses(texts, template, tokenizer, ends), strict=True))
    start = [] if template.special_tokens else beginning(tokenizer)
    encoded: list[EncodedRanking | None] = []
    reasons: dict[int, str] = {}
    cut = 0
    for i, ranking in enumerate(rankings):
        prompt = prompts[ranking.prompt]
        answers = [responses[each] for each in zip(ranking.responses, ranking.finished, strict=True)]
        room = max_tokens - max(len(answer) for answer in answers)
        encoded.append(None)
        if isinstance(prompt, Refused) or not prompt:
            reasons[i] = prompt.reason if isinstance(prompt, Refused) else NO_TOKEN
        elif all(answer == answers[0] for answer in answers):
            reasons[i] = IDENTICAL
        elif room <= len(start):
            reasons[i] = TOO_LONG
        else:
            kept = prompt if len(prompt) <= room else start + prompt[len(prompt) - room + len(start) :]
            cut += len(prompt) > room
            encoded[i] = EncodedRanking([kept + answer for answer in answers], list(ranking.ranks), len(kept))
    identical, too_long = (list(reasons.values()).count(reason) for reason in (IDENTICAL, TOO_LONG))
    return encoded, RankingReport(identical, too_long, cut, len(reasons) - identical - too_long, reasons)


def encode_texts(documents: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Int[Tensor, " time"]]:
    """Token ids of running text, a tensor a document, for `text_rows`."""
    return [text for chunk in _chunks(documents) for text in _tensors(_text_tokens(chunk, tokenizer))]


def _tensors(rows: list[list[int]]) -> tuple[Int[Tensor, " time"], ...]:
    """Each row as a piece of one tensor, which is made six times as fast as many small ones."""
    flat = torch.tensor([token for row in rows for token in row], dtype=torch.int64)
    return flat.split([len(row) for row in rows])


def _tokenised(texts: list[str], template: Template, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    if not template.special_tokens:
        return _text_tokens(texts, tokenizer)
    return _call(texts, tokenizer, split_special_tokens=False)


def _after_prompt(texts: list[str], template: Template, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Tokens of texts that follow a prompt, not those of texts of their own.

    They differ where the tokenizer puts a space before whatever it is given, as Llama 2's does: there the prompt's
    last character stands in front meanwhile.
    """
    lead = template.lead
    if lead and texts:
        alone, apart, together = _text_tokens([lead, " a", f"{lead} a"], tokenizer)
        if together != alone + apart and together[: len(alone)] == alone:
            return [row[len(alone) :] for row in _text_tokens([lead + text for text in texts], tokenizer)]
    return _tokenised(texts, template, tokenizer)


def _text_tokens(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Tokens of what people wrote: `<|endoftext|>` in it is text, and never becomes a special token.

    Some vocabularies know that text as the special token only. There it is broken up, and where they have no other
    words for it, it is left out.
    """
    rows, special = _call(texts, tokenizer, split_special_tokens=True), control_ids(tokenizer)
    odd = [i for i, row in enumerate(rows) if not special.isdisjoint(row)]
    if odd:
        pattern = special_tokens(tokenizer)
        again = _call([broken_up(texts[i], pattern) for i in odd], tokenizer, split_special_tokens=True)
        for i, row in zip(odd, again, strict=True):
            is_known = tokenizer.unk_token_id not in row or tokenizer.unk_token_id in rows[i]
            rows[i] = [token for token in (row if is_known else rows[i]) if token not in special]
    return rows


def _call(texts: list[str], tokenizer: PreTrainedTokenizerBase, split_special_tokens: bool) -> list[list[int]]:
    if not texts:
        return []
    encoding = tokenizer(
        texts,
        add_special_tokens=False,
        split_special_tokens=split_special_tokens,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,
    )
    return list(encoding["input_ids"])


def _chunks(documents: Sequence[str]) -> Iterator[list[str]]:
    chunk: list[str] = []
    size = 0
    for document in documents:
        chunk.append(document)
        size += len(document)
        if size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
