"""Cleaning, and splits that never part a group."""

from __future__ import annotations

import copy
import logging
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.data.encode import encode_prompt
from heed.data.hygiene import (
    Cleaning,
    Room,
    clean,
    drop_near_duplicates,
    halves,
    limit_per_user,
    split_by_group,
    unlike,
    writable,
)
from heed.data.prompts import cleaned_split, prompt_set
from heed.data.tally import Tally
from heed.data.template import Template
from heed.errors import DataError
from heed.records import Demonstration, Prompt, Turn, group_of
from heed.settings.common import HygieneSettings


def ask(words: str, user: str = "", system: str = "") -> Prompt:
    before = (Turn("system", system),) if system else ()
    return Prompt((*before, Turn("user", words)), user=user)


# Rendered, a prompt begins with `\n\nHuman: `, nine characters.
A20 = "a" * 20


def test_shared_beginnings() -> None:
    records = [ask(A20 + "x"), ask(A20 + "y"), ask("b"), ask(A20), ask("b"), ask("b c")]
    assert drop_near_duplicates(records, 9 + 20) == [records[0], records[2], records[5]]
    assert drop_near_duplicates(records, 9 + 21) == [records[0], records[1], records[2], records[3], records[5]]
    assert drop_near_duplicates(records, 0) == records


def test_the_end_of_a_short_prompt_counts() -> None:
    # "b" is shorter than the prefix: it equals another one only as a whole, `Assistant:` included
    short, longer = ask("b"), ask("b\n\nHuman: c")
    assert drop_near_duplicates([short, longer], 15) == [short, longer]


def test_a_long_preamble_that_all_share_counts_for_nothing() -> None:
    records = [ask("one", system="s" * 300), ask("two", system="s" * 300), ask("one", system="t" * 300)]
    assert drop_near_duplicates(records, 200) == records
    assert drop_near_duplicates([*records, records[0]], 200) == records


def test_later_turns_of_a_long_dialogue_are_near_duplicates() -> None:
    first = ask("w" * 30)
    later = Prompt((*first.prompt, Turn("assistant", "yes"), Turn("user", "go on")))
    assert drop_near_duplicates([first, later], 9 + 30) == [first]
    assert drop_near_duplicates([first, later], 9 + 30 + 20) == [first, later]


def test_no_user_has_more_than_a_share() -> None:
    records = [ask(str(i), user) for i, user in enumerate(["u", "v", "u", "u", "", "", "", "v"])]
    assert [r.prompt[0].content for r in limit_per_user(records, 2)] == ["0", "1", "2", "4", "5", "6", "7"]
    assert limit_per_user(records, 0) == records


def test_counts(tokenizer) -> None:
    records = [ask("one", "u"), ask("one", "u"), ask("two", "u"), ask("three", "u"), ask("four " * 60)]
    kept, report = clean(
        records,
        HygieneSettings(shared_prefix=200, max_per_user=2, max_prompt_tokens=40),
        Template.named("dialogue"),
        tokenizer,
    )
    assert kept == [records[0], records[2]]
    assert (report.read, report.near_duplicates, report.over_user, report.too_long, report.kept) == (5, 1, 1, 1, 2)
    assert str(report) == ("kept 2 of 5 prompts; dropped 1 near duplicates, 1 beyond a user's share, 1 too long")


def test_a_prompt_of_just_so_many_tokens_is_kept(tokenizer) -> None:
    template = Template.named("dialogue")
    length = len(encode_prompt(ask("one").prompt, template, tokenizer))
    assert clean([ask("one")], HygieneSettings(max_prompt_tokens=length), template, tokenizer)[0]
    with pytest.raises(DataError):
        clean([ask("one")], HygieneSettings(max_prompt_tokens=length - 1), template, tokenizer)


def test_nothing_left(tokenizer) -> None:
    with pytest.raises(DataError, match="no prompt is left"):
        clean([ask("one")], HygieneSettings(max_prompt_tokens=1), Template.named("dialogue"), tokenizer)


grouped = st.lists(
    st.builds(
        lambda words, group: replace(ask(words), group=group), st.text("ab", max_size=3), st.sampled_from("ghijklmn")
    ),
    min_size=2,
).filter(lambda records: len({r.group for r in records}) > 1)


