"""The facts, and that no two splits ask about the same operand."""

from __future__ import annotations

from collections import Counter
from itertools import combinations

import pytest

from heed.pocket import words
from heed.pocket.generate import demonstrations, evaluation_prompts, ppo_prompts, ranking_prompts
from heed.pocket.tasks import task_of
from heed.pocket.world import SHARES, WORLD, part


def test_facts_are_a_table_without_gaps() -> None:
    assert len({thing.name for thing in WORLD.things}) == len(WORLD.things) == 48
    assert len({thing.plural for thing in WORLD.things}) == 48
    assert {thing.kind for thing in WORLD.things} == set(words.KINDS)
    assert {thing.colour for thing in WORLD.things} == set(words.COLOURS)
    assert {thing.place for thing in WORLD.things} == set(words.PLACES)
    assert {person.job for person in WORLD.people} == set(words.JOBS)


def test_no_value_is_so_common_that_guessing_it_pays() -> None:
    for name in ("kind", "colour", "place"):
        counts = Counter(getattr(thing, name) for thing in WORLD.things)
        assert max(counts.values()) <= len(WORLD.things) / 6, name


@pytest.mark.parametrize("area", ["colour", "kind", "sum"])
@pytest.mark.parametrize("operands", ["things", "people", "opposites", "summands", "triples", "middles"])
def test_every_operand_is_dealt_to_one_split(area: str, operands: str) -> None:
    dealt = [operand for split in SHARES for operand in getattr(part(split, area), operands)]
    assert sorted(dealt, key=str) == sorted(getattr(WORLD, operands), key=str)


def test_lists_belong_to_one_split_in_any_order() -> None:
    owners = [split for split in SHARES if part(split, "list").owns(["pear", "cow"])]
    assert len(owners) == 1
    assert part(owners[0], "list").owns(["cow", "pear"])


def test_stages_share_no_operand_and_no_prompt() -> None:
    rows = {
        "sft": demonstrations(0, 4000),
        "ranking": [*ranking_prompts(0, 2000), *ppo_prompts(0, 2000)],
        "evaluation": evaluation_prompts(0, 600),
    }
    groups = {stage: {row.group for row in rows[stage]} for stage in rows}
    prompts = {stage: {row.prompt for row in rows[stage]} for stage in rows}
    for one, two in combinations(rows, 2):
        assert not groups[one] & groups[two], (one, two)
        assert not prompts[one] & prompts[two], (one, two)


def test_the_group_names_what_is_asked_about() -> None:
    # the same pair of opposites, of summands, or list of words in another order is the same operand
    def group(question: str) -> str:
        from heed.records import Turn

        return task_of((Turn("user", question),)).group

    assert group("what is the opposite of hot?") == group("tell me the opposite of cold.")
    assert group("what is two plus three?") == group("what is three plus two?")
    assert group("what colour is the apple?") == group("is the apple red or blue?")
    assert group("what colour is the apple?") != group("what is an apple?")
