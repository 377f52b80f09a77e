from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification

from heed.batches import PromptBatch, Responses
from heed.data.template import Template
from heed.errors import CheckpointError, ConfigError, DataError
from heed.formulas.advantages import shaped_rewards
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.policy import Policy, save_policy
from heed.models.roles import Shelf, load_roles, trained_copy
from heed.models.scalar_head import RewardModel, new_head, save_scalar
from heed.models.trunk import Trunk
from heed.records import Prompt, Turn
from heed.rl.policy_update import Update
from heed.rl.rollout import Question, collect, rollout_metrics
from heed.rows import threads
from heed.settings.common import LoraSettings, OptimizerSettings, SamplingSettings
from heed.settings.ppo import PPOSettings, PtxSettings
from heed.stages import ppo

CPU = torch.device("cpu")
LORA = LoraSettings(rank=4, alpha=8)
TEMPLATE = {"name": "plain", "hash": ""}


@pytest.fixture(scope="module")
def models(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """An SFT run and a reward run, adapters of the tiny base; the reward model's head is random."""
    place = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, CPU)
    trunk.add_adapter("sft", LORA)
    save_policy(Policy(trunk, "sft"), place / "sft" / "checkpoint")
    write_metadata(place / "sft" / "checkpoint", {"kind": "policy", "base_hash": trunk.hash, "template": TEMPLATE})
    body = trained_copy(Policy(trunk, "sft"), "reward", LORA)
    for parameter in body.parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    head = new_head(trunk.width, torch.Generator().manual_seed(0)).requires_grad_(False)
    save_scalar(RewardModel(trunk, body.adapter, head), place / "reward" / "checkpoint")
    about = {"kind": "reward", "base_hash": trunk.hash, "template": TEMPLATE, "reward": {"gain": 0.5, "bias": 0.25}}
    write_metadata(place / "reward" / "checkpoint", about)
    return str(place / "sft"), str(place / "reward")


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "prompts.jsonl"
    path.write_text("".join(json.dumps({"prompt": f"question {i} {'x' * (i % 5)}"}) + "\n" for i in range(40)))
    return path


@pytest.fixture
def settings(models: tuple[str, str], prompts: Path, tmp_path: Path) -> PPOSettings:
    return PPOSettings(
        model=models[0], reward_model=models[1], prompts={"path": str(prompts)}, output=str(tmp_path / "run"),
        steps=3, batch=8, minibatch=4, microbatch=3, epochs=2, critic_warmup=1, warmup_steps=0, validation_share=0.2,
        sampling=SamplingSettings(max_new_tokens=6), evaluations=2, lora=LORA,
        optimizer=OptimizerSettings(learning_rate=3e-3, schedule="constant", warmup=0),
    )  # fmt: skip


def with_(settings: PPOSettings, **changes: Any) -> PPOSettings:
    return PPOSettings(**{**settings.model_dump(), **changes})


def rows(settings: PPOSettings, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(settings.output, name).read_text().splitlines()]


def questions(count: int) -> list[Question]:
    texts = [f"q{i}" + "z" * (i % 3) for i in range(count)]
    return [Question(Prompt((Turn("user", text),)), [2 + ord(c) % 90 for c in text]) for text in texts]


