"""Several people's rankings of the same responses: one element of a batch, read once."""

from __future__ import annotations

import json
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
from heed.preference.start import untrained
from heed.settings.common import LoraSettings, OptimizerSettings, SamplingSettings
from heed.settings.reward import RewardSettings
from heed.stages import reward

TEXTS = [[5, 6, 7, 8, 0], [5, 6, 9, 0], [5, 6, 7]]
MINE, YOURS = EncodedRanking(TEXTS, [1, 2, 3], 2), EncodedRanking(TEXTS, [3, 1, 1], 2)
OTHER = EncodedRanking([[9, 10, 11, 0], [9, 10, 0]], [2, 1], 2)


def settings(model: Path, **changes: object) -> RewardSettings:
    chosen = {
        "model": str(model), "data": "rankings.jsonl", "lora": LoraSettings(rank=0), "centring": 0.3, "max_tokens": 48,
        "sampling": SamplingSettings(max_new_tokens=8, batch=8), "optimizer": OptimizerSettings(learning_rate=1e-3),
        "evaluations": 1, "normalise_prompts": 16, "output": "run",
    }  # fmt: skip
    return RewardSettings.model_validate({**chosen, **changes})


@pytest.fixture
def model(tiny_directory: Path) -> RewardModel:
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, torch.device("cpu"))
    fresh = untrained(Policy(trunk), settings(tiny_directory))
    fresh.head.weight.data.normal_(generator=torch.Generator().manual_seed(1))
    return fresh


def gradients(model: RewardModel, tasks: list[list[EncodedRanking]], **changes: object) -> tuple[dict, list[Tensor]]:
    with model.trainable() as parameters:
        told = reward.backpropagate(model, tasks, settings(Path(model.trunk.name), **changes))
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
    assert reward.tokens_of([[MINE, YOURS, MINE]]) == 5 + 4 + 3  # and its tokens count once in tokens a second


def test_a_step_takes_prompts_with_all_their_rankings(
    tiny_directory: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """24 prompts, each ranked by two people who saw the responses in different orders: three steps of eight."""
    rows = []
    for i in range(24):
        responses, group = [f"yes {i}", f"no {i}", "maybe"], f"g{i}"
        ranking = {"prompt": f"q{i}", "responses": responses, "ranks": [1, 2, 3], "group": group, "labeler": "ann"}
        rows += [ranking, {**ranking, "responses": responses[::-1], "ranks": [2, 1, 1], "labeler": "ben"}]
    data = tmp_path / "rankings.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    run = settings(tiny_directory, data=str(data), batch=6, validation_share=0.25, output=str(tmp_path / "run"))
    with caplog.at_level("INFO", "heed"):
        reward.run(run)
    steps = (tmp_path / "run" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(steps) == 3
    assert "18 sets of responses, some ranked more than once" in caplog.text