@given(grouped, st.floats(0.01, 0.99), st.integers(0, 9))
def test_a_split_shares_no_group_and_loses_nothing(records: list[Prompt], share: float, seed: int) -> None:
    train, held_out = split_by_group(records, share, seed)
    assert not {r.group for r in train} & {r.group for r in held_out}
    assert train
    assert held_out
    assert sorted(map(repr, train + held_out)) == sorted(map(repr, records))


@given(grouped)
def test_halves_share_no_group_and_lose_nothing(records: list[Prompt]) -> None:
    first, second = halves(records)
    assert not {r.group for r in first} & {r.group for r in second}
    assert sorted(map(repr, first + second)) == sorted(map(repr, records))


MANY = [replace(ask(str(i)), group=f"g{i % 200}") for i in range(600)]


def test_share_and_seed_of_a_split() -> None:
    train, held_out = split_by_group(MANY, 0.05, 0)
    assert (len(train), len(held_out)) == (570, 30)
    assert split_by_group(MANY, 0.05, 0)[1] == held_out
    assert split_by_group(MANY, 0.05, 1)[1] != held_out
    assert {r.group for r in split_by_group(MANY[::-1], 0.05, 0)[1]} == {r.group for r in held_out}


def test_halves_do_not_depend_on_the_company() -> None:
    first, second = halves(MANY)
    assert 0.4 < len(first) / len(MANY) < 0.6
    few, rest = halves(MANY[100:130][::-1])
    assert {r.group for r in few} <= {r.group for r in first}
    assert {r.group for r in rest} <= {r.group for r in second}


def test_halves_are_independent_of_the_split() -> None:
    held_out = split_by_group(MANY, 0.4, 0)[1]
    assert 0.3 < len(halves(held_out)[0]) / len(held_out) < 0.7


def test_records_without_a_group_are_grouped_by_their_opening() -> None:
    again = Prompt((Turn("user", "0"), Turn("assistant", "yes"), Turn("user", "more")))
    records = [*(ask(str(i)) for i in range(20)), again]
    assert group_of(again.prompt) == group_of(records[0].prompt)
    for seed in range(10):
        train, held_out = split_by_group(records, 0.5, seed)
        assert (records[0] in train) == (again in train)
        assert len(train) + len(held_out) == 21


def test_one_group_cannot_be_split() -> None:
    with pytest.raises(DataError, match="1 group of prompts cannot be split in two"):
        split_by_group([ask("one"), ask("one")], 0.5, 0)


# ── what goes by a rule that does not fit the data ───────────────────────────────────────────────────────────────────

DIALOGUE = Template.named("dialogue")
LONG = HygieneSettings(max_prompt_tokens=10_000)


def conversation(topic: str) -> list[Demonstration]:
    """Three lessons of one conversation, whose later questions everybody asks."""
    turns: tuple[Turn, ...] = ()
    lessons = []
    for asked in (f"{topic} " * 60, "Go on.", "Thanks!"):
        lessons.append(Demonstration((*turns, Turn("user", asked)), "Yes."))
        turns = (*lessons[-1].prompt, Turn("assistant", "Yes."))
    return lessons


def test_every_answer_of_a_conversation_is_a_lesson(tokenizer) -> None:
    lessons = [lesson for topic in ("pears", "cars") for lesson in conversation(topic)]
    assert clean(lessons, LONG, DIALOGUE, tokenizer)[0] == lessons
    assert clean([*lessons, *conversation("cars")], LONG, DIALOGUE, tokenizer)[0] == lessons
    nearly = replace(lessons[0], prompt=(Turn("user", lessons[0].prompt[0].content + "please"),))
    assert drop_near_duplicates([lessons[0], nearly], 200) == [lessons[0]]


def preamble(count: int) -> list[Prompt]:
    return [replace(ask("p" * 250 + f" {i}"), where=f"prompts.jsonl:{i + 1}") for i in range(count)]


def test_a_rule_that_drops_most_stops_and_says_what_to_set(tokenizer) -> None:
    records = preamble(50)
    with pytest.raises(DataError, match=r"more than half of 50 .* kept 1 of 50") as caught:
        clean(records, LONG, DIALOGUE, tokenizer)
    assert "49 near duplicates (first at prompts.jsonl:2)" in caught.value.what
    assert "`hygiene.shared_prefix` to 0" in caught.value.hint
    followed = LONG.model_copy(update={"shared_prefix": 0})
    assert len(clean(records, followed, DIALOGUE, tokenizer)[0]) == 50


