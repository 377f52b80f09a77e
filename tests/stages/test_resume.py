"""A run that was stopped and went on is the run that was never stopped, byte for byte: every stage."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from contextlib import chdir
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from heed.errors import ConfigError, RunError
from heed.settings.best_of_n import BestOfNSettings
from heed.settings.common import DecaySettings, LoraSettings, OptimizerSettings, SamplingSettings, StageSettings
from heed.settings.evaluate import EvaluateSettings, SampleSettings
from heed.settings.ppo import PPOSettings, PtxSettings
from heed.settings.pretrain import PretrainSettings
from heed.settings.reward import EvaluateRewardSettings, RewardSettings, ScoreSettings
from heed.settings.sft import SFTSettings
from heed.stages import best_of_n, evaluate, evaluate_reward, ppo, pretrain, reward, sample, score, sft
from heed.training.loop import Loop

LORA, FULL = LoraSettings(rank=4, alpha=8), LoraSettings(rank=0)
FAST = OptimizerSettings(learning_rate=3e-3)
SAMPLING = SamplingSettings(max_new_tokens=6, batch=8)
MAY_DIFFER = {"timings.jsonl", "run.json"}  # wall-clock times, and when it was resumed


@pytest.fixture(scope="module")
def place(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and an SFT and a reward run to go on from."""
    place = tmp_path_factory.mktemp("chain")
    demonstrations = [{"prompt": f"q{i}", "response": "ab" * (1 + i % 4)} for i in range(40)]
    pairs = [{"prompt": f"q{i}", "chosen": "ab!" + "c" * (i % 3), "rejected": "ba"} for i in range(40)]
    documents = [f"the {name} says {sound}." for name, sound in (("cat", "miau"), ("dog", "wau")) for _ in range(90)]
    for name, rows in (("demonstrations", demonstrations), ("pairs", pairs)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "text.txt").write_text("<|endoftext|>".join(documents))
    sft.run(sft_settings(place, tiny_directory).model_copy(update={"output": str(place / "sft"), "template": "plain"}))
    reward.run(reward_settings(place).model_copy(update={"output": str(place / "reward")}))
    return place


def sft_settings(place: Path, base: Path, **changes: Any) -> SFTSettings:
    given = {
        "model": str(base), "data": str(place / "demonstrations.jsonl"), "output": "run", "batch": 8, "epochs": 1.0,
        "lora": LORA, "optimizer": FAST, "evaluations": 2, "completions": 4, "completion_tokens": 6, "few_shot": 0,
        "max_tokens": 60, "validation_share": 0.2,
    }  # fmt: skip
    return SFTSettings(**{**given, **changes})


def reward_settings(place: Path, **changes: Any) -> RewardSettings:
    given = {
        "model": str(place / "sft"), "data": str(place / "pairs.jsonl"), "output": "run", "batch": 8, "lora": LORA,
        "max_tokens": 60, "sampling": SAMPLING, "optimizer": FAST, "normalise_prompts": 8, "validation_share": 0.2,
        "evaluations": 2,
    }  # fmt: skip
    return RewardSettings(**{**given, **changes})


def ppo_settings(place: Path, **changes: Any) -> PPOSettings:
    given = {
        "model": str(place / "sft"), "reward_model": str(place / "reward"), "output": "run", "lora": LORA,
        "prompts": str(place / "demonstrations.jsonl"), "steps": 4, "batch": 8, "minibatch": 4, "microbatch": 3,
        "critic_warmup": 1, "warmup_steps": 2, "sampling": SAMPLING, "evaluations": 3, "validation_share": 0.2,
        "kl_target": 0.5, "kl_horizon": 20.0, "ema": 0.9,
        "ptx": PtxSettings(coef=0.5, text=(str(place / "text.txt"),), ratio=1, sequence=16),
        "optimizer": DecaySettings(learning_rate=3e-3, schedule="constant"),
    }  # fmt: skip
    return PPOSettings(**{**given, **changes})


def pretrain_settings(place: Path, **changes: Any) -> PretrainSettings:
    given = {
        "text": (str(place / "text.txt"),), "output": "run", "tokenizer": "words", "vocabulary": 32, "layers": 1,
        "width": 16, "heads": 2, "context": 16, "sequence": 16, "batch": 16, "dtype": "float32", "optimizer": FAST,
    }  # fmt: skip
    return PretrainSettings(**{**given, **changes})


