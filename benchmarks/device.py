"""What an accelerator does with heed, beside the processor: device tests, the demo, PPO of GPT-2's shape in bfloat16,
and a run of it that is stopped and goes on. One table at the end; `benchmarks/device.sh` runs all of it.

`python benchmarks/device.py [--device cuda] [--skip tests demo ppo resume] [--output runs/device]`
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

import heed
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.policy import Policy, save_policy
from heed.models.roles import trained_copy
from heed.models.scalar_head import RewardModel, new_head, save_scalar
from heed.models.trunk import Trunk
from heed.report.frames import RunTables
from heed.settings.common import LoraSettings
from heed.training.describe import host
from heed.training.loop import Loop

TESTS = Path(__file__).parents[1] / "tests" / "device"
STEPS, STOPPED_AFTER = 4, 2
RESPONSE = 48  # tokens


@dataclass(frozen=True)
class Line:
    """A row of the table. `healthy` is None where nothing is judged."""

    what: str
    found: str
    healthy: bool | None = None


def device_tests() -> Iterator[Line]:
    """The tests that compare the accelerator with the processor."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "device and not slow", str(TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    told = done.stdout.strip().splitlines() or ["no output"]
    yield Line("device tests", told[-1], done.returncode == 0 and "passed" in told[-1])


def demos(place: Path, devices: list[str]) -> Iterator[Line]:
    """The demo, seed 0, on each device: how long it takes, and whether it comes to the same."""
    for device in devices:
        heed.demo(output=place / f"demo-{device}", device=device, overwrite=True)
        report = json.loads((place / f"demo-{device}" / "report.json").read_text())
        yield Line(f"demo, {device}: seconds", f"{report['seconds']:.0f}")
        gold = report["gold_win_rate"]
        told = f"{gold['estimate']:.3f} ({gold['low']:.3f} to {gold['high']:.3f})"
        yield Line(f"demo, {device}: wins against SFT by the gold score", told, gold["low"] > 0.5)
        last, smallest = report["kl_exact"]["estimate"], report["kl_exact_min"]
        yield Line(f"demo, {device}: exact KL, last and smallest", f"{last:.2f}, {smallest:.2g}", smallest > -1e-4)


def write_models(place: Path, shape: GPT2Config) -> dict[str, str]:
    """Random weights of a shape as a base, an SFT and a reward checkpoint, and prompts of random words."""
    words = ["<|endoftext|>", "<|pad|>", *(f"w{i}" for i in range(shape.vocab_size - 2))]
    text = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token=words[1]))
    text.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    GPT2LMHeadModel(shape).save_pretrained(place / "base")
    PreTrainedTokenizerFast(tokenizer_object=text, eos_token=words[0], pad_token=words[1]).save_pretrained(
        place / "base"
    )
    trunk = Trunk.load(open_checkpoint(str(place / "base")), torch.float32, torch.device("cpu"))
    trunk.add_adapter("sft", LoraSettings())
    about = {"base_hash": trunk.hash, "template": {"name": "plain", "hash": ""}}
    body = trained_copy(Policy(trunk, "sft"), "reward", LoraSettings())
    head = new_head(trunk.width, torch.Generator().manual_seed(0)).requires_grad_(False)
    save_policy(Policy(trunk, "sft"), place / "sft" / "checkpoint")
    save_scalar(RewardModel(trunk, body.adapter, head), place / "reward" / "checkpoint")
    for kind in ("sft", "reward"):
        write_metadata(place / kind / "checkpoint", {**about, "kind": "reward" if kind == "reward" else "policy"})
    numbers = torch.randint(2, shape.vocab_size, (256, 24), generator=torch.Generator().manual_seed(1)).tolist()
    rows = [json.dumps({"prompt": " ".join(words[i] for i in row)}) for row in numbers]
    (place / "prompts.jsonl").write_text("\n".join(rows) + "\n")
    names = {"model": "sft", "reward_model": "reward", "prompts": "prompts.jsonl"}
    return {setting: str(place / name) for setting, name in names.items()}


def ppo(place: Path, given: dict[str, str], device: str, dtype: str = "bfloat16", **changes: Any) -> RunTables:
    """A short run; the doctor's word on rounding is not waited for."""
    run = heed.ppo(
        **given, output=place, device=device, dtype=dtype, steps=STEPS, batch=32, minibatch=16, microbatch=16,
        critic_warmup=1, sampling={"max_new_tokens": RESPONSE, "batch": 32}, validation_limit=16, evaluations=2,
        allow_biased_kl=True, **changes,
    )  # fmt: skip
    return heed.read_run(run)


