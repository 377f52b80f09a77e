"""The gradient of a step of the reward model, and how several people's rankings of the same responses weigh in it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heed.data.encode import EncodedRanking
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.scalar_head import RewardModel
from heed.models.trunk import Trunk
from heed.preference.loss import backpropagate, tokens_a_response, tokens_of
from heed.preference.start import untrained
from heed.settings.common import LoraSettings

TEXTS = [[5, 6, 7, 8, 0], [5, 6, 9, 0], [5, 6, 7]]
MINE, YOURS = EncodedRanking(TEXTS, [1, 2, 3], 2), EncodedRanking(TEXTS, [3, 1, 1], 2)
OTHER = EncodedRanking([[9, 10, 11, 0], [9, 10, 0]], [2, 1], 2)


@pytest.fixture
def model(tiny_directory: Path) -> RewardModel:
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, torch.device("cpu"))
    fresh = untrained(Policy(trunk), LoraSettings(rank=0), seed=0)
    fresh.head.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    return fresh


def gradients(
    model: RewardModel, tasks: list[list[EncodedRanking]], microbatch_tokens: int = 8192
) -> tuple[dict[str, float], list[Tensor]]:
    with model.trainable() as parameters:
        told = backpropagate(model, tasks, 0.3, microbatch_tokens)
        found = [weight.grad.clone() for weight in parameters.values() if weight.grad is not None]
        for weight in parameters.values():
            weight.grad = None
    return told, found


@pytest.mark.parametrize("microbatch_tokens", [8192, 4], ids=["one pass", "a pass a task"])
def test_a_task_weighs_the_same_however_many_ranked_it(model: RewardModel, microbatch_tokens: int) -> None:
    alone = [gradients(model, [[ranking]]) for ranking in (MINE, YOURS, OTHER)]
    told, found = gradients(model, [[MINE, YOURS], [OTHER]], microbatch_tokens=microbatch_tokens)
    weights = (0.25, 0.25, 0.5)
    for name in ("loss/ranking", "loss/centring", "accuracy/train"):
        expected = sum(weight * parts[name] for weight, (parts, _) in zip(weights, alone, strict=True))
        assert told[name] == pytest.approx(expected, rel=1e-5)
    for i, gradient in enumerate(found):
        expected = sum(weight * own[i] for weight, (_, own) in zip(weights, alone, strict=True))
        assert_close(gradient, expected, atol=1e-5, rtol=1e-4)
    assert max(float(gradient.abs().max()) for gradient in found) > 1e-3
    assert abs(alone[0][0]["loss/ranking"] - alone[1][0]["loss/ranking"]) > 1e-2  # the two people disagree


def test_the_responses_of_a_task_are_read_once(model: RewardModel, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = []
    read = RewardModel.scores_of
    monkeypatch.setattr(
        RewardModel, "scores_of", lambda self, batch: (rows.append(len(batch.tokens)), read(self, batch))[1]
    )
    gradients(model, [[MINE, YOURS, MINE]])
    assert rows == [len(TEXTS)]
    assert tokens_of([[MINE, YOURS, MINE]]) == 5 + 4 + 3  # and its tokens count once in tokens a second


def test_a_prompt_counts_once_among_its_responses_when_rows_are_grouped() -> None:
    prompt, responses = [1] * 7, ([2] * 3, [2] * 5)
    ranking = EncodedRanking([prompt + response for response in responses], [1, 2], len(prompt))
    assert tokens_a_response(ranking) == 5 + 4  # the longest response, and half of seven tokens