def evaluate_settings(place: Path) -> EvaluateSettings:
    return EvaluateSettings(
        models={"a": str(place / "sft"), "b": str(place / "sft"), "c": str(place / "sft"), "d": str(place / "sft")},
        reward_models={"judge": str(place / "reward")}, prompts=str(place / "demonstrations.jsonl"), output="run",
        sampling=SAMPLING, text=(str(place / "text.txt"),),
    )  # fmt: skip


def sample_settings(place: Path) -> SampleSettings:
    return SampleSettings(
        model=str(place / "sft"), prompts=str(place / "demonstrations.jsonl"), output="run", responses=2,
        sampling=SAMPLING,
    )  # fmt: skip


def best_of_n_settings(place: Path) -> BestOfNSettings:
    return BestOfNSettings(
        model=str(place / "sft"), reward_model=str(place / "reward"), prompts=str(place / "demonstrations.jsonl"),
        output="run", n=4, sampling=SAMPLING,
    )  # fmt: skip


def evaluate_reward_settings(place: Path) -> EvaluateRewardSettings:
    return EvaluateRewardSettings(
        model=str(place / "reward"), data=str(place / "pairs.jsonl"), output="run", microbatch_tokens=64
    )


def score_settings(place: Path) -> ScoreSettings:
    return ScoreSettings(**evaluate_reward_settings(place).model_dump())


STAGES: dict[str, tuple[Callable[[Any], object], Callable[[Path, Path], StageSettings]]] = {
    "pretrain": (pretrain.run, lambda place, base: pretrain_settings(place)),
    "pretrain, adamw": (pretrain.run, lambda place, base: pretrain_settings(place, method="adamw")),
    "sft": (sft.run, sft_settings),
    "sft, dropout": (sft.run, lambda place, base: sft_settings(place, base, lora=LoraSettings(rank=4, dropout=0.3))),
    "sft, all weights": (sft.run, lambda place, base: sft_settings(place, base, lora=FULL)),
    "reward": (reward.run, lambda place, base: reward_settings(place)),
    "reward, muon": (reward.run, lambda place, base: reward_settings(place, lora=FULL, method="muon")),
    "ppo": (ppo.run, lambda place, base: ppo_settings(place)),
    "ppo, all weights": (ppo.run, lambda place, base: ppo_settings(place, lora=FULL, ema=0.0)),
    "sample": (sample.run, lambda place, base: sample_settings(place)),
    "best-of-n": (best_of_n.run, lambda place, base: best_of_n_settings(place)),
    "evaluate": (evaluate.run, lambda place, base: evaluate_settings(place)),
    "evaluate-reward": (evaluate_reward.run, lambda place, base: evaluate_reward_settings(place)),
    "score": (score.run, lambda place, base: score_settings(place)),
}