def ppo_lines(place: Path, given: dict[str, str], device: str) -> Iterator[Line]:
    """Speed and memory of a step, and whether PPO measures what it trains."""
    tables = ppo(place / f"ppo-{device}", given, device, overwrite=True)
    name = f"PPO of GPT-2's shape, bfloat16, {device}"
    later = tables.timings.iloc[1:]  # the first step warms up
    yield Line(f"{name}: seconds a step", f"{later['time/step'].median():.2f}")
    yield Line(f"{name}: response tokens/s", f"{later['perf/tokens_per_second'].median():,.0f}")
    if device.startswith("cuda"):
        yield Line(f"{name}: peak memory, GB", f"{torch.cuda.max_memory_allocated() / 1e9:.1f}")
    kl, rescored = tables.metrics["kl/exact"], tables.metrics["rescore/mean"]
    yield Line(f"{name}: exact KL, first step and last", f"{kl.iloc[0]:.2g}, {kl.iloc[-1]:.2g}", abs(kl.iloc[0]) < 1e-4)
    yield Line(f"{name}: sampler against scorer, nats a token", f"{rescored.max():.2g}", rescored.max() < 0.05)


def resume_lines(place: Path, given: dict[str, str], device: str) -> Iterator[Line]:
    """A run that is stopped in the middle and goes on, beside one that is not, in float32."""
    options = {"dtype": "float32", "device": device}
    whole = ppo(place / "whole", given, overwrite=True, **options).metrics
    shutil.rmtree(place / "stopped", ignore_errors=True)
    with suppress(SystemExit), patch.object(Loop, "record", stopping(Loop.record)):
        ppo(place / "stopped", given, **options)
    kept = len(heed.read_run(place / "stopped").metrics)
    heed.resume(place / "stopped")
    resumed = heed.read_run(place / "stopped").metrics
    apart = float((resumed["score/mean"] - whole["score/mean"]).abs().max())
    told = f"{kept} + {len(resumed) - kept} steps, mean score apart by {apart:.2g}"
    yield Line(f"resume, {device}", told, kept == STOPPED_AFTER and len(resumed) == len(whole) and apart < 1e-3)


def stopping(record: Any) -> Any:
    """`Loop.record`, with SIGTERM in the middle of a step."""

    def recorded(loop: Loop, *arguments: Any, **seconds: float) -> None:
        record(loop, *arguments, **seconds)
        if loop.step == STOPPED_AFTER:
            signal.raise_signal(signal.SIGTERM)

    return recorded


def lines(place: Path, device: str, skip: list[str], shape: GPT2Config) -> Iterator[Line]:
    """The table, line by line."""
    if "tests" not in skip:
        yield from device_tests()
    if "demo" not in skip:
        yield from demos(place, [device, "cpu"])
    if {"ppo", "resume"} <= set(skip):
        return
    given = write_models(place, shape)
    if "ppo" not in skip:
        yield from ppo_lines(place, given, device)
    if "resume" not in skip:
        yield from resume_lines(place, given, device)


def main() -> int:
    here = torch.accelerator.current_accelerator(check_available=True)
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--device", default=str(here) if here else "")
    parser.add_argument("--skip", nargs="*", default=[], choices=["tests", "demo", "ppo", "resume"])
    parser.add_argument("--output", type=Path, default=Path("runs/device"))
    asked = parser.parse_args()
    if not asked.device:
        print("there is no accelerator on this machine: name a device (--device cpu) to try the script")
        return 2
    started, table = time.perf_counter(), []
    asked.output.mkdir(parents=True, exist_ok=True)
    for line in lines(asked.output, asked.device, asked.skip, GPT2Config()):
        table.append(line)
        print(line, file=sys.stderr, flush=True)  # what is known so far, should the rest not come
    print(json.dumps(host()))
    for line in table:
        verdict = {None: "", True: "as it should be", False: "NOT AS IT SHOULD BE"}[line.healthy]
        print(f"{line.what:<70}  {line.found:<44}  {verdict}")
    print(f"{time.perf_counter() - started:.0f} seconds")
    return 3 if any(line.healthy is False for line in table) else 0


if __name__ == "__main__":
    sys.exit(main())
