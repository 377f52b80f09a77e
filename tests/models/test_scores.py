from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch.testing import assert_close

from heed.models import scores
from heed.models.policy import Policy
from heed.models.roles import trained_copy
from heed.models.scalar_head import RewardModel, new_head
from heed.models.scores import Scoring, different_texts, score_rankings, score_texts
from heed.models.trunk import Trunk
from heed.rows.threads import RowThreads
from heed.settings.common import LoraSettings


class Ranked(NamedTuple):
    texts: list[list[int]]
    ranks: list[int]
    response_start: int


@pytest.fixture
def model(trunk: Trunk) -> RewardModel:
    body = trained_copy(Policy(trunk), "reward", LoraSettings(rank=4))
    head = new_head(trunk.width, torch.Generator().manual_seed(0)).requires_grad_(False)
    found = RewardModel(body.trunk, body.adapter, head, gain=2.0, bias=-3.0)
    generator = torch.Generator().manual_seed(1)
    for parameter in found.parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return found


TEXTS = [[40, 41, 0], [50, 51, 52, 53, 54, 55, 56, 0], [60], [70, 0, 71, 72, 0], [1, 1, 0]]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("microbatch_tokens", [1, 8, 20, 1000])
def test_a_text_scores_the_same_in_any_company(model: RewardModel, microbatch_tokens: int, threads: int) -> None:
    with torch.no_grad(), model.active():
        alone = [model.scores(torch.tensor([text]), torch.ones(1, len(text), dtype=torch.bool)) for text in TEXTS]
    model.trunk.threads = RowThreads(threads)
    with model.trunk.active(None):
        found = score_texts(model, TEXTS, microbatch_tokens)
    assert_close(found, torch.cat(alone), atol=1e-5, rtol=0)


@pytest.mark.parametrize("threads", [1, 2])
def test_scoring_tells_each_text_once_and_goes_on_where_it_stopped(model: RewardModel, threads: int) -> None:
    model.trunk.threads = RowThreads(threads)
    scoring, later = Scoring(model, TEXTS, 8), Scoring(model, TEXTS, 8)
    with model.active():
        rest = scoring.rest()
        first = next(rest)
        state = {**scoring.state_dict(), "scores": scoring.scores.clone()}
        told = [first, *rest]
        later.load_state_dict(state)
        assert list(later.rest()) == told[1:]
    assert sorted(row for rows in told for row in rows) == list(range(len(TEXTS)))
    assert torch.equal(later.scores, scoring.scores) and torch.equal(scoring.scores, score_texts(model, TEXTS, 8))


def test_rankings_are_scored_raw_and_keep_their_order(model: RewardModel) -> None:
    rankings = [Ranked(TEXTS[:2], [2, 1], 2), Ranked(TEXTS[2:], [1, 1, 3], 1)]
    found = score_rankings(model, rankings, ["x", "y"], 16)
    assert_close(2 * found.scores - 3, score_texts(model, TEXTS, 1000), atol=1e-5, rtol=0)
    assert found.ranks.tolist() == [2, 1, 1, 1, 3]
    assert found.segments.tolist() == [0, 0, 1, 1, 1]
    assert found.lengths.tolist() == [1, 6, 0, 4, 2]


def test_what_several_people_ranked_is_scored_once_and_is_one_prompt(
    model: RewardModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, other, yours = Ranked(TEXTS[:2], [2, 1], 1), Ranked(TEXTS[2:4], [1, 2], 1), Ranked(TEXTS[1::-1], [2, 1], 1)
    scored: list[int] = []

    def counting(model: RewardModel, texts: list[tuple[int, ...]], microbatch_tokens: int) -> torch.Tensor:
        scored.append(len(texts))
        return score_texts(model, texts, microbatch_tokens)

    monkeypatch.setattr(scores, "score_texts", counting)
    found = score_rankings(model, [mine, other, yours], ["x", "y", "x"], 1000)
    assert scored == [4] == [len(different_texts([mine, other, yours]))]
    assert found.scores[[4, 5]].tolist() == found.scores[[1, 0]].tolist()
    assert len(set(found.scores.tolist())) == 4
    assert found.prompts.tolist() == [0, 1, 2]  # these begin differently
    same = Ranked([[9, 9, 1], [9, 9, 2]], [1, 2], 2), Ranked([[9, 9, 3], [9, 9, 1]], [1, 2], 2)
    assert score_rankings(model, same, ["x", "x"], 1000).prompts.tolist() == [0, 0]


def test_neighbours_that_begin_alike_are_scored_together(model: RewardModel) -> None:
    model.trunk.threads = RowThreads(1)
    pairs = [[*range(10 * i, 10 * i + length), end] for i in range(4) for length, end in ((4 + i, 1), (6, 2))]
    assert Scoring(model, pairs, 10**6).pieces == [[6, 7, 4, 5, 2, 3, 0, 1]]
    assert Scoring(model, pairs, 16).pieces == [[6, 7], [4, 5], [2, 3], [0, 1]]
    many = [[1, 2, 3, 4, i] for i in range(7)]
    assert Scoring(model, many, 16).pieces == [[6], [3, 4, 5], [0, 1, 2]]  # three rows of five tokens at most
    assert Scoring(model, many[:2], 1).pieces == [[1], [0]]
