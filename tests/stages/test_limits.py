"""What a machine has not enough of, and numbers that are not finite: told in two lines, with what to do."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch

from heed.cli import main
from heed.errors import RunError
from heed.rl.rollout import RolloutWorker
from heed.settings.common import LoraSettings, OptimizerSettings, SamplingSettings
from heed.settings.ppo import PPOSettings
from heed.settings.reward import RewardSettings
from heed.settings.sft import SFTSettings
from heed.stages import ppo, reward, sft
from heed.training.loop import Loop
from heed.training.memory import what_to_lower

LORA = LoraSettings(rank=4, alpha=8)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("data")
    rows = [{"prompt": f"q{i}", "response": "ab" * (1 + i % 4)} for i in range(40)]
    pairs = [{"prompt": f"q{i}", "chosen": "ab!" + "c" * (i % 3), "rejected": "ba"} for i in range(40)]
    for name, some in (("rows", rows), ("pairs", pairs)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    return place


def sft_settings(data: Path, base: Path, **changes: Any) -> SFTSettings:
    given = {
        "model": str(base), "data": str(data / "rows.jsonl"), "output": "run", "batch": 4, "epochs": 1.0, "lora": LORA,
        "evaluations": 3, "completions": 0, "max_tokens": 60, "validation_share": 0.2, "template": "plain",
        "optimizer": OptimizerSettings(learning_rate=3e-3),
    }  # fmt: skip
    return SFTSettings(**{**given, **changes})


def raises_in_step(step: int, error: BaseException, patch: pytest.MonkeyPatch) -> None:
    record = Loop.record

    def recorded(self: Loop, *arguments: Any, **options: Any) -> None:
        if self.step == step:
            raise error
        record(self, *arguments, **options)

    patch.setattr(Loop, "record", recorded)


def test_a_dry_run_measures_and_writes_nothing(
    data: Path,
    tiny_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    settings = sft_settings(data, tiny_directory, dry_run=True)
    sft.run(settings)
    told = capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    sft.run(settings.model_copy(update={"dry_run": False}))
    described = json.loads(Path("run/run.json").read_text())
    steps = len(Path("run/timings.jsonl").read_text().splitlines())
    assert f"parameters  {described['parameters']:,}, of which {described['trained_parameters']:,} are trained" in told
    assert f"{steps} steps of" in told and ", 3 evaluations of" in told and steps > 3
    for word in ("memory      ", "disk        ", "tokens      ", "nothing was written to run"):
        assert word in told
    before = sorted(tmp_path.rglob("*"))
    sft.run(settings)  # a run that is there is no obstacle, and stays
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has …"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:114] . DefaultCPUAllocator: not enough memory: you tried …"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes."),
        MemoryError(),
    ],
)
def test_out_of_memory_names_what_to_lower(
    error: BaseException, data: Path, tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raises_in_step(3, error, monkeypatch)
    with pytest.raises(RunError) as caught:
        sft.run(sft_settings(data, tiny_directory, save_every=1, microbatch_tokens=512))
    where, hint = str(caught.value).split("\n")
    assert where.startswith("run: step 3: out of memory: ") and where.endswith(
        "the last good state is run/state/step-00000002"
    )
    lower = "lower `microbatch_tokens` (now 512), `batch` (now 4) or `max_tokens` (now 60)"
    assert hint == f"hint: {lower}, or set `recompute`"
    other = sft_settings(data, tiny_directory, microbatch_tokens=512, recompute=True)
    assert what_to_lower(other) == lower


def test_any_other_error_keeps_its_traceback(
    data: Path, tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    raises_in_step(2, RuntimeError("mat1 and mat2 shapes cannot be multiplied"), monkeypatch)
    with pytest.raises(RuntimeError, match="mat1"):
        sft.run(sft_settings(data, tiny_directory))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_leaves_its_rows(
    value: float, data: Path, tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    begin, seen = Loop._begin, []

    def spoilt(self: Loop) -> None:
        begin(self)
        if self.step == 3:
            seen.extend(weight.clone() for weight in self.parts["policy"].parameters.values())
            with torch.no_grad():
                next(iter(self.parts["policy"].parameters.values())).fill_(value)

    monkeypatch.setattr(Loop, "_begin", spoilt)
    with pytest.raises(RunError, match="run: step 3: the loss is nan") as caught:
        sft.run(sft_settings(data, tiny_directory, save_every=1))
    assert seen and "the rows of this step are in run/step-3-rows.jsonl" in caught.value.hint
    assert "the last good state is run/state/step-00000002" in caught.value.hint
    rows = [json.loads(line)["text"] for line in Path("run/step-3-rows.jsonl").read_text().splitlines()]
    assert len(rows) == 4 and all("q" in row and "ab" in row for row in rows)


def test_a_score_that_is_not_finite_stops_ppo(
    data: Path, tiny_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sft.run(sft_settings(data, tiny_directory, output="sft"))
    sampling = SamplingSettings(max_new_tokens=6, batch=8)
    reward.run(RewardSettings(
        model="sft", data=str(data / "pairs.jsonl"), output="reward", batch=8, lora=LORA, max_tokens=60,
        sampling=sampling, normalise_prompts=8, validation_share=0.2,
    ))  # fmt: skip
    collect, calls = RolloutWorker.scores, []

    def spoilt(self: RolloutWorker, *arguments: Any) -> Any:
        scores = collect(self, *arguments)
        calls.append(1)
        if len(calls) == 3:  # the held-out answers, step 1, step 2
            scores[0] = float("nan")
        return scores

    monkeypatch.setattr(RolloutWorker, "scores", spoilt)
    settings = PPOSettings(
        model="sft", reward_model="reward", output="ppo", prompts=str(data / "rows.jsonl"), steps=4, batch=8,
        minibatch=4, critic_warmup=1, sampling=sampling, lora=LORA, validation_share=0.2, evaluations=1, save_every=1,
    )  # fmt: skip
    with pytest.raises(RunError, match="ppo: step 2: a score of the reward model is nan") as caught:
        ppo.run(settings)
    assert "the last good state is ppo/state/step-00000001" in caught.value.hint
    rows = [json.loads(line) for line in Path("ppo/step-2-rows.jsonl").read_text().splitlines()]
    assert len(rows) == 8 and {"prompt", "response", "score"} <= rows[0].keys()


def test_a_finished_run_is_tidied_and_said_to_be(
    data: Path,
    tiny_directory: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A process killed between its last word and the removal of its states."""
    monkeypatch.chdir(tmp_path)
    sft.run(sft_settings(data, tiny_directory))
    whole = sorted(tmp_path.rglob("*"))
    for name in ("run/state/step-00000008", "run/checkpoint.replaced", "run.replaced-1"):
        (tmp_path / name).mkdir(parents=True)
    assert main(["resume", "run"]) == 0
    assert "run is finished: nothing is left to do" in capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == whole
