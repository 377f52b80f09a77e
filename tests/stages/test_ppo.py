from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

from heed.errors import CheckpointError, ConfigError, DataError
from heed.models.roles import Shelf
from heed.settings.common import DecaySettings, LoraSettings, SamplingSettings
from heed.settings.ppo import PPOSettings
from heed.stages import ppo

CPU = torch.device("cpu")
LORA = LoraSettings(rank=4, alpha=8)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"question {i} {'x' * (i % 5)}"}) + "\n" for i in range(40)))
    return path


@pytest.fixture
def settings(tiny_runs: tuple[str, str], prompts: Path, tmp_path: Path) -> PPOSettings:
    return PPOSettings(
        model=tiny_runs[0], reward_model=tiny_runs[1], prompts={"path": str(prompts)}, output=str(tmp_path / "run"),
        steps=3, batch=8, minibatch=4, microbatch=3, epochs=2, critic_warmup=1, warmup_steps=0, validation_share=0.2,
        sampling=SamplingSettings(max_new_tokens=6), evaluations=2, lora=LORA,
        optimizer=DecaySettings(learning_rate=3e-3, schedule="constant"),
    )  # fmt: skip


def with_(settings: PPOSettings, **changes: Any) -> PPOSettings:
    return PPOSettings(**{**settings.model_dump(), **changes})


def rows(settings: PPOSettings, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(settings.output, name).read_text().splitlines()]


# --- the whole stage ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tiny_runs: tuple[str, str], prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> PPOSettings:
    done = PPOSettings(
        model=tiny_runs[0], reward_model=tiny_runs[1], prompts={"path": str(prompts)}, validation_share=0.2,
        output=str(tmp_path_factory.mktemp("ppo") / "run"), steps=4, batch=8, minibatch=4, microbatch=3, epochs=2,
        critic_warmup=1, warmup_steps=0, sampling=SamplingSettings(max_new_tokens=6), evaluations=3, lora=LORA,
        optimizer=DecaySettings(learning_rate=3e-3, schedule="constant"), ema=0.9,
    )  # fmt: skip
    ppo.run(done)
    return done


def test_kl_is_zero_at_first_and_positive_once_the_policy_has_moved(finished: PPOSettings) -> None:
    metrics = rows(finished)
    assert [row["kl/exact"] for row in metrics[:2]] == [0, 0]  # the first step trained the value model alone
    assert [row["kl/k1"] for row in metrics[:2]] == [0, 0]
    assert all(row["kl/exact"] > 0 for row in metrics[2:])
    assert all(abs(row["kl/k1"] - row["kl/exact"]) < 5 * row["kl/k1_se"] + 1e-9 for row in metrics[2:])


def test_first_minibatch_is_on_policy(finished: PPOSettings) -> None:
    metrics = [row for row in rows(finished) if "policy/ratio_first" in row]
    assert len(metrics) == 3
    assert all(row["policy/ratio_first"] < 1e-4 for row in metrics)
    assert all(row["policy/approx_kl"] > 0 for row in metrics)
    assert all(row["rescore/max"] < 1e-4 for row in rows(finished))


def test_the_parts_of_a_step_are_timed(finished: PPOSettings) -> None:
    for row in rows(finished, "timings.jsonl"):
        parts = [row[f"time/{name}"] for name in ("rollout", "score", "update", "doctor", "io")]
        assert min(parts) > 0 and sum(parts) <= row["time/step"]
        assert row["perf/tokens_per_second"] > 0


def test_reward_is_the_paid_score_less_the_price_of_kl(finished: PPOSettings) -> None:
    for row in rows(finished):
        lowest_paid = row["score/mean"] - 1.0 * (1 - row["length/eos_rate"])  # missing EOS costs 1
        assert row["reward/mean"] == pytest.approx(lowest_paid - 0.05 * row["kl/k1"], abs=1e-5)


def test_checkpoints_open_in_stock_libraries(finished: PPOSettings, tiny_directory: Path) -> None:
    checkpoint = Path(finished.output, "checkpoint")
    tokens = torch.arange(2, 14)[None]
    policy = Shelf(lambda _: torch.float32, CPU).policy(finished.output, "policy")
    with policy.active(), torch.no_grad():
        ours = policy.trunk.logits(policy.trunk.hidden(tokens, torch.ones_like(tokens, dtype=torch.bool))[0])
    assert torch.equal(AutoModelForCausalLM.from_pretrained(checkpoint).eval()(tokens).logits[0].detach(), ours)
    averaged = AutoModelForCausalLM.from_pretrained(checkpoint / "ema").eval()(tokens).logits[0].detach()
    assert 0 < (averaged - ours).abs().max() < 5
    from peft import PeftModel

    base = AutoModelForTokenClassification.from_pretrained(tiny_directory, num_labels=1)
    assert PeftModel.from_pretrained(base, checkpoint / "value")(tokens).logits.shape == (1, 12, 1)


def test_same_seed_same_numbers(finished: PPOSettings, tmp_path: Path) -> None:
    again = with_(finished, output=str(tmp_path / "again"))
    ppo.run(again)
    for name in ("metrics.jsonl", "samples.jsonl", "report.json"):
        assert Path(again.output, name).read_bytes() == Path(finished.output, name).read_bytes()


