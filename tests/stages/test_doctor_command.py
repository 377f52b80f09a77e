"""`heed doctor` on a recipe before it runs, and on the directory of a run."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from heed import cli, config
from heed.errors import ConfigError
from heed.models import sampler
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.policy import Policy, save_policy
from heed.models.roles import trained_copy
from heed.models.scalar_head import RewardModel, new_head, save_scalar
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings
from heed.settings.doctor import DoctorSettings
from heed.settings.ppo import PPOSettings
from heed.stages import doctor, ppo

LORA = LoraSettings(rank=4, alpha=8)
TEMPLATE = {"name": "plain", "hash": ""}
RECIPE = """\
set: {{models: null}}
model: ${{models}}/sft
reward_model: ${{models}}/reward
prompts: {place}/prompts.jsonl
output: {place}/never
steps: 3
batch: 24
minibatch: 12
microbatch: 12
critic_warmup: 1
warmup_steps: 0
validation_share: 0.2
evaluations: 2
sampling: {{max_new_tokens: 10}}
lora: {{rank: 4, alpha: 8}}
optimizer: {{learning_rate: 3.0e-3, schedule: constant}}
"""


@pytest.fixture(scope="module")
def place(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An SFT run, a reward run with a random head, prompts with references, a recipe, and a finished run of PPO."""
    place = tmp_path_factory.mktemp("doctor")
    torch.manual_seed(0)
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, torch.device("cpu"))
    with torch.no_grad():
        trunk.model.transformer.wte.weight.mul_(0.6)  # milder logits
    trunk.model.save_pretrained(place / "base")
    trunk.tokenizer.save_pretrained(place / "base")
    trunk = Trunk.load(open_checkpoint(str(place / "base")), torch.float32, torch.device("cpu"))
    trunk.add_adapter("sft", LORA)
    save_policy(Policy(trunk, "sft"), place / "sft" / "checkpoint")
    write_metadata(place / "sft" / "checkpoint", {"kind": "policy", "base_hash": trunk.hash, "template": TEMPLATE})
    body = trained_copy(Policy(trunk, "sft"), "reward", LORA)
    head = new_head(trunk.width, torch.Generator().manual_seed(0)).requires_grad_(False)
    save_scalar(RewardModel(trunk, body.adapter, head), place / "reward" / "checkpoint")
    about = {"kind": "reward", "base_hash": trunk.hash, "template": TEMPLATE, "reward": {"gain": 1.0, "bias": 0.0}}
    write_metadata(place / "reward" / "checkpoint", about)
    rows = [{"prompt": f"question {i} {'x' * (i % 7)}", "reference": f"answer {i} of {i % 5}"} for i in range(80)]
    (place / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "ppo.yaml").write_text(RECIPE.format(place=place))
    ppo.run(recipe(place, f"--output={place / 'ppo'}"))
    return place


def recipe(place: Path, *flags: str) -> PPOSettings:
    return config.load(PPOSettings, [str(place / "ppo.yaml"), f"--set.models={place}", *flags], "ppo")


def examined(target: Path, tmp_path: Path, **settings: Any) -> tuple[int, dict[str, Any]]:
    """Exit code, and what the command writes for programs."""
    file = tmp_path / "findings.json"
    code = doctor.run(DoctorSettings(target=str(target), json=str(file), **settings))
    return code, json.loads(file.read_text())


def ids(told: dict[str, Any]) -> list[str]:
    return [found["id"] for found in told["findings"]]


# --- before a run ---------------------------------------------------------------------------------------------------


