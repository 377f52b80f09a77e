"""Cleaning, and splits that never part a group."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.data.encode import encode_prompt
from heed.data.hygiene import clean, drop_near_duplicates, halves, limit_per_user, split_by_group
from heed.data.template import Template
from heed.errors import DataError
from heed.records import Prompt, Turn, group_of
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