def test_repeats_of_a_prompt_are_no_reason_to_stop(tokenizer) -> None:
    records = [ask(words) for words in ("one", "two") for _ in range(9)]
    assert clean(records, LONG, DIALOGUE, tokenizer)[1].near_duplicates == 16


def test_half_is_not_most(tokenizer) -> None:
    two_and_two = [ask("p" * 250 + "a"), ask("p" * 250 + "b"), ask("q" * 250 + "a"), ask("q" * 250 + "b")]
    assert len(clean(two_and_two, LONG, DIALOGUE, tokenizer)[0]) == 2


def test_one_user_who_wrote_most(tokenizer) -> None:
    records = [ask(str(i), "u") for i in range(9)]
    settings = LONG.model_copy(update={"max_per_user": 4})
    with pytest.raises(DataError, match="5 beyond a user's share") as caught:
        clean(records, settings, DIALOGUE, tokenizer)
    assert "`hygiene.max_per_user` to 0" in caught.value.hint
    assert len(clean(records, settings.model_copy(update={"max_per_user": 0}), DIALOGUE, tokenizer)[0]) == 9


LENGTHY = [ask(f"{i} " + "pear " * 200) for i in range(8)]  # several hundred tokens each


def number_in(hint: str, setting: str) -> int:
    return int(hint.partition(f"`{setting}` to ")[2].split()[0])


def test_a_limit_that_nobody_chose(tokenizer) -> None:
    with pytest.raises(DataError, match="no prompt is left") as caught:
        clean(LENGTHY, HygieneSettings(), DIALOGUE, tokenizer)
    most = number_in(caught.value.hint, "hygiene.max_prompt_tokens")
    settings = HygieneSettings(max_prompt_tokens=most)
    assert len(clean(LENGTHY, settings, DIALOGUE, tokenizer)[0]) == 8
    with pytest.raises(DataError, match="more than half of 10 different prompts"):
        clean([*LENGTHY, ask("one"), ask("two")], HygieneSettings(), DIALOGUE, tokenizer)
    # whoever chooses a limit of their own wants short prompts
    assert len(clean([*LENGTHY, ask("one")], HygieneSettings(max_prompt_tokens=40), DIALOGUE, tokenizer)[0]) == 1


