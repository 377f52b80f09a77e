"""Evaluations of PPO: who judges the held-out answers, which policy is picked, and when the alarm fires."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from heed.errors import ConfigError, DataError
from heed.pocket.generate import ppo_prompts
from heed.records import write_jsonl
from heed.rl.held_out import HeldOut, HeldOutAnswers
from heed.settings.ppo import PPOSettings
from heed.stages import ppo


def answers(score: float, gold: float, kl: float, spread: float = 0.01) -> HeldOutAnswers:
    """Sixteen answers with these means."""
    about = torch.tensor([spread, -spread]).repeat(8)
    one = torch.ones(16)
    return HeldOutAnswers(["a"] * 16, score + about, one, one, kl * one, {"gold": gold + about})


def over_optimised(spread: float = 0.01) -> HeldOut:
    """The score rises for ever, gold rises and then falls."""
    found = HeldOut(None, [], 0, {"gold": lambda *_: []})  # type: ignore[arg-type]
    course = [(0, 0.0, 1.0, 0.0), (5, 0.5, 2.0, 3.0), (10, 1.0, 1.5, 9.0), (15, 1.5, 0.5, 20.0)]
    found.answered = {step: answers(score, gold, kl, spread) for step, score, gold, kl in course}
    return found


def test_every_judge_picks_by_its_own_scores() -> None:
    found = over_optimised()
    assert found.best("score", 0.0) == 15
    assert found.best("score", 10.0) == 10  # the best within the budget
    assert found.best("gold", 0.0) == 5


def test_the_alarm_fires_once_and_names_the_best(caplog: pytest.LogCaptureFixture) -> None:
    found = over_optimised()
    whole = dict(found.answered)
    with caplog.at_level(logging.WARNING, "heed"):
        for last in (5, 10, 15):
            found.answered = {step: one for step, one in whole.items() if step <= last}
            found.warn()
    assert [record.message for record in caplog.records] == [
        "over-optimised: the score goes on rising while gold falls; it was highest after step 5"
    ]


def test_noise_does_not_raise_the_alarm(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "heed"):
        over_optimised(spread=4.0).warn()  # two standard errors are 2, gold fell by 1.5
    assert not caplog.records


def test_metrics_have_an_interval_for_every_judge() -> None:
    told = over_optimised().metrics(5)
    assert told["validation/gold"] == pytest.approx(2.0) and told["validation/kl"] == 3.0
    for name in ("score", "gold"):
        low, middle, high = (told[f"validation/{name}{end}"] for end in ("_low", "", "_high"))
        assert low is not None and middle is not None and high is not None
        assert low < middle < high


@pytest.fixture(scope="module")
def finished(tiny_runs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on pocket prompts, watched by the gold score and by a judge that is the reward model itself."""
    place = tmp_path_factory.mktemp("watched")
    write_jsonl(place / "prompts.jsonl", ppo_prompts(0, 40))
    ppo.run(settings(tiny_runs, place / "prompts.jsonl", place / "run", judge=tiny_runs[1], select="heldout"))
    return place / "run"


def settings(runs: tuple[str, str], prompts: Path, output: Path, **changes: Any) -> PPOSettings:
    given = {
        "model": runs[0], "reward_model": runs[1], "prompts": {"path": str(prompts)}, "output": str(output),
        "steps": 3, "batch": 8, "minibatch": 4, "microbatch": 3, "critic_warmup": 1, "validation_share": 0.3,
        "sampling": {"max_new_tokens": 6}, "evaluations": 3, "lora": {"rank": 4}, "gold": True, "ema": 0.9,
        "hygiene": {"shared_prefix": 0, "max_per_user": 0}, "optimizer": {"learning_rate": 3e-3},
    }  # fmt: skip
    return PPOSettings(**{**given, **changes})


def test_a_judge_that_is_the_reward_model_says_the_same(finished: Path) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    evaluated = [row for row in rows if "validation/score" in row]
    assert len(evaluated) == 2
    for row in evaluated:
        assert row["validation/heldout"] == pytest.approx(row["validation/score"], abs=1e-4)
        assert row["validation/gold_low"] < row["validation/gold"] < row["validation/gold_high"]
    report = json.loads((finished / "report.json").read_text())
    assert report["kept"] == "heldout"
    for name in ("before", "after", "difference"):
        assert report["heldout"][name]["estimate"] == pytest.approx(report["score"][name]["estimate"], abs=1e-4)
        assert report["gold"][name]["n"] == report["score"][name]["n"]
    assert report["ema"]["gold"]["after"]["n"] == report["score"]["after"]["n"]


def test_whoever_is_to_pick_must_be_there(tiny_runs: tuple[str, str], finished: Path, tmp_path: Path) -> None:
    prompts = finished.parent / "prompts.jsonl"
    for select, hint in (("heldout", "set `judge`"), ("gold", "set `gold`")):
        with pytest.raises(ConfigError, match="has nobody to ask") as caught:
            ppo.run(settings(tiny_runs, prompts, tmp_path / "run", select=select, gold=False))
        assert caught.value.where == "select" and hint in caught.value.hint


def test_gold_is_for_the_pocket_world(tiny_runs: tuple[str, str], tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text("".join(f'{{"prompt": "question {i} ?"}}\n' for i in range(40)))
    with pytest.raises(DataError, match="not a question of the pocket world"):
        ppo.run(settings(tiny_runs, tmp_path / "prompts.jsonl", tmp_path / "run"))
