"""Special tokens: which texts a tokenizer reads as such, what it puts before a text by itself, and words broken up."""

from __future__ import annotations

import re
import unicodedata

from transformers import PreTrainedTokenizerBase


def beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The beginning-of-text token where the tokenizer puts one before every text by default, else nothing."""
    bos = tokenizer.bos_token_id
    return [bos] if bos is not None and tokenizer("")["input_ids"][:1] == [bos] else []


def special_tokens(tokenizer: PreTrainedTokenizerBase) -> re.Pattern[str]:
    """A pattern of the texts that the tokenizer reads as special tokens."""
    named = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
    named |= set(tokenizer.all_special_tokens)
    return re.compile("|".join(re.escape(text) for text in sorted(named, key=len, reverse=True) if text) or r"(?!)")


def broken_up(text: str, special: re.Pattern[str]) -> str:
    """The text with a space in every special token, after its first character; a lone letter loses its accent to a
    character of its own (or, without one, is left out)."""

    def broken(match: re.Match[str]) -> str:
        token = match[0]
        apart = unicodedata.normalize("NFD", token)
        return token[0] + " " + token[1:] if len(token) > 1 else apart if apart != token else ""

    return special.sub(broken, text)


def start_of_text(tokenizer: PreTrainedTokenizerBase | None, text: str) -> str:
    """Jinja for the beginning-of-text token, where the tokenizer adds it by itself and `apply_chat_template` does not.

    After it some tokenizers no longer put the space before the first word that they put before a text of its own.
    """
    start = beginning(tokenizer) if tokenizer is not None else []
    if tokenizer is None or not start:
        return ""

    def ids(words: str) -> list[int]:
        return list(tokenizer(words, add_special_tokens=False)["input_ids"])

    ours, bos = start + ids(text), tokenizer.bos_token
    needs_space = ids(bos + text) != ours and ids(f"{bos} {text}") == ours
    return "{{- bos_token + ' ' -}}" if needs_space else "{{- bos_token -}}"


def control_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """Special tokens that no text may become; an unknown word is one of its own kind."""
    ends = {tokenizer.eos_token_id, tokenizer.bos_token_id}
    return {token for token in tokenizer.all_special_ids if token != tokenizer.unk_token_id or token in ends}
