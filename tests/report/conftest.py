"""Run directories as stages write them, made of numbers that a test can know."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest

from heed import config
from heed.settings.common import DataSettings, StageSettings
from heed.settings.ppo import PPOSettings

Write = Callable[..., Path]


def lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def estimate(value: float, half: float = 0.1, n: int = 50) -> dict[str, float | int]:
    return {"estimate": value, "low": value - half, "high": value + half, "n": n}


def ppo_settings(**changes: Any) -> PPOSettings:
    about = {"output": "runs/ppo", "model": "runs/sft", "reward_model": "runs/reward", "batch": 16, "steps": 30}
    return PPOSettings(**{**about, "prompts": DataSettings(path="data/prompts.jsonl"), **changes})


def ppo_row(step: int, **changes: Any) -> dict[str, Any]:
    """A row of PPO with every metric, of values that follow from the step."""
    done = step / (step + 10)
    row = {
        "step": step, "score/mean": done, "score/sd": 0.8, "reward/mean": 0.8 * done, "reward/kl_share": 0.1,
        "kl/k1": 4 * done + 0.1 * math.sin(step), "kl/k1_se": 0.2, "kl/exact": 4 * done, "kl/coef": 0.05, "kl/k3": 4.0,
        "kl/z_validity": math.sin(step), "kl/z_surprisal": math.cos(step), "rescore/mean": 1e-7, "rescore/max": 5e-6,
        "policy/entropy": 2 - done, "policy/approx_kl": 0.004, "policy/clip_fraction": 0.05 + 0.01 * math.sin(3 * step),
        "policy/ratio_first": 1e-6, "policy/grad_norm": 0.5, "value/grad_norm": 1.5, "loss/policy": -0.01,
        "value/loss": 1 / step, "value/explained_variance": done, "length/mean": 20 + math.sin(step),
        "length/eos_rate": 0.99,
    }  # fmt: skip
    return {**row, **changes}


def about(settings: StageSettings, **changes: Any) -> dict[str, Any]:
    return {
        "settings": type(settings).__name__, "command": "heed ppo recipe.yaml", "seed": settings.seed,
        "started": "2026-11-28T12:00:00+00:00", "finished": True, "commit": "0123456789abcdef0123456789abcdef01234567",
        "versions": {"python": "3.11.7", "torch": "2.13.0"}, "seconds": 125.0,
        "host": {"system": "Linux", "processor": "A CPU", "threads": 2}, **changes,
    }  # fmt: skip


@pytest.fixture
def write_run(tmp_path: Path) -> Write:
    """`write_run(name, settings, rows=…, samples=…, findings=…, report=…, **about)` → its directory."""

    def write(
        name: str,
        settings: StageSettings,
        rows: Iterable[Mapping[str, Any]] = (),
        samples: Iterable[Mapping[str, Any]] = (),
        findings: Iterable[Mapping[str, Any]] = (),
        report: Mapping[str, Any] | None = None,
        **changes: Any,
    ) -> Path:
        path = tmp_path / name
        path.mkdir(parents=True)
        (path / "config.yaml").write_text(config.dump(settings), encoding="utf-8")
        (path / "run.json").write_text(json.dumps(about(settings, **changes)), encoding="utf-8")
        for file, content in (("metrics", rows), ("samples", samples), ("findings", findings)):
            if content := list(content):
                lines(path / f"{file}.jsonl", content)
        if report is not None:
            (path / "report.json").write_text(json.dumps(report), encoding="utf-8")
        return path

    return write


@pytest.fixture
def ppo_run(write_run: Write) -> Path:
    """A finished run of PPO of thirty steps."""
    samples = [
        {"step": step, "prompt": f"what is {step}?", "response": "word " * (1 + step % 7), "score": step / 30 - 0.5,
         "kl": 0.1 * step, "finished": step % 10 != 0}
        for step in range(1, 31)
    ]  # fmt: skip
    report = {
        "score": {"before": estimate(0.125), "after": estimate(0.875), "difference": estimate(0.75)},
        "win_rate": estimate(0.8125), "length": {"before": 20.5, "after": 19.25},
        "eos_rate": {"before": 1.0, "after": 0.96875},
        "doctor": {"tests": {"T0": "passed", "T5": "passed", "T8": "not tested"}, "findings": {}},
    }  # fmt: skip
    return write_run("ppo", ppo_settings(), [ppo_row(step) for step in range(1, 31)], samples, report=report)