def everything(run: Path) -> dict[str, bytes]:
    """All files of a run that must be equal."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.name not in MAY_DIFFER)
    return {str(path.relative_to(run)): path.read_bytes() for path in files}


def stop_at(step: int, monkeypatch: pytest.MonkeyPatch, number: int = signal.SIGTERM) -> None:
    """The signal arrives in the middle of a step."""
    record = Loop.record

    def recorded(self: Loop, *arguments: Any, **options: Any) -> None:
        record(self, *arguments, **options)
        if self.step == step:
            os.kill(os.getpid(), number)

    monkeypatch.setattr(Loop, "record", recorded)


@pytest.fixture(scope="module")
def whole(
    place: Path, tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], dict[str, bytes]]:
    """All files of the uninterrupted run of a stage, which is made once."""

    @cache
    def of(name: str) -> dict[str, bytes]:
        run, made = STAGES[name]
        with chdir(tmp_path_factory.mktemp("whole")):
            run(made(place, tiny_directory))
            return everything(Path("run"))

    return of


MOMENTS = [(name, 2) for name in STAGES] + [("ppo", 1), ("ppo", "last"), ("sft", "last"), ("sample", "last")]


@pytest.mark.parametrize(("name", "step"), MOMENTS)
def test_stopped_and_gone_on_is_never_stopped(
    name: str,
    step: int | str,
    whole: Callable[[str], dict[str, bytes]],
    place: Path,
    tiny_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, made = STAGES[name]
    settings, expected = made(place, tiny_directory), whole(name)
    steps = sum(1 for row in expected["metrics.jsonl"].splitlines() if json.loads(row)["step"])
    assert steps >= 4
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        stop_at(steps if step == "last" else int(step), patch)
        with pytest.raises(SystemExit) as stopped:
            run(settings)
    assert stopped.value.code == 143
    assert not json.loads(Path("run/run.json").read_text())["finished"]
    with pytest.raises(ConfigError, match="holds a run that was stopped\nhint: go on with it: heed resume run"):
        run(settings)
    run(settings.model_copy(update={"resume": True}))
    assert everything(Path("run")) == expected
    described = json.loads(Path("run/run.json").read_text())
    assert described["finished"]
    assert [again["step"] for again in described["resumed"]] == [steps if step == "last" else step]


def test_killed_without_a_word_goes_on_from_the_last_state(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows after the last state are written again, not twice."""
    settings = ppo_settings(place, save_every=2)
    for directory in ("whole", "killed"):
        (tmp_path / directory).mkdir()
    monkeypatch.chdir(tmp_path / "whole")
    ppo.run(settings)
    monkeypatch.chdir(tmp_path / "killed")

    class Killed(BaseException):
        pass

    with monkeypatch.context() as patch:
        record = Loop.record

        def recorded(self: Loop, *arguments: Any, **options: Any) -> None:
            record(self, *arguments, **options)
            if self.step == 3:
                raise Killed

        patch.setattr(Loop, "record", recorded)
        with pytest.raises(Killed):
            ppo.run(settings)
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 3
    assert [path.name for path in Path("run/state").iterdir()] == ["step-00000002"]
    assert (Path("run") / "checkpoint" / "adapter_model.safetensors").is_file()  # others can open it meanwhile
    ppo.run(settings.model_copy(update={"resume": True}))
    assert everything(Path("run")) == everything(tmp_path / "whole" / "run")
    assert not Path("run/state").exists()


def test_a_loss_that_is_not_finite_leaves_a_state(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ppo_settings(place)
    with monkeypatch.context() as patch:
        record = Loop.record

        def recorded(self: Loop, *arguments: Any, **options: Any) -> None:
            if self.step == 3:
                raise RunError("this step", "the loss is nan", "lower it")
            record(self, *arguments, **options)

        patch.setattr(Loop, "record", recorded)
        told = r"run: step 3: the loss is nan\nhint: lower it; the rows .*; the last good state is"
        with pytest.raises(RunError, match=told):
            ppo.run(settings)
    manifest = json.loads(Path("run/state/step-00000002/manifest.json").read_text())
    assert (manifest["step"], manifest["within_step"]) == (2, 3)
    ppo.run(settings.model_copy(update={"resume": True}))
    steps = [json.loads(line)["step"] for line in Path("run/metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4]


def test_other_settings_are_refused_by_name(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        stop_at(2, patch)
        with pytest.raises(SystemExit):
            ppo.run(ppo_settings(place))
    other = ppo_settings(
        place, kl_coef=0.2, batch=16, sampling=SamplingSettings(max_new_tokens=7, batch=8), resume=True
    )
    before = everything(Path("run"))
    with pytest.raises(ConfigError, match=r"changed since the run began: batch, kl_coef, sampling.max_new_tokens"):
        ppo.run(other)
    assert everything(Path("run")) == before
    ppo.run(ppo_settings(place, steps=5, microbatch=4, resume=True))  # these may change
    assert len(Path("run/metrics.jsonl").read_text().splitlines()) == 5


@pytest.mark.parametrize("part", ["policy", "critic", "price", "order", "held_out", "doctor", "random"])
def test_a_state_without_a_part_is_not_the_same_run(
    part: str,
    whole: Callable[[str], dict[str, bytes]],
    place: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: if a part of the state were left out, the tests above would see it, or the run would say so."""
    settings, expected = ppo_settings(place), whole("ppo")
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patch:
        stop_at(2, patch)
        with pytest.raises(SystemExit):
            ppo.run(settings)
    init = Loop.__init__

    def forgetful(self: Loop, *arguments: Any, **options: Any) -> None:
        init(self, *arguments, **options)
        lost = self.parts[part]
        empty = lost.state_dict()
        lost.load_state_dict = lambda state: None if part != "held_out" else type(lost).load_state_dict(lost, empty)

    monkeypatch.setattr(Loop, "__init__", forgetful)
    try:
        ppo.run(settings.model_copy(update={"resume": True}))
    except (ValueError, KeyError, RunError):
        return  # without its answers it cannot report; weights that moved by themselves are told by the doctor
    assert everything(Path("run")) != expected
