"""Demonstrations and prompts: their number, their mix, their length; same seed, same rows."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from heed.formulas.statistics import wilson
from heed.pocket.families import FAMILIES, FAMILY
from heed.pocket.generate import (
    LONGEST,
    answer,
    demonstrations,
    evaluation_prompts,
    ppo_prompts,
    ranking_prompts,
)
from heed.pocket.gold import judge
from heed.pocket.slots import fill
from heed.pocket.tasks import answers, draw_task, task_of
from heed.pocket.words import tokens
from heed.pocket.world import THING


def test_there_are_enough_families() -> None:
    assert len(FAMILIES) >= 12
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)


def test_three_in_ten_demonstrations_are_not_right() -> None:
    rows = demonstrations(0, 6000)
    wrong = sum(not judge(row.prompt, row.response).right for row in rows)
    share = wilson(wrong, len(rows))
    assert share.low > 0.26 and share.high < 0.34


def test_demonstrations_vary_in_manner() -> None:
    judged = [judge(row.prompt, row.response) for row in demonstrations(0, 3000)]
    assert 0.2 < sum(each.polite for each in judged) / 3000 < 0.5
    assert 0.6 < sum(each.complete for each in judged) / 3000 < 0.9
    assert 0.03 < sum(each.rude for each in judged) / 3000 < 0.12
    assert 0.01 < sum(not each.grammatical for each in judged) / 3000 < 0.06  # broken off
    assert len({round(each.score, 3) for each in judged}) > 50


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_what_a_family_writes_it_reads_back(family) -> None:
    rng = random.Random(family.name)
    for _ in range(100):
        task = draw_task(family, None, rng)
        assert task_of(task.prompt) == task
        for text in answers(family.sentences, task.fields) + answers(family.short, task.fields):
            assert judge(task.prompt, f"{text}.").right, (task.question, text)
        wrong = family.mistake(task.fields, rng)
        for text in answers(family.sentences, wrong) + answers(family.short, wrong):
            assert not judge(task.prompt, f"{text}.").right, (task.question, text)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_answers_of_every_style_are_short_enough(family) -> None:
    rng = random.Random(1)
    for _ in range(100):
        task = draw_task(family, None, rng)
        assert len(tokens(answer(task, rng))) <= LONGEST
        assert len(tokens(task.question)) + 8 <= 32  # with "\n\nHuman:" and "\n\nAssistant:"


@pytest.mark.parametrize("make", [ranking_prompts, ppo_prompts, evaluation_prompts])
def test_prompts_are_different_and_cover_all_families(make) -> None:
    rows = make(0, 600)
    assert len({row.prompt for row in rows}) == len(rows) == 600
    counts = Counter(row.source for row in rows)
    assert set(counts) == {family.name for family in FAMILIES}
    assert min(counts.values()) >= 600 / len(FAMILIES) / 2
    assert all(task_of(row.prompt).group == row.group for row in rows)


@pytest.mark.parametrize("make", [demonstrations, ranking_prompts, ppo_prompts, evaluation_prompts])
def test_the_seed_decides(make) -> None:
    assert make(1, 50) == make(1, 50) != make(2, 50)


def test_a_template_that_does_not_fit_writes_nothing() -> None:
    assert fill("{yes}, the {thing} is alive", {"alive": "no", "thing": "apple"}) is None
    assert fill("{no}, the {thing} is not alive", {"alive": "no", "thing": "apple"}) == "no, the apple is not alive"
    assert fill("{a_thing} is {a_kind}", {"thing": "apple", "kind": "fruit"}) == "an apple is a fruit"
    assert fill("{things}", {"things": "pear cow drum"}) == "pear, cow and drum"


@pytest.mark.parametrize("told", ["colour", "place"])
def test_what_an_asker_tells_is_not_what_the_world_knows(told: str) -> None:
    rng = random.Random(0)
    tasks = [draw_task(FAMILY[f"own_{told}"], "ranking", rng) for _ in range(300)]
    for task in tasks:
        assert task.fields[told] != getattr(THING[task.fields["thing"]], told)
        assert task.fields[told] in task.question.replace(".", "").split()
    assert len({task.fields[told] for task in tasks}) == 6


def test_whoever_repeats_wrongly_changes_one_word() -> None:
    rng = random.Random(0)
    for _ in range(100):
        task = draw_task(FAMILY["repeat"], "sft", rng)
        said, right = (fields["things"].split() for fields in (task.family.mistake(task.fields, rng), task.fields))
        assert len(said) == len(right)
        changed = [word for word, given in zip(said, right, strict=True) if word != given]
        assert len(changed) == 1 and changed[0] not in right


def test_no_answer_to_another_question_is_the_usual_mistake() -> None:
    # a reward model that sees one family's answers given wrongly everywhere learns that they are bad
    instead = Counter(name for family in FAMILIES for name in family.confused_with)
    assert max(instead.values()) <= 6 and len([name for name, times in instead.items() if times >= 4]) >= 3
