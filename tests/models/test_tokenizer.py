from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from heed.errors import ConfigError
from heed.models.tokenizer import train_tokenizer

DIALOGUE = "\n\nHuman: what colour is the apple?\n\nAssistant: the apple is red."
WORDS = ["Human", "Assistant", "apple", "red", "don't", "well-known", "zwölf", "1,000.5", "x_1"]
CORPUS = [DIALOGUE, " ".join(WORDS), "(a) [b] {c}, d; e: f! g? h."]

bytes_tokenizer = train_tokenizer("bytes", CORPUS * 4, 300, 64)
words_tokenizer = train_tokenizer("words", CORPUS, 100, 64)

word = st.sampled_from(WORDS).map(lambda text: f" {text}")
mark = st.sampled_from([".", ",", "?", "!", ":", ";"])
bracketed = st.sampled_from(WORDS).map(lambda text: f" ({text})")
newline = st.just("\n")
usual = st.lists(st.one_of(word, mark, newline, bracketed), max_size=30).map(
    lambda pieces: "".join(pieces).replace("\n ", "\n").removeprefix(" ")
)


@given(st.text())
def test_bytes_give_back_every_text(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode()  # surrogates are no text
    assert bytes_tokenizer.decode(bytes_tokenizer(text, split_special_tokens=True)["input_ids"]) == text


@given(usual)
def test_words_give_back_text_that_is_spaced_as_usual(text: str) -> None:
    assert words_tokenizer.decode(words_tokenizer(text)["input_ids"]) == text


@pytest.mark.parametrize("tokenizer", [bytes_tokenizer, words_tokenizer], ids=["bytes", "words"])
def test_dialogue_comes_back_whole_and_in_two_parts(tokenizer: PreTrainedTokenizerFast) -> None:
    prompt, response = DIALOGUE[: DIALOGUE.index(" the apple is red")], " the apple is red."
    whole = tokenizer(DIALOGUE)["input_ids"]
    parts = tokenizer(prompt)["input_ids"] + tokenizer(response)["input_ids"]
    assert tokenizer.decode(whole) == tokenizer.decode(parts) == DIALOGUE
    assert tokenizer.decode(tokenizer(response)["input_ids"]).strip() == "the apple is red."


def test_a_word_has_one_entry_wherever_it_stands() -> None:
    vocabulary = words_tokenizer.get_vocab()
    assert not [entry for entry in vocabulary if entry != entry.strip() and entry != "\n"]
    ids = [words_tokenizer(text)["input_ids"] for text in ("red", " red", "\nred", "(red")]
    assert len({row[-1] for row in ids}) == 1
    assert words_tokenizer.tokenize("don't say 1,000.5!") == ["don't", "<|unk|>", "1,000.5", "!"]


@pytest.mark.parametrize("kind", ["bytes", "words"])
def test_special_tokens_and_a_stock_load(kind: str, tmp_path: Path) -> None:
    made = {"bytes": bytes_tokenizer, "words": words_tokenizer}[kind]
    made.save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert (loaded.bos_token_id, loaded.eos_token_id, loaded.pad_token_id) == (0, 0, 1)
    assert loaded.unk_token_id == {"bytes": None, "words": 2}[kind]
    assert loaded.model_max_length == 64
    ids = loaded(DIALOGUE)["input_ids"]
    assert ids == made(DIALOGUE)["input_ids"]  # nothing is put in front or behind
    assert loaded.decode([*ids, 0, 1], skip_special_tokens=True) == DIALOGUE


def test_vocabulary_is_a_limit() -> None:
    assert len(bytes_tokenizer) == 300
    small = train_tokenizer("words", ["b b b a a c"], 5, 64)
    assert set(small.get_vocab()) == {"<|endoftext|>", "<|pad|>", "<|unk|>", "b", "a"}  # the rarest word has no room
    assert small("b c")["input_ids"][1] == small.unk_token_id


def test_training_twice_gives_the_same_ids() -> None:
    assert train_tokenizer("words", CORPUS, 100, 64).get_vocab() == words_tokenizer.get_vocab()
    assert train_tokenizer("bytes", CORPUS * 4, 300, 64).get_vocab() == bytes_tokenizer.get_vocab()


@pytest.mark.parametrize(("kind", "vocabulary"), [("bytes", 257), ("words", 3)])
def test_too_small_a_vocabulary_is_told(kind: str, vocabulary: int) -> None:
    with pytest.raises(ConfigError, match="vocabulary"):
        train_tokenizer(kind, CORPUS, vocabulary, 64)  # type: ignore[arg-type]
