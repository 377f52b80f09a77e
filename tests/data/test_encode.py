"""Record → token ids."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.data import encode
from heed.data.encode import (
    encode_demonstration,
    encode_demonstrations,
    encode_prompt,
    encode_prompts,
    encode_ranking,
    encode_rankings,
    encode_response,
    encode_responses,
    encode_texts,
)
from heed.data.template import Template
from heed.errors import ConfigError
from heed.pocket import generate
from heed.records import Comparison, Demonstration, Ranking, Turn
from heed.words import clean

DIALOGUE, PLAIN = Template.named("dialogue"), Template.named("plain")
ASK = (Turn("user", "Name a fruit."),)
EOS = 0


def decoded(tokenizer, tokens: list[int]) -> str:
    return tokenizer.decode(tokens, clean_up_tokenization_spaces=False)


def test_prompt_and_response_say_what_the_template_says(tokenizer) -> None:
    tokens, start = encode_demonstration(Demonstration(ASK, " A pear.\n"), DIALOGUE, tokenizer)
    assert decoded(tokenizer, tokens[:start]) == "\n\nHuman: Name a fruit.\n\nAssistant:"
    assert decoded(tokenizer, tokens[start:-1]) == " A pear."
    assert tokens[-1] == EOS == tokenizer.eos_token_id


def test_response_that_did_not_finish_has_no_end(tokenizer) -> None:
    whole, cut = encode_responses(["a pear", "a pear"], DIALOGUE, tokenizer, [True, False])
    assert whole == [*cut, EOS]
    assert encode_response("a pear", DIALOGUE, tokenizer, finished=False) == cut
    assert encode_response("", DIALOGUE, tokenizer) == [EOS]


@given(words=st.text(max_size=30), answer=st.text(max_size=30))
def test_what_people_type_never_becomes_a_special_token(tokenizer, words: str, answer: str) -> None:
    typed = f"{words}<|endoftext|>{words}<|pad|>"
    prompt = encode_prompt((Turn("user", typed),), PLAIN, tokenizer)
    response = encode_response(f"{answer}<|endoftext|>", PLAIN, tokenizer)
    assert not {EOS, tokenizer.pad_token_id} & set(prompt)
    assert response.count(EOS) == 1
    assert decoded(tokenizer, prompt) == typed  # and it is all still there


def test_a_word_level_vocabulary_leaves_end_of_text_out(word_tokenizer) -> None:
    prompt = encode_prompt((Turn("user", "name a <|endoftext|> fruit"),), PLAIN, word_tokenizer)
    assert word_tokenizer.convert_ids_to_tokens(prompt) == ["name", "a", "fruit"]
    assert encode_response("pear", PLAIN, word_tokenizer) == [6, EOS]


def test_beginning_of_text_only_where_the_tokenizer_adds_it(tokenizer, beginning_tokenizer) -> None:
    bos = beginning_tokenizer.bos_token_id
    prompt = encode_prompt(ASK, DIALOGUE, tokenizer)
    assert encode_prompt(ASK, DIALOGUE, beginning_tokenizer) == [bos, *prompt]
    assert bos not in encode_response("a pear", DIALOGUE, beginning_tokenizer)
    has_one_and_does_not_add_it = copy.deepcopy(tokenizer)
    has_one_and_does_not_add_it.add_special_tokens({"bos_token": "<|begin|>"})
    assert encode_prompt(ASK, DIALOGUE, has_one_and_does_not_add_it) == prompt


def test_many_are_encoded_as_one(tokenizer) -> None:
    demonstrations = [Demonstration((Turn("user", f"Ask {i}"),), f"Answer {i}") for i in range(5)]
    one_by_one = [encode_demonstration(d, DIALOGUE, tokenizer) for d in demonstrations]
    assert encode_demonstrations(demonstrations, DIALOGUE, tokenizer) == one_by_one
    assert encode_prompts([], DIALOGUE, tokenizer) == []


PAIR = Comparison(ASK, "A pear.", "A car, a car, a car.").as_ranking()


def test_rankings_share_their_prompt(tokenizer) -> None:
    ranking = encode_ranking(replace(PAIR, finished=(True, False)), DIALOGUE, tokenizer, 100)
    assert ranking is not None
    prompt = encode_prompt(ASK, DIALOGUE, tokenizer)
    assert ranking.texts[0] == prompt + encode_response("A pear.", DIALOGUE, tokenizer)
    assert ranking.texts[1] == prompt + encode_response("A car, a car, a car.", DIALOGUE, tokenizer, finished=False)
    assert (ranking.ranks, ranking.response_start) == ([1, 2], len(prompt))


def test_long_prompts_are_cut_from_the_left_and_responses_never(tokenizer) -> None:
    prompt = encode_prompt(ASK, DIALOGUE, tokenizer)
    answers = encode_responses(PAIR.responses, DIALOGUE, tokenizer)
    longest = max(map(len, answers))
    for room in range(1, len(prompt) + 1):
        ranking = encode_ranking(PAIR, DIALOGUE, tokenizer, longest + room)
        assert ranking is not None
        # the same end of the prompt stands before both, though the shorter answer would leave room for more
        assert ranking.texts == [prompt[-room:] + answer for answer in answers]
        assert ranking.response_start == room
        assert max(map(len, ranking.texts)) == longest + room
    assert encode_ranking(PAIR, DIALOGUE, tokenizer, longest) is None


def test_cut_prompts_keep_their_beginning_of_text(beginning_tokenizer) -> None:
    longest = max(map(len, encode_responses(PAIR.responses, DIALOGUE, beginning_tokenizer)))
    prompt = encode_prompt(ASK, DIALOGUE, beginning_tokenizer)
    ranking = encode_ranking(PAIR, DIALOGUE, beginning_tokenizer, longest + 3)
    assert ranking is not None
    assert [text[:3] for text in ranking.texts] == [[prompt[0], *prompt[-2:]]] * 2
    assert encode_ranking(PAIR, DIALOGUE, beginning_tokenizer, longest + 1) is None  # no word of it would be left


def test_rankings_that_are_lost_are_counted(tokenizer) -> None:
    prompt = len(encode_prompt(ASK, DIALOGUE, tokenizer))
    same = Ranking(ASK, ("A pear.", " A pear. "), (1, 2), (True, True))
    differ_in_their_end = replace(same, finished=(True, False))
    long = replace(PAIR, responses=("A pear.", "car " * 300))
    wordy = replace(PAIR, prompt=(Turn("user", "Please. " * 100),))
    encoded, report = encode_rankings([PAIR, same, differ_in_their_end, long, wordy], DIALOGUE, tokenizer, prompt + 30)
    assert [ranking is None for ranking in encoded] == [False, True, False, True, False]
    assert (report.identical, report.too_long, report.cut) == (1, 1, 1)
    assert str(report) == (
        "1 with identical responses, 1 with a response that does not fit, 1 with a prompt cut from the left"
    )


def test_running_text_is_encoded_in_chunks(tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    documents = ["One pear.", "Two <|endoftext|> pears.", "", "Three."]
    whole = [tokens.tolist() for tokens in encode_texts(documents, tokenizer)]
    assert [decoded(tokenizer, tokens) for tokens in whole] == documents
    assert all(EOS not in tokens for tokens in whole)
    monkeypatch.setattr(encode, "CHUNK_CHARACTERS", 10)
    assert [tokens.tolist() for tokens in encode_texts(documents, tokenizer)] == whole


def test_a_prompt_that_just_fits_is_not_cut(tokenizer) -> None:
    room = len(encode_prompt(ASK, DIALOGUE, tokenizer)) + max(
        map(len, encode_responses(PAIR.responses, DIALOGUE, tokenizer))
    )
    assert [encode_rankings([PAIR], DIALOGUE, tokenizer, room - i)[1].cut for i in (0, 1)] == [0, 1]


def test_chat_spells_its_special_tokens(beginning_tokenizer) -> None:
    own = copy.deepcopy(beginning_tokenizer)
    own.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    own.chat_template = "{% for m in messages %}<|im_start|>{{ m.content }}{% endfor %}"
    template = Template.named("chat", own)
    start = own.convert_tokens_to_ids("<|im_start|>")
    assert encode_prompt((Turn("user", "<|im_start|>a"),), template, own).count(start) == 1
    assert own.bos_token_id not in encode_prompt(ASK, template, own)  # its template writes one, or wants none
    assert encode_response("<|endoftext|>", template, own).count(EOS) == 1


def test_a_vocabulary_that_knows_a_text_as_the_special_token_only(unigram_tokenizer, word_tokenizer) -> None:
    assert unigram_tokenizer.eos_token_id in unigram_tokenizer("a</s>", split_special_tokens=True)["input_ids"]
    (turn,) = ask = (Turn("user", "a fruit</s> is"),)
    tokens = encode_prompt(ask, PLAIN, unigram_tokenizer)
    assert unigram_tokenizer.eos_token_id not in tokens
    spoken = "".join(unigram_tokenizer.convert_ids_to_tokens(tokens)).replace("▁", "")
    assert spoken == turn.content.replace(" ", "")  # and it is all still there
    padded = encode_prompt((Turn("user", "name <|pad|> a pear"),), PLAIN, word_tokenizer)
    assert word_tokenizer.convert_ids_to_tokens(padded) == ["name", "a", "pear"]
    unknown = encode_prompt((Turn("user", "name a car"),), PLAIN, word_tokenizer)
    assert word_tokenizer.convert_ids_to_tokens(unknown) == ["name", "a", "<|unknown|>"]


def test_a_response_follows_its_prompt_without_a_space_of_the_tokenizers_own(spaced_tokenizer) -> None:
    (response,) = encode_responses(["A pear."], DIALOGUE, spaced_tokenizer)
    whole = spaced_tokenizer("Assistant: A pear.", add_special_tokens=False)["input_ids"]
    assert whole[-len(response) + 1 :] == response[:-1]
    if spaced_tokenizer.backend_tokenizer.normalizer:
        alone = spaced_tokenizer(" A pear.", add_special_tokens=False)["input_ids"]
        assert len(alone) > len(response) - 1  # a space is put before the space


def test_a_ranking_that_the_chat_template_refuses_is_lost(chat_tokenizer) -> None:
    own = copy.deepcopy(chat_tokenizer)
    own.chat_template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}<|im_start|>"
    system = replace(PAIR, prompt=(Turn("system", "Be brief."), *ASK))
    encoded, report = encode_rankings([PAIR, system], Template.named("chat", own), own, 100)
    assert [ranking is None for ranking in encoded] == [False, True]
    assert report.refused == 1
    assert report.reasons == {1: "prompts that the model's chat template refuses (no system)"}


def test_a_damaged_chat_template_is_told_as_such(chat_tokenizer) -> None:
    own = copy.deepcopy(chat_tokenizer)
    own.chat_template = "{% for message in messages %}{{ message.role }"
    with pytest.raises(ConfigError, match="chat template is damaged: "):
        Template.named("chat", own)
    own.chat_template = "{{ raise_exception('never') }}"  # it refuses, but can be read
    Template.named("chat", own)


def test_a_prompt_without_a_token_has_no_ranking(word_tokenizer) -> None:
    silent = replace(PAIR, prompt=(Turn("user", "<|pad|>"),), responses=("a pear", "a fruit"))
    encoded, report = encode_rankings([silent], PLAIN, word_tokenizer, 100)
    assert (encoded, report.reasons) == ([None], {0: "prompts without a token"})


def test_clean_words_have_the_tokens_that_they_always_had(tokenizer, beginning_tokenizer) -> None:
    """Those of the tokenizer itself, for every text of the pocket world."""
    for own, start in ((tokenizer, []), (beginning_tokenizer, [beginning_tokenizer.bos_token_id])):
        for demonstration in generate.demonstrations(0, 60):
            texts = [demonstration.response, *(turn.content for turn in demonstration.prompt)]
            assert all(clean(text) is text for text in texts)
            for name in ("dialogue", "alpaca", "plain"):
                template = Template.named(name, own)
                tokens, begins = encode_demonstration(demonstration, template, own)
                before, after = template.render(demonstration.prompt), template.response_text(demonstration.response)
                assert tokens[:begins] == start + own(before, add_special_tokens=False)["input_ids"]
                assert tokens[begins:-1] == own(after, add_special_tokens=False)["input_ids"]
