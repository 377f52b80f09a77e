from __future__ import annotations

from typing import NamedTuple

import pytest
import torch
from torch.testing import assert_close

from heed.models.policy import Policy
from heed.models.roles import trained_copy
from heed.models.scalar_head import RewardModel, new_head
from heed.models.scores import different_texts, score_rankings, score_texts
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
    done: list[int] = []
    with model.trunk.active(None):
        scores = score_texts(model, TEXTS, microbatch_tokens, done.append)
    assert_close(scores, torch.cat(alone), atol=1e-5, rtol=0)
    assert done[-1] == len(TEXTS)
    assert done == sorted(done)


def test_rankings_are_scored_raw_and_keep_their_order(model: RewardModel) -> None:
    rankings = [Ranked(TEXTS[:2], [2, 1], 2), Ranked(TEXTS[2:], [1, 1, 3], 1)]
    found = score_rankings(model, rankings, ["x", "y"], 16)
    assert_close(2 * found.scores - 3, score_texts(model, TEXTS, 1000), atol=1e-5, rtol=0)
    assert found.ranks.tolist() == [2, 1, 1, 1, 3]
    assert found.segments.tolist() == [0, 0, 1, 1, 1]
    assert found.lengths.tolist() == [1, 6, 0, 4, 2]


def test_what_several_people_ranked_is_scored_once_and_is_one_prompt(model: RewardModel) -> None:
    mine, other, yours = Ranked(TEXTS[:2], [2, 1], 1), Ranked(TEXTS[2:4], [1, 2], 1), Ranked(TEXTS[1::-1], [2, 1], 1)
    done: list[int] = []
    found = score_rankings(model, [mine, other, yours], ["x", "y", "x"], 1000, done.append)
    assert done[-1] == 4 == len(different_texts([mine, other, yours]))
    assert found.scores[[4, 5]].tolist() == found.scores[[1, 0]].tolist()
    assert len(set(found.scores.tolist())) == 4
    assert found.prompts.tolist() == [0, 1, 2]  # these begin differently
    same = Ranked([[9, 9, 1], [9, 9, 2]], [1, 2], 2), Ranked([[9, 9, 3], [9, 9, 1]], [1, 2], 2)
    assert score_rankings(model, same, ["x", "x"], 1000).prompts.tolist() == [0, 0]