def test_another_seed_other_numbers(finished: PPOSettings, tmp_path: Path) -> None:
    other = with_(finished, output=str(tmp_path / "other"), seed=1, steps=1, critic_warmup=0)
    ppo.run(other)
    assert rows(other)[0]["score/mean"] != rows(finished)[0]["score/mean"]


def test_separate_models_start_as_the_one_trunk_does(settings: PPOSettings, tmp_path: Path) -> None:
    """Rank 0: every role is a model of its own. Before any update both forms measure the same rollout."""
    one = with_(settings, steps=1, critic_warmup=0)
    apart = with_(one, lora={"rank": 0}, output=str(tmp_path / "apart"))
    for each in (one, apart):
        ppo.run(each)
    a, b = rows(one)[0], rows(apart)[0]
    for name in ("score/mean", "score/sd", "kl/exact", "policy/entropy", "length/mean", "value/explained_variance"):
        assert b[name] == pytest.approx(a[name], abs=2e-4), name
    full = AutoModelForCausalLM.from_pretrained(Path(apart.output, "checkpoint"))
    assert not hasattr(full, "peft_config")


def test_separate_models_learn(settings: PPOSettings) -> None:
    apart = with_(settings, lora={"rank": 0}, optimizer={**settings.optimizer.model_dump(), "learning_rate": 1e-4})
    ppo.run(apart)
    assert [row["kl/exact"] for row in rows(apart)][:2] == [0, 0]
    assert rows(apart)[2]["kl/exact"] > 0


def test_ppo_learns_what_is_paid(settings: PPOSettings) -> None:
    """Mean of the paid score over 96 responses at either end: more than three standard errors, which are below 0.1."""
    eager = with_(settings, steps=60, batch=32, minibatch=16, microbatch=16, kl_coef=0.0)
    ppo.run(eager)
    paid = [row["reward/mean"] for row in rows(eager)]
    assert sum(paid[-3:]) / 3 - sum(paid[:3]) / 3 > 0.3


def test_it_stops_at_the_kl_budget_and_saves(settings: PPOSettings) -> None:
    short = with_(settings, steps=50, kl_coef=0.0, kl_budget=0.05, optimizer={"learning_rate": 1e-2})
    ppo.run(short)
    metrics = rows(short)
    assert 2 < len(metrics) < 50
    assert metrics[-1]["kl/exact"] > 0.05 and all(row["kl/exact"] <= 0.05 for row in metrics[:-1])
    assert "policy/approx_kl" not in metrics[-1]  # the last rollout was measured, not trained on
    assert Path(short.output, "checkpoint", "adapter_model.safetensors").is_file()


# --- what a person can mend -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "where", "what"),
    [
        ({"minibatch": 9}, "minibatch", "more than batch 8"),
        ({"reward_model": ""}, "reward_model", "one reward model is needed"),
        ({"ptx": {"coef": 0.5}}, "ptx.text", "is empty"),
        ({"prompts": {}}, "prompts", "no prompts are given"),
    ],
)
def test_settings_that_do_not_go_together(settings: PPOSettings, changes: Any, where: str, what: str) -> None:
    with pytest.raises(ConfigError, match=what) as caught:
        ppo.run(with_(settings, **changes))
    assert caught.value.where == where
    assert not Path(settings.output).exists()


def test_missing_files_and_models_that_do_not_fit(settings: PPOSettings, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        ppo.run(with_(settings, prompts={"path": str(tmp_path / "nowhere.jsonl")}))
    with pytest.raises(CheckpointError, match="is a policy model, not a reward model"):
        ppo.run(with_(settings, reward_model=settings.model))
    with pytest.raises(CheckpointError, match="no such directory"):
        ppo.run(with_(settings, model=str(tmp_path / "nothing" / "here")))
    assert not Path(settings.output).exists()


def test_a_reward_model_that_reads_other_tokens_is_refused_before_a_prompt_is_read(
    settings: PPOSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(settings.reward_model, tmp_path / "other")
    file = other / "checkpoint" / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "bos_token": "<|pad|>"}))
    monkeypatch.setattr(ppo, "read_questions", None)
    with pytest.raises(CheckpointError, match=r"its bos_token_id is 1, that of .*sft is 0"):
        ppo.run(with_(settings, reward_model=str(other)))
    assert not Path(settings.output).exists()


def test_an_adapter_that_sft_left_is_what_the_run_says(settings: PPOSettings) -> None:
    refused = r"lora.rank: is 8, but the adapter of .*sft, which is trained on, has 4\nhint: leave it out"
    with pytest.raises(ConfigError, match=refused):
        ppo.run(with_(settings, lora={"rank": 8}))
    ppo.run(with_(settings, lora={}))
    told = yaml.safe_load(Path(settings.output, "config.yaml").read_text())["lora"]
    assert told == {"rank": 4, "alpha": 8.0, "targets": ["c_attn", "c_fc", "c_proj"]}
    assert "  rank: 4\n" in Path(settings.output, "checkpoint", "README.md").read_text()


def test_a_reward_model_of_another_template_is_refused(settings: PPOSettings, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(settings.reward_model, other)
    about = json.loads((other / "checkpoint" / "heed.json").read_text())
    (other / "checkpoint" / "heed.json").write_text(json.dumps({**about, "template": {"name": "alpaca", "hash": ""}}))
    with pytest.raises(CheckpointError, match="template alpaca"):
        ppo.run(with_(settings, reward_model=str(other)))