def test_a_healthy_recipe_passes_and_writes_nothing(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, told = examined(place / "ppo.yaml", tmp_path, set={"models": str(place)})
    assert code == 0 and not (place / "never").exists()
    assert {name: outcome for name, outcome in told["tests"].items() if outcome != "passed"} == {
        "T0": "by construction"
    }
    assert told["responses"] == 72 and told["tokens"] > 400
    assert set(ids(told)) <= {"RM13", "RM16"}  # the reward model's head is random
    assert told["verdict"] == "healthy"
    assert len(told["reward_model"]) == 5
    assert "T15" in capsys.readouterr().out


def test_a_sampler_with_a_temperature_of_its_own_is_named(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = sampler.draw
    monkeypatch.setattr(sampler, "draw", lambda logits, temperature, noise: right(logits, 0.7, noise))
    code, told = examined(place / "ppo.yaml", tmp_path, set={"models": str(place)})
    assert code == 3 and "NK2" in ids(told)
    assert told["tests"]["T2"] == "failed"


def test_references_are_optional(place: Path, tmp_path: Path) -> None:
    """Without them the policy's own finished answers are spoilt; of too few nothing is said."""
    bare = tmp_path / "prompts.jsonl"
    bare.write_text("".join(json.dumps({"prompt": f"question {i} {'x' * (i % 7)}"}) + "\n" for i in range(80)))
    text = RECIPE.format(place=place).replace(f"{place}/prompts.jsonl", str(bare))
    (tmp_path / "ppo.yaml").write_text(text)
    code, told = examined(tmp_path / "ppo.yaml", tmp_path, set={"models": str(place)})
    assert code == 0 and told["tests"]["T2"] == "passed"


# --- after a run ----------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(place: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be spoilt."""
    return Path(shutil.copytree(place / "ppo", tmp_path / "ppo"))


def test_a_run_records_what_the_doctor_tested(finished: Path) -> None:
    told = json.loads((finished / "report.json").read_text())["doctor"]
    assert told["tests"]["T5"] == told["tests"]["T11"] == told["tests"]["T13"] == "passed"
    assert set(told["findings"]) <= {"H1", "H2", "H8"}  # three large steps: whatever is said is a warning


def test_a_healthy_run_passes(finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(path.name for path in finished.rglob("*"))
    code, told = examined(finished, tmp_path)
    assert code == 0
    assert told["tests"]["T2"] == told["tests"]["T4"] == told["tests"]["T12"] == "passed"
    assert told["tests"]["T5"] == "not tested: only a run's first rollout can tell"
    assert told["during_the_run"]["T5"] == "passed"
    assert told["responses"] == 48
    assert sorted(path.name for path in finished.rglob("*")) == before
    assert "during" in capsys.readouterr().out


def test_bands_are_replayed_over_the_rows(finished: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    rows[1]["kl/exact"], rows[2]["kl/exact"] = 26.0, 30.0
    (finished / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    code, told = examined(finished, tmp_path)
    found = next(found for found in told["findings"] if found["id"] == "H5")
    assert code == 3 and found["evidence"]["first_step"] == 2 and found["evidence"]["count"] == 2
    assert "26.0 nats" in found["message"] and "ends like this" in found["message"]


def test_what_was_found_during_the_run_is_told_again(finished: Path, tmp_path: Path) -> None:
    line = {"id": "NK2", "message": "m", "hint": "h", "evidence": {}}
    noted = [{"step": 1, "severity": "warning", **line}, {"step": 3, "severity": "error", **line}]
    (finished / "findings.jsonl").write_text("".join(json.dumps(row) + "\n" for row in noted))
    code, told = examined(finished, tmp_path)
    found = next(found for found in told["findings"] if found["id"] == "NK2")
    assert code == 3 and found["severity"] == "error"
    assert found["evidence"] == {"first_step": 1, "count": 2}


def test_a_run_that_did_not_finish_is_not_judged(finished: Path, tmp_path: Path) -> None:
    shutil.rmtree(finished / "checkpoint")
    (finished / "report.json").unlink()
    code, told = examined(finished, tmp_path)
    assert (code, told["verdict"], told["responses"]) == (4, "not judged", 0)
    assert "stopped after step 3" in told["conclusion"]
    assert all(outcome.startswith("not tested") for outcome in told["tests"].values()) and told["during_the_run"] == {}
    line = {"step": 2, "id": "NK2", "severity": "error", "message": "m", "hint": "h", "evidence": {}}
    (finished / "findings.jsonl").write_text(json.dumps(line) + "\n")
    assert examined(finished, tmp_path)[0] == 3  # what it found before it stopped is found


def test_a_run_without_steps_is_not_judged(finished: Path, tmp_path: Path) -> None:
    (finished / "metrics.jsonl").write_text("")
    code, told = examined(finished, tmp_path)
    assert (code, told["verdict"]) == (4, "not judged") and "no steps" in told["conclusion"]


def test_a_policy_that_has_collapsed_is_not_healthy(finished: Path, tmp_path: Path) -> None:
    """Twelve steps in which answers get short and repeat themselves, as the run's own rows tell."""
    row = json.loads((finished / "metrics.jsonl").read_text().splitlines()[0])
    rows = [
        {**row, "step": step, "length/mean": 22.7 - 1.3 * step, "text/repeated_2": 0.05 * step} for step in range(1, 13)
    ]
    (finished / "metrics.jsonl").write_text("".join(json.dumps(one) + "\n" for one in rows))
    code, told = examined(finished, tmp_path)
    assert code == 3 and {"H9", "H12"} <= {one["id"] for one in told["findings"] if one["severity"] == "error"}


def test_a_fault_in_the_last_answers_is_named(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = sampler.draw
    monkeypatch.setattr(sampler, "draw", lambda logits, temperature, noise: right(logits, 0.6, noise))
    code, told = examined(finished, tmp_path)
    assert code == 3 and "NK2" in ids(told)


# --- what a person can mend -----------------------------------------------------------------------------------------


def test_mistakes_are_told_with_the_setting(place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    other = Path(shutil.copytree(place / "ppo", tmp_path / "other"))
    (other / "run.json").write_text(json.dumps({"settings": "SFTSettings"}))
    mistakes: list[tuple[dict[str, Any], str, str]] = [
        ({}, "target", "nothing is named"),
        ({"target": "a.yaml", "rollouts": "b.jsonl"}, "target", "both"),
        ({"target": "nowhere"}, "target", "neither a recipe nor a directory"),
        ({"target": str(tmp_path / "nowhere.yaml")}, str(tmp_path / "nowhere.yaml"), "no such recipe"),
        ({"target": str(tmp_path / "empty")}, "target", "is not the directory of a run"),
        ({"target": str(other)}, "target", "is a run of sft"),
        ({"target": str(place / "ppo.yaml"), "device": "cpu"}, "device", "goes with --rollouts only"),
        ({"target": str(place / "ppo.yaml")}, "--set.models", "needs it"),
    ]
    for given, where, what in mistakes:
        with pytest.raises(ConfigError, match=what) as caught:
            doctor.run(DoctorSettings(**given))
        assert caught.value.where == where


def test_the_command_takes_a_recipe_as_its_argument(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[DoctorSettings] = []
    monkeypatch.setattr(doctor, "run", lambda settings: seen.append(settings) or 3)
    assert cli.main(["doctor", str(place / "ppo.yaml"), "--set.models", str(place), "--json", "f.json"]) == 3
    assert cli.main(["doctor", "runs/ppo"]) == 3
    assert (seen[0].target, seen[0].set, seen[0].json) == (str(place / "ppo.yaml"), {"models": str(place)}, "f.json")
    assert seen[1].target == "runs/ppo"
    assert cli.main(["doctor", "a", "b"]) == 2
    assert "--target: takes one value" in capsys.readouterr().err


def test_a_target_of_nothing_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match="moves a kl_coef that is 0 nowhere"):
        ppo.run(recipe(place, "--kl_coef=0", "--kl_target=6"))


def test_the_coefficient_is_recorded_and_paid(place: Path, tmp_path: Path) -> None:
    """24 episodes of 24: KL is far under its target of 50, so β falls by a fifth a step, and the reward has that β."""
    ppo.run(recipe(place, f"--output={tmp_path / 'run'}", "--kl_coef=0.5", "--kl_target=50", "--kl_horizon=24"))
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [row["kl/coef"] for row in rows] == pytest.approx([0.5, 0.4, 0.32])
    paid = rows[2]["score/mean"] - (1 - rows[2]["length/eos_rate"])  # a missing end-of-text costs 1
    assert abs(rows[2]["kl/k1"]) > 1e-3
    assert rows[2]["reward/mean"] == pytest.approx(paid - 0.32 * rows[2]["kl/k1"], abs=1e-5)
