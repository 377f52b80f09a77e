"""SIGKILL at random moments, then `resume`, until the run is finished: is it the run that was never killed?

    python tests/chaos/kills.py --kills 200 --seed 0          # every stage of a small chain; `make chaos`
    python tests/chaos/kills.py --kills 10 --forget random    # the control: a state without a part must be caught

Each run is a process of its own, forked from one that has imported the libraries. It saves a state after every step, so
that kills fall into steps, optimisers, states that are being written, renames and rows alike. Every file must have the
same SHA-256 in the end, but for timings and `run.json`. Exit code 0: all of them did.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from heed.settings.common import DecaySettings, LoraSettings, OptimizerSettings, SamplingSettings
from heed.settings.evaluate import SampleSettings
from heed.settings.ppo import PPOSettings, PtxSettings
from heed.settings.pretrain import PretrainSettings
from heed.settings.reward import RewardSettings
from heed.settings.sft import SFTSettings
from heed.stages import ppo, pretrain, reward, sample, sft
from heed.training.loop import Loop

MAY_DIFFER = ("timings.jsonl", "run.json")
LEFT_BEHIND = ("state", "run.lock")
"""What a run that was killed after its last word had no time to remove."""
LORA, SAMPLING = LoraSettings(rank=4, alpha=8), SamplingSettings(max_new_tokens=6, batch=4)


def chain(place: Path) -> dict[str, tuple[Callable[[Any], object], Any]]:
    """The stages in order, with settings that make steps of some milliseconds."""
    base, fast = {"output": "run", "save_every": 1}, OptimizerSettings(learning_rate=3e-3)
    rows = str(place / "rows.jsonl")
    return {
        "pretrain": (pretrain.run, PretrainSettings(
            **base, text=(str(place / "text.txt"),), tokenizer="words", vocabulary=64, layers=1, width=16, heads=2,
            context=48, sequence=32, batch=4, dtype="float32", optimizer=fast,
        )),
        "sft": (sft.run, SFTSettings(
            **base, model=str(place / "pretrain"), data=rows, batch=4, lora=LORA, completions=4, completion_tokens=6,
            few_shot=0, optimizer=fast, validation_share=0.2, template="plain", epochs=1.0, max_tokens=40,
        )),
        "sample": (sample.run, SampleSettings(
            **base, model=str(place / "sft"), prompts=rows, responses=2, sampling=SAMPLING
        )),
        "reward": (reward.run, RewardSettings(
            **base, model=str(place / "sft"), data=str(place / "pairs.jsonl"), batch=4, lora=LORA, max_tokens=40,
            sampling=SAMPLING, normalise_prompts=8, validation_share=0.2, optimizer=fast,
        )),
        "ppo": (ppo.run, PPOSettings(
            **base, model=str(place / "sft"), reward_model=str(place / "reward"), prompts=rows, steps=8, batch=8,
            minibatch=4, critic_warmup=2, warmup_steps=3, sampling=SAMPLING, evaluations=3, validation_share=0.2,
            kl_target=0.5, kl_horizon=20.0, ema=0.9, lora=LORA,
            ptx=PtxSettings(coef=0.5, text=(str(place / "text.txt"),), sequence=16),
            optimizer=DecaySettings(learning_rate=3e-3, schedule="linear", eps=1e-5),
        )),
    }  # fmt: skip


def write_data(place: Path) -> None:
    words = "cat dog cow red blue says runs sits".split()
    rows = [{"prompt": f"{a} {b}", "response": f"{b} {a}"} for a in words for b in words]
    pairs = [{"prompt": row["prompt"], "chosen": row["response"], "rejected": "says says"} for row in rows]
    for name, some in (("rows", rows), ("pairs", pairs)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    (place / "text.txt").write_text("<|endoftext|>".join(f"{a} {b} {c}" for a in words for b in words for c in words))


def child(run: Callable[[Any], object], settings: Any, place: Path, spoil: Callable[[], object]) -> int:
    """Fork a process that makes the run in `place`, once `spoil` has been called there; returns its id."""
    process = os.fork()
    if process:
        return process
    try:
        os.chdir(place)
        told = os.open(place / "told.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(told, 1)
        os.dup2(told, 2)
        spoil()
        run(settings)
    except BaseException as error:  # noqa: BLE001 a forked child must not return into its parent's stack
        traceback.print_exc()
        print(repr(error), flush=True)
        os._exit(1)
    os._exit(0)


def leave_out(part: str) -> None:
    """A build whose saved states lack a part: it is written, and not read again."""
    if not part:
        return
    init, (name, *inner) = Loop.__init__, part.split(".")

    def forgetful(self: Loop, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        if name in self.parts:
            lost: Any = self.parts[name]
            for attribute in inner:
                lost = getattr(lost, attribute)
            method = "load_state_dict" if hasattr(lost, "load_state_dict") else "load"
            setattr(lost, method, lambda state: None)

    Loop.__init__ = forgetful  # type: ignore[method-assign]


def finish(run: Callable[[Any], object], settings: Any, place: Path, kills: int, forget: str, rng: random.Random,
           seconds: float) -> int:  # fmt: skip
    """Run, kill, resume, until the run is finished and has been killed `kills` times; returns how often it was."""
    done = 0
    while True:
        exists = (place / "run" / "run.json").exists()
        if exists and json.loads((place / "run" / "run.json").read_text())["finished"]:
            return done  # killed between its last word and its end
        process = child(run, settings.model_copy(update={"resume": exists}), place, partial(leave_out, forget))
        if done < kills:
            time.sleep(rng.uniform(0.02, seconds))
            os.kill(process, signal.SIGKILL)
        _, status = os.waitpid(process, 0)
        if os.WIFSIGNALED(status):
            done += 1
        elif os.waitstatus_to_exitcode(status):
            raise RuntimeError((place / "told.txt").read_text().splitlines()[-1])
        else:
            return done


def hashes(run: Path) -> dict[str, str]:
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name not in MAY_DIFFER)
    files = [path for path in files if path.relative_to(run).parts[0] not in LEFT_BEHIND]
    return {str(path.relative_to(run)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stages", nargs="*", default=["pretrain", "sft", "sample", "reward", "ppo"])
    parser.add_argument("--forget", default="", help="what of the state is not read again: random, policy.optimizer …")
    asked = parser.parse_args()
    rng, different, total, place = random.Random(asked.seed), 0, 0, Path(tempfile.mkdtemp(prefix="heed-kills-"))
    write_data(place)
    for name, (run, settings) in chain(place).items():
        (place / "whole").mkdir()
        started = time.perf_counter()
        finish(run, settings, place / "whole", 0, "", rng, 0.0)
        seconds, expected = time.perf_counter() - started, hashes(place / "whole" / "run")
        shutil.move(place / "whole" / "run", place / name)
        shutil.rmtree(place / "whole")
        if name not in asked.stages:
            continue
        kills, same, runs = 0, 0, 0
        share = -(-asked.kills // len(asked.stages))
        while kills < share:
            killed = place / f"killed-{name}-{runs}"
            killed.mkdir()
            try:
                hit = finish(run, settings, killed, min(5, share - kills), asked.forget, rng, seconds)
            except RuntimeError as error:
                print(f"{name}: {error}")
                hit, kills = 1, kills + 0
            kills, runs = kills + max(hit, 1), runs + 1
            same += hashes(killed / "run") == expected
            shutil.rmtree(killed)
        total, different = total + kills, different + runs - same
        print(f"{name}: {kills} kills in {runs} runs, {same} of {runs} runs the same to the last byte", flush=True)
    shutil.rmtree(place)
    print(f"{total} kills, {different} runs differ")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