# --- the whole stage ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(models: tuple[str, str], prompts: Path, tmp_path_factory: pytest.TempPathFactory) -> PPOSettings:
    done = PPOSettings(
        model=models[0], reward_model=models[1], prompts={"path": str(prompts)}, validation_share=0.2,
        output=str(tmp_path_factory.mktemp("ppo") / "run"), steps=4, batch=8, minibatch=4, microbatch=3, epochs=2,
        critic_warmup=1, warmup_steps=0, sampling=SamplingSettings(max_new_tokens=6), evaluations=3, lora=LORA,
        optimizer=OptimizerSettings(learning_rate=3e-3, schedule="constant", warmup=0), ema=0.9,
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
    other = with_(finished, output=str(tmp_path / "other"), seed=1, steps=1)
    ppo.run(other)
    assert rows(other)[0]["score/mean"] != rows(finished)[0]["score/mean"]


def test_separate_models_start_as_the_one_trunk_does(settings: PPOSettings, tmp_path: Path) -> None:
    """Rank 0: every role is a model of its own. Before any update both forms measure the same rollout."""
    one, apart = with_(settings, steps=1), with_(settings, steps=1, lora={"rank": 0}, output=str(tmp_path / "apart"))
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
    short = with_(settings, steps=50, kl_coef=0.0, kl_budget=0.05, optimizer={"learning_rate": 1e-2, "warmup": 0})
    ppo.run(short)
    metrics = rows(short)
    assert 2 < len(metrics) < 50
    assert metrics[-1]["kl/exact"] > 0.05 and all(row["kl/exact"] <= 0.05 for row in metrics[:-1])
    assert "policy/approx_kl" not in metrics[-1]  # the last rollout was measured, not trained on
    assert Path(short.output, "checkpoint", "adapter_model.safetensors").is_file()


# --- the update -----------------------------------------------------------------------------------------------------


def rollout_and_update(settings: PPOSettings) -> tuple[Any, Any, Any]:
    shelf = Shelf(lambda _: torch.float32, CPU)
    roles = load_roles(shelf, settings.model, shelf.reward_model(settings.reward_model, "reward"), settings.lora)
    generator = torch.Generator().manual_seed(0)
    with roles.policy.trunk.active(None):  # every model switches its own adapter on
        rollout = collect(roles, questions(8), settings, Template.named("plain"), generator)
    return roles, rollout, Update(roles, settings, None, generator)


def parameters_after(settings: PPOSettings) -> torch.Tensor:
    roles, rollout, update = rollout_and_update(settings)
    scored = rollout.scored
    rewards = shaped_rewards(scored.logprobs, scored.ref_logprobs, rollout.paid, rollout.mask, settings.kl_coef)
    for step in (2, 3):
        update(step, rollout, rewards)
    everything = {**roles.policy.parameters(), **{f"v.{k}": v for k, v in roles.value.parameters().items()}}
    return torch.cat([parameter.detach().flatten() for parameter in everything.values()])


@pytest.mark.parametrize("microbatch", [1, 2, 3])
def test_microbatches_change_nothing(settings: PPOSettings, microbatch: int) -> None:
    """Terms are added up over the minibatch's tokens: rows of different lengths weigh as in one forward pass."""
    whole = parameters_after(with_(settings, microbatch=4, optimizer={"learning_rate": 1e-3, "eps": 1e-3, "warmup": 0}))
    parts = with_(settings, microbatch=microbatch, optimizer={"learning_rate": 1e-3, "eps": 1e-3, "warmup": 0})
    assert_close(parameters_after(parts), whole, atol=2e-5, rtol=0)


def test_threads_change_nothing(settings: PPOSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    mild = with_(settings, optimizer={"learning_rate": 1e-3, "eps": 1e-3, "warmup": 0})
    found = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "cores", lambda count=count: count)
        found.append(parameters_after(mild))
    assert_close(found[1], found[0], atol=2e-5, rtol=0)


def test_threads_draw_and_score_the_same_rollout(settings: PPOSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches of three, and rows where their questions are."""
    small = with_(settings, sampling={"max_new_tokens": 6, "batch": 3})
    found = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "cores", lambda count=count: count)
        roles, rollout, _ = rollout_and_update(small)
        found.append(rollout)
        read = zip(rollout.prompts.tokens, rollout.prompts.mask, rollout.questions, strict=True)
        assert all(tokens[mask].tolist() == question.tokens for tokens, mask, question in read)
    one, two = found
    drawn = roles.policy.generate(one.prompts, 6, 1.0, torch.Generator().manual_seed(0), size=3)
    assert torch.equal(drawn.tokens, one.responses.tokens) and torch.equal(drawn.tokens, two.responses.tokens)
    for name in ("values", "scores"):
        assert_close(getattr(two, name), getattr(one, name), atol=1e-5, rtol=1e-6)
    for field in fields(one.scored):
        assert_close(getattr(two.scored, field.name), getattr(one.scored, field.name), atol=1e-4, rtol=1e-6)


def test_reference_and_reward_model_never_change(settings: PPOSettings) -> None:
    roles, rollout, update = rollout_and_update(settings)
    everything = dict(roles.policy.trunk.model.named_parameters())
    frozen = {n: p.clone() for n, p in everything.items() if ".policy." not in n and ".value." not in n}
    head = roles.reward.head.weight.clone()
    update(2, rollout, torch.ones(rollout.mask.shape).masked_fill(~rollout.mask, 0))
    assert frozen and all(torch.equal(everything[n], p) for n, p in frozen.items())
    assert torch.equal(roles.reward.head.weight, head)
    assert not torch.equal(roles.value.head.weight, head)


def test_critic_warmup_leaves_the_policy_alone(settings: PPOSettings) -> None:
    roles, rollout, update = rollout_and_update(settings)
    before = [p.clone() for p in roles.policy.parameters().values()]
    metrics = update(1, rollout, torch.randn(rollout.mask.shape).masked_fill(~rollout.mask, 0))
    assert "value/loss" in metrics and "loss/policy" not in metrics
    assert all(torch.equal(p, q) for p, q in zip(roles.policy.parameters().values(), before, strict=True))


@pytest.mark.parametrize("count", [1, 2])
def test_ptx_gradient_is_added_with_its_coefficient(
    settings: PPOSettings, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """g = g_ppo + coef · g_ptx, the second by autograd on the token mean of −log p over the text."""
    monkeypatch.setattr(threads, "cores", lambda: count)
    text = torch.randint(2, 200, (3, 9), generator=torch.Generator().manual_seed(0))
    ptx = PtxSettings(coef=0.7, text=("unused",), ratio=3 / 8)
    roles, _, _ = rollout_and_update(settings)
    update = Update(roles, settings.model_copy(update={"ptx": ptx}), text, torch.Generator().manual_seed(5))
    drawn = torch.randint(3, (3,), generator=torch.Generator().manual_seed(5))
    with roles.policy.trainable() as parameters, roles.policy.active():
        update._ptx(8)
        found = [p.grad.clone() for p in parameters.values()]
        for p in parameters.values():
            p.grad = None
        trunk, batch = roles.policy.trunk, text[drawn]
        hidden = trunk.hidden(batch, torch.ones_like(batch, dtype=torch.bool))[:, :-1].reshape(-1, trunk.width)
        (0.7 * torch.nn.functional.cross_entropy(trunk.logits(hidden), batch[:, 1:].reshape(-1))).backward()
        for got, parameter in zip(found, parameters.values(), strict=True):
            assert_close(got, parameter.grad, atol=1e-5, rtol=1e-4)


def test_rollout_scores_are_those_of_the_whole_text(settings: PPOSettings) -> None:
    """Score and value by the reward model alone, one unpadded row at a time."""
    roles, rollout, _ = rollout_and_update(settings)
    for i, question in enumerate(rollout.questions):
        drawn = rollout.responses.tokens[i][rollout.mask[i]].tolist()
        for row, found in ((question.tokens + drawn, rollout.scores[i]), (question.tokens, rollout.values[i, 0])):
            tokens = torch.tensor([row])
            with torch.no_grad(), roles.reward.active():
                expected = roles.reward.scores(tokens, torch.ones_like(tokens, dtype=torch.bool))[0]
            assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert bool(rollout.finished[i]) == (drawn[-1] == 0)
        assert rollout.paid[i] == rollout.scores[i] - (0.0 if rollout.finished[i] else 1.0)


def test_metrics_by_hand(settings: PPOSettings) -> None:
    """Two responses of 2 and 1 tokens; padding holds nonsense where a formula must mask it."""
    _, rollout, _ = rollout_and_update(settings)
    mask = torch.tensor([[True, True], [True, False]])
    zero = torch.zeros(2, 2)
    scored = replace(
        rollout.scored, logprobs=torch.tensor([[-1.0, -2.0], [-0.5, 0.0]]),
        ref_logprobs=torch.tensor([[-1.5, -1.5], [-1.5, 0.0]]), entropy=torch.tensor([[1.0, 2.0], [3.0, 0.0]]),
        exact_kl=torch.tensor([[0.2, 0.1], [0.3, 0.0]]), kl_variance=torch.tensor([[0.5, 0.25], [0.25, 0.0]]),
        surprisal_variance=torch.tensor([[1.0, 2.0], [1.0, 0.0]]), ref_ratio_variance=zero,
    )  # fmt: skip
    made = replace(
        rollout, responses=Responses(torch.tensor([[5, 6], [0, 1]]), mask, torch.tensor([[-1.0, -2.5], [-0.5, 0.0]])),
        prompts=PromptBatch(torch.tensor([[4], [4]]), torch.ones(2, 1, dtype=torch.bool)), scored=scored,
        scores=torch.tensor([1.0, 3.0]), paid=torch.tensor([0.0, 3.0]), finished=torch.tensor([False, True]),
    )  # fmt: skip
    found = rollout_metrics(made, torch.tensor([[0.0, 1.0], [4.0, 0.0]]), kl_coef=0.1)
    # k1 per response: (0.5 − 0.5, 1.0) = (0, 1); exact: (0.3, 0.3)
    assert found["kl/k1"] == pytest.approx(0.5) and found["kl/exact"] == pytest.approx(0.3)
    assert found["kl/k1_se"] == pytest.approx(0.5)  # sd √0.5 over √2
    assert found["kl/z_validity"] == pytest.approx((1.0 - 0.6) / 1.0)
    # −log p − H: (0, 0, −2.5)
    assert found["kl/z_surprisal"] == pytest.approx(-2.5 / 2)
    assert found["score/mean"] == 2 and found["reward/mean"] == 2.5
    assert found["reward/kl_share"] == pytest.approx(0.05 / (0.05 + 1.5))
    assert found["rescore/max"] == pytest.approx(0.5) and found["rescore/mean"] == pytest.approx(0.5 / 3)
    assert found["length/mean"] == 1.5 and found["length/eos_rate"] == 0.5
    assert found["policy/entropy"] == 2


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


def test_a_reward_model_of_another_template_is_refused(settings: PPOSettings, tmp_path: Path) -> None:
    import shutil

    other = tmp_path / "other"
    shutil.copytree(settings.reward_model, other)
    about = json.loads((other / "checkpoint" / "heed.json").read_text())
    (other / "checkpoint" / "heed.json").write_text(json.dumps({**about, "template": {"name": "alpaca", "hash": ""}}))
    with pytest.raises(CheckpointError, match="template alpaca"):
        ppo.run(with_(settings, reward_model=str(other)))
