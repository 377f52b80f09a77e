"""Record + tokenizer → token ids. Prompt and response are tokenised apart and joined; nothing is ever re-tokenised.

The plural functions call the tokenizer once for all rows, which is what makes them fast.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heed.data.template import Template
from heed.records import Demonstration, Dialogue, Ranking

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
    """How many rankings could not be encoded, and how many lost the left end of their prompt."""

    identical: int
    too_long: int
    cut: int

    def __str__(self) -> str:
        return (
            f"{self.identical:,} with identical responses, {self.too_long:,} with a response that does not fit, "
            f"{self.cut:,} with a prompt cut from the left"
        )


def encode_prompt(dialogue: Dialogue, template: Template, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of a prompt, ready for the response to follow."""
    return encode_prompts([dialogue], template, tokenizer)[0]


def encode_prompts(
    dialogues: Sequence[Dialogue], template: Template, tokenizer: PreTrainedTokenizerBase
) -> list[list[int]]:
    """Token ids of each prompt. A beginning-of-text token stands in front where the tokenizer adds one by itself."""
    rows = _tokenised([template.render(dialogue) for dialogue in dialogues], template, tokenizer)
    start = [] if template.special_tokens else beginning(tokenizer)
    return [start + row for row in rows]


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
    rows = _tokenised([template.response_text(text) for text in texts], template, tokenizer)
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
    responses = encode_responses([d.response for d in demonstrations], template, tokenizer)
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
    prompts = dict(zip(asked, encode_prompts(asked, template, tokenizer), strict=True))
    told = list(dict.fromkeys(each for r in rankings for each in zip(r.responses, r.finished, strict=True)))
    texts, ends = [text for text, _ in told], [finished for _, finished in told]
    responses = dict(zip(told, encode_responses(texts, template, tokenizer, ends), strict=True))
    start = [] if template.special_tokens else beginning(tokenizer)
    encoded: list[EncodedRanking | None] = []
    identical = too_long = cut = 0
    for ranking in rankings:
        prompt = prompts[ranking.prompt]
        answers = [responses[each] for each in zip(ranking.responses, ranking.finished, strict=True)]
        room = max_tokens - max(len(answer) for answer in answers)
        if all(answer == answers[0] for answer in answers):
            encoded.append(None)
            identical += 1
        elif room <= len(start):
            encoded.append(None)
            too_long += 1
        else:
            kept = prompt if len(prompt) <= room else start + prompt[len(prompt) - room + len(start) :]
            cut += len(prompt) > room
            encoded.append(EncodedRanking([kept + answer for answer in answers], list(ranking.ranks), len(kept)))
    return encoded, RankingReport(identical, too_long, cut)


def encode_texts(documents: Sequence[str], tokenizer: PreTrainedTokenizerBase) -> list[Int[Tensor, " time"]]:
    """Token ids of running text, a tensor a document, for `text_rows`."""
    return [text for chunk in _chunks(documents) for text in _tensors(_text_tokens(chunk, tokenizer))]


def _tensors(rows: list[list[int]]) -> tuple[Int[Tensor, " time"], ...]:
    """Each row as a piece of one tensor, which is made six times as fast as many small ones."""
    flat = torch.tensor([token for row in rows for token in row], dtype=torch.int64)
    return flat.split([len(row) for row in rows])


def beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The beginning-of-text token where the tokenizer puts one before every text by default, else nothing."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("")["input_ids"][:1] == [bos] else []


def _tokenised(texts: list[str], template: Template, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    if not template.special_tokens:
        return _text_tokens(texts, tokenizer)
    return _call(texts, tokenizer, split_special_tokens=False)


def _text_tokens(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Tokens of what people wrote: `<|endoftext|>` in it is text, and never becomes the end-of-text token.

    A word-level vocabulary has no other way to say it than that very token; there it is left out.
    """
    rows = _call(texts, tokenizer, split_special_tokens=True)
    end = tokenizer.eos_token_id
    return [[token for token in row if token != end] if end in row else row for row in rows]


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
