"""Exams: one right answer, three that are not, all in one manner, about nothing that is ranked or evaluated."""

from __future__ import annotations

from collections import Counter

import pytest

from heed.pocket.exams import exams
from heed.pocket.generate import LONGEST, demonstrations, evaluation_prompts, ranking_prompts
from heed.pocket.gold import Judgement, judge
from heed.pocket.words import tokens
from heed.records import Ranking

N = 1500


@pytest.fixture(scope="module")
def papers() -> list[Ranking]:
    return exams(0, N)


def judged(exam: Ranking) -> list[tuple[int, Judgement]]:
    return [(rank, judge(exam.prompt, text)) for rank, text in zip(exam.ranks, exam.responses, strict=True)]


def test_the_first_is_right_and_the_others_are_not(papers: list[Ranking]) -> None:
    for exam in papers:
        (best,) = (each for rank, each in judged(exam) if rank == 1)
        assert best.right and best.finished
        assert all(not (each.right and each.grammatical) for rank, each in judged(exam) if rank != 1)


def test_manner_does_not_tell_which(papers: list[Ranking]) -> None:
    """The wrong ones, but for the one with a word replaced, are as polite, as rude and as short as the right one."""
    for exam in papers:
        (best,) = (each for rank, each in judged(exam) if rank == 1)
        alike = [(each.warmth, each.rude, each.complete) == (best.warmth, best.rude, best.complete)
                 for _, each in judged(exam)]  # fmt: skip
        assert sum(alike) >= len(exam.ranks) - 1


def test_the_right_one_may_stand_anywhere(papers: list[Ranking]) -> None:
    places = Counter(exam.ranks.index(1) for exam in papers)
    assert sorted(places) == [0, 1, 2, 3]
    assert min(places.values()) > N / 4 * 0.8


def test_questions_are_different_and_of_the_sft_part(papers: list[Ranking]) -> None:
    assert len({exam.prompt for exam in papers}) == len(papers) == N
    learned = {row.group for row in demonstrations(0, 4000)}
    elsewhere = {row.group for row in [*ranking_prompts(0, 4000), *evaluation_prompts(0, 1500)]}
    assert not {exam.group for exam in papers} & elsewhere
    assert len({exam.group for exam in papers if exam.source == "kind"} - learned) == 0
    assert len({exam.source for exam in papers}) == 19
    right = [text for exam in papers for rank, text in zip(exam.ranks, exam.responses, strict=True) if rank == 1]
    assert all(len(tokens(text)) <= LONGEST for text in right)


def test_the_seed_decides() -> None:
    assert exams(1, 60) == exams(1, 60) != exams(2, 60)
