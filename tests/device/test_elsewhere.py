"""Every stage on a second device: tensors and generators lie where they are used, nothing is in float64 there."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from heed import cli, config

from .elsewhere import accelerator

SAMPLING = {"max_new_tokens": 6, "batch": 8}
LORA = {"rank": 4, "alpha": 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data for every stage."""
    place = tmp_path_factory.mktemp("data")
    demonstrations = [{"prompt": f"q{i}", "response": "ab" * (1 + i % 4)} for i in range(20)]
    pairs = [{"prompt": f"q{i}", "chosen": "ab!" + "c" * (i % 3), "rejected": "ba"} for i in range(20)]
    for name, rows in (("demonstrations", demonstrations), ("pairs", pairs)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "text.txt").write_text("<|endoftext|>".join(f"the cat says {'miau ' * (i % 5)}" for i in range(60)))
    return place


def settings(name: str, place: Path, base: Path, runs: tuple[str, str]) -> dict[str, Any]:
    sft, reward = runs
    prompts, pairs = str(place / "demonstrations.jsonl"), str(place / "pairs.jsonl")
    text = [str(place / "text.txt")]
    stages: dict[str, dict[str, Any]] = {
        "sft": {"model": str(base), "data": prompts, "batch": 8, "lora": LORA, "completions": 4,
                "completion_tokens": 6, "few_shot": 0, "max_tokens": 60, "validation_share": 0.2},
        "reward": {"model": sft, "data": pairs, "batch": 8, "lora": LORA, "max_tokens": 60, "sampling": SAMPLING,
                   "normalise_prompts": 8, "validation_share": 0.2},
        "ppo": {"model": sft, "reward_model": reward, "lora": LORA, "prompts": prompts, "steps": 2, "batch": 8,
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


def run(name: str, output: Path, elsewhere: bool, **given: Any) -> None:
    command = cli.COMMANDS[name]
    stage = importlib.import_module(f"heed.{command.stage}")
    with accelerator() if elsewhere else nullcontext("cpu") as device:
        values = {**given, "output": str(output), "device": device, "dtype": "float32"}
        stage.run(config.from_values(cli.settings_of(command), "", values))


REFUSED: dict[str, Callable[[Tensor, torch.Generator], object]] = {
    "two places": lambda there, here: there + torch.ones(3),
    "a generator of the processor": lambda there, here: torch.multinomial(there, 1, generator=here),
    "a generator from elsewhere": lambda there, here: torch.rand(3, generator=torch.Generator("meta")),
    "a mask of the processor": lambda there, here: there.masked_fill(torch.ones(3, dtype=torch.bool), 0),
    "float64": lambda there, here: there.double(),
    "numpy": lambda there, here: there.numpy(),
}


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_what_an_accelerator_refuses(refused: Callable[[Tensor, torch.Generator], object]) -> None:
    with accelerator() as device:
        there = torch.ones(3, device=device)
        assert (there + 1).tolist() == there.cpu().add(1).tolist() == [2.0, 2.0, 2.0]
        with pytest.raises((RuntimeError, TypeError)):
            refused(there, torch.Generator())


def rows(path: Path) -> list[dict[str, float | None]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", ["sft", "reward", "ppo", "sample", "best-of-n", "evaluate", "evaluate-reward"])
def test_a_stage_on_another_device_is_the_stage_on_the_processor(
    name: str, place: Path, tiny_directory: Path, tiny_runs: tuple[str, str], tmp_path: Path
) -> None:
    given = settings(name, place, tiny_directory, tiny_runs)
    run(name, tmp_path / "there", True, **given)
    run(name, tmp_path / "here", False, **given)
    there, here = (rows(tmp_path / at / "metrics.jsonl") for at in ("there", "here"))
    assert len(there) == len(here) > 0
    for one, other in zip(there, here, strict=True):
        assert {name for name, value in one.items() if value is None} == {n for n, v in other.items() if v is None}
        numbers = {name: value for name, value in other.items() if value is not None}
        assert {name: one[name] for name in numbers} == pytest.approx(numbers, rel=1e-3, abs=1e-4)
