"""Several people's rankings of the same responses: a step takes them together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heed.settings.common import LoraSettings, OptimizerSettings, SamplingSettings
from heed.settings.reward import RewardSettings
from heed.stages import reward


def settings(model: Path, **changes: object) -> RewardSettings:
    chosen = {
        "model": str(model), "data": "rankings.jsonl", "lora": LoraSettings(rank=0), "centring": 0.3, "max_tokens": 48,
        "sampling": SamplingSettings(max_new_tokens=8, batch=8), "optimizer": OptimizerSettings(learning_rate=1e-3),
        "evaluations": 1, "normalise_prompts": 16, "output": "run",
    }  # fmt: skip
    return RewardSettings.model_validate({**chosen, **changes})


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
