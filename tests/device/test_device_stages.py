"""Every stage on another device beside the processor: tensors and generators lie where they are used, nothing is in
float64 there, and a stopped run goes on."""

from __future__ import annotations

import importlib
import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from heed import cli, config
from heed.training.loop import Loop

from .elsewhere import ELSEWHERE

SAMPLING = {"max_new_tokens": 6, "batch": 8}
LORA = {"rank": 4, "alpha": 8}
Row = dict[str, float | None]


def settings(name: str, place: Path, base: Path, runs: tuple[str, str]) -> dict[str, Any]:
    sft, reward = runs
    prompts, pairs = str(place / "demonstrations.jsonl"), str(place / "pairs.jsonl")
    text = [str(place / "text.txt")]
    stages: dict[str, dict[str, Any]] = {
        "sft": {"model": str(base), "data": prompts, "batch": 8, "lora": LORA, "completions": 4,
                "completion_tokens": 6, "few_shot": 0, "max_tokens": 60, "validation_share": 0.2},
        "reward": {"model": sft, "data": pairs, "batch": 8, "lora": LORA, "max_tokens": 60, "sampling": SAMPLING,
                   "normalise_prompts": 8, "validation_share": 0.2},
        "ppo": {"model": sft, "reward_model": reward, "lora": LORA, "prompts": prompts, "steps": 3, "batch": 8,
                "minibatch": 4, "microbatch": 3, "critic_warmup": 1, "warmup_steps": 1, "sampling": SAMPLING,
                "validation_share": 0.2, "ema": 0.9, "ptx": {"coef": 0.5, "text": text, "sequence": 16},
                "allow_biased_kl": True},
        "sample": {"model": sft, "prompts": prompts, "responses": 2, "sampling": SAMPLING},
        "best-of-n": {"model": sft, "reward_model": reward, "prompts": prompts, "n": 4, "sampling": SAMPLING},
        "evaluate": {"models": {"a": sft, "b": str(base)}, "reward_models": {"judge": reward}, "prompts": prompts,
                     "sampling": SAMPLING, "text": text},
        "evaluate-reward": {"model": reward, "data": pairs},
    }  # fmt: skip
    return stages[name]


DRAWS = {"ppo", "sample", "best-of-n", "evaluate"}
"""Stages whose rows tell of drawn tokens, which a real accelerator draws with other random numbers."""


def run(name: str, output: Path, device: str, **given: Any) -> list[Row]:
    """Rows of a stage's metrics."""
    command = cli.COMMANDS[name]
    values = {**given, "output": str(output), "device": device, "dtype": "float32"}
    importlib.import_module(f"heed.{command.stage}").run(config.from_values(cli.settings_of(command), "", values))
    return [json.loads(line) for line in (output / "metrics.jsonl").read_text().splitlines()]


def assert_alike(one: Row, other: Row) -> None:
    numbers = {name: value for name, value in other.items() if value is not None}
    assert one.keys() == other.keys()
    assert {name for name, value in one.items() if value is not None} == numbers.keys()
    assert {name: one[name] for name in numbers} == pytest.approx(numbers, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("name", ["sft", "reward", "ppo", "sample", "best-of-n", "evaluate", "evaluate-reward"])
def test_a_stage_is_the_stage_on_the_processor(
    name: str, device: torch.device, place: Path, tiny_directory: Path, tiny_runs: tuple[str, str], tmp_path: Path
) -> None:
    given = settings(name, place, tiny_directory, tiny_runs)
    there, here = (run(name, tmp_path / at, at, **given) for at in (str(device), "cpu"))
    assert len(there) == len(here) > 0
    for one, other in zip(there, here, strict=True):
        if name not in DRAWS or device == ELSEWHERE:
            assert_alike(one, other)
        assert one.keys() == other.keys()
    if name == "ppo":
        measures_what_it_trains(there)


def measures_what_it_trains(rows: list[Row]) -> None:
    assert rows[0]["kl/exact"] == pytest.approx(0.0, abs=1e-5)  # the policy begins as the reference
    for row in rows:
        assert row["rescore/max"] < 1e-3  # type: ignore[operator]  # sampler and scorer agree on every token
        assert row["kl/exact"] > -1e-5  # type: ignore[operator]


def test_a_stopped_run_goes_on(
    device: torch.device, place: Path, tiny_directory: Path, tiny_runs: tuple[str, str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    given = settings("ppo", place, tiny_directory, tiny_runs)
    whole = run("ppo", tmp_path / "whole", str(device), **given)
    record = Loop.record

    def stopped(loop: Loop, *arguments: Any, **seconds: float) -> None:
        record(loop, *arguments, **seconds)
        if loop.step == 2:
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "record", stopped)
        with pytest.raises(SystemExit):
            run("ppo", tmp_path / "stopped", str(device), **given)
    resumed = run("ppo", tmp_path / "stopped", str(device), resume=True, **given)
    assert [row["step"] for row in resumed] == [row["step"] for row in whole] == [1, 2, 3]
    for one, other in zip(resumed, whole, strict=True):
        assert_alike(one, other)