def test_no_room_for_an_answer(tokenizer) -> None:
    longest = max(len(encode_prompt(record.prompt, DIALOGUE, tokenizer)) for record in LENGTHY)
    context = longest + 20

    def kept(hygiene: HygieneSettings, new: int) -> int:
        return len(prompt_set(LENGTHY, hygiene, DIALOGUE, tokenizer, context, new).records)

    with pytest.raises(DataError, match="no prompt is left") as caught:
        kept(HygieneSettings(), context - 30)
    new = number_in(caught.value.hint, "sampling.max_new_tokens")
    most = number_in(caught.value.hint, "hygiene.max_prompt_tokens")
    assert kept(HygieneSettings(max_prompt_tokens=most), new) == 8
    with pytest.raises(DataError) as caught:
        prompt_set(LENGTHY, LONG, DIALOGUE, tokenizer, longest // 2, 10)
    assert "longer than the model's" in caught.value.hint


def test_what_is_dropped_is_listed(tokenizer) -> None:
    words = ["one", "one", "two", "three", "four", "five " * 90]
    records = [replace(ask(text, "u"), where=f"p.jsonl:{i}") for i, text in enumerate(words, start=1)]
    dropped = Tally()
    clean(records, HygieneSettings(max_per_user=4, max_prompt_tokens=90), DIALOGUE, tokenizer, dropped=dropped)
    clean(records[5:] + records[:1], HygieneSettings(max_prompt_tokens=90), DIALOGUE, tokenizer, dropped=dropped)
    assert list(dropped) == [
        ("near duplicates", "p.jsonl:2"),
        ("prompts beyond a user's share", "p.jsonl:6"),
        ("prompts of more than 90 tokens", "p.jsonl:6"),
    ]


def test_a_prompt_of_nothing_but_a_special_token(word_tokenizer) -> None:
    records = [ask("name a pear"), ask("name a fruit"), ask("<|pad|>")]
    kept, report = clean(records, LONG, Template.named("plain"), word_tokenizer)
    assert (kept, report.refused) == (records[:2], 1)


def refusing(own):
    own.chat_template = (
        "{% for m in messages %}"
        "{% if m.role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
        "<|im_start|>{{ m.content }}{% endfor %}"
    )
    return Template.named("chat", own)


def test_what_the_chat_template_refuses_is_counted(chat_tokenizer, caplog: Any) -> None:
    own = copy.deepcopy(chat_tokenizer)
    template = refusing(own)
    records = [replace(ask(f"ask {i}", system="s" * (i == 1)), where=f"p.jsonl:{i}") for i in range(3)]
    dropped = Tally()
    with caplog.at_level(logging.INFO, "heed"):
        kept = prompt_set(records, LONG, template, own, 300, 20, "training", dropped)
    assert kept.records == [records[0], records[2]]
    assert "training: kept 2 of 3 prompts" in caplog.text
    assert "1 that cannot be written (first at p.jsonl:1): prompts that the model's" in caplog.text
    reason = "prompts that the model's chat template refuses (System role not supported)"
    assert list(dropped) == [(reason, "p.jsonl:1")]
    with pytest.raises(DataError, match="more than half") as caught:
        prompt_set([ask(f"ask {i}", system="s") for i in range(3)] + records[:1], LONG, template, own, 300, 20)
    assert "`template: dialogue`" in caught.value.hint


def test_rankings_whose_prompt_can_be_written(chat_tokenizer, caplog: Any) -> None:
    own = copy.deepcopy(chat_tokenizer)
    template = refusing(own)
    records = [replace(ask("ask", system="s" * (i == 1)), where=f"p.jsonl:{i}") for i in range(3)]
    dropped = Tally()
    assert writable(records, template, "training", dropped) == [records[0], records[2]]
    assert next(iter(dropped))[1] == "p.jsonl:1"
    assert "training: dropped 1 prompts that the model's chat template refuses" in caplog.text
    with pytest.raises(DataError, match="none is left"):
        writable(records[1:2], template, "training")


# ── cleaned, then split ──────────────────────────────────────────────────────────────────────────────────────────────


def test_no_side_of_a_split_has_a_near_duplicate_of_the_other(tokenizer, caplog: Any) -> None:
    pairs = [ask(f"{i:02}" * 125 + end) for i in range(30) for end in ("a", "b")]  # of unlike groups, yet alike
    assert len({group_of(r.prompt) for r in pairs}) == 60
    with caplog.at_level(logging.INFO, "heed"):
        training, held_out = cleaned_split(pairs, [], 0.3, 0, LONG, DIALOGUE, tokenizer, Room(2000, 10))
    beginnings = [{r.prompt[0].content[:200] for r in side.records} for side in (training, held_out)]
    assert len(beginnings[0]) + len(beginnings[1]) == len(training.records) + len(held_out.records) == 30
    assert not beginnings[0] & beginnings[1]
    assert [len(tokens) for tokens in held_out.tokens] == [
        len(encode_prompt(r.prompt, DIALOGUE, tokenizer)) for r in held_out.records
    ]
    assert "split: 21 prompts to train on, 9 held out" in caplog.text


def test_held_out_prompts_of_a_file_of_their_own(tokenizer) -> None:
    training = [ask("p" * 250 + "a"), ask("q" * 250 + "a"), ask("short")]
    held_out = [ask("p" * 250 + "b"), ask("other")]
    left, apart = cleaned_split(training, held_out, 0.5, 0, LONG, DIALOGUE, tokenizer, Room(2000, 10))
    assert (left.records, apart.records) == (training[1:], held_out)
    assert len(left.tokens) == 2
    assert unlike(training, held_out, 200) == training[1:]
    assert unlike(training, held_out, 0) == training  # near duplicates are allowed then, equals never
    assert unlike([*training, held_out[1]], held_out, 0) == training
    with pytest.raises(DataError, match="held out too"):
        cleaned_split(training[:1], held_out, 0.5, 0, LONG, DIALOGUE, tokenizer, Room(2000, 10))


def test_what_was_not_dropped_is_not_told() -> None:
    assert str(Cleaning(8000, 0, 0, 0)) == "kept 8,000 of 8,000 prompts"
    assert str(Cleaning(8, 0, 0, 3)) == "kept 5 of 8 prompts; dropped 3 too long"
