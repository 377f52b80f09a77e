"""Adapters made by stock peft: what is taken equals peft in every number, what is not is refused and named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.testing import assert_close
from transformers import AutoModelForCausalLM

from heed.batches import PromptBatch
from heed.errors import CheckpointError
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.models.trunk import Trunk

CPU = torch.device("cpu")
PROMPTS = ([40, 41, 42, 43, 44], [50, 51, 52], [60])


def adapter(base: Path, path: Path, config: peft.PeftConfig | None = None, **options: Any) -> Path:
    """Written by stock peft, every trained number moved."""
    torch.manual_seed(1)
    lora = {"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **options}
    model = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(base), config or peft.LoraConfig(task_type="CAUSAL_LM", **lora)
    )
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.1 * torch.randn_like(parameter)
    model.save_pretrained(path)
    return path


@torch.no_grad()
def by_peft(path: Path, base: Path) -> list[Tensor]:
    """Log-probabilities of the whole vocabulary after each prompt's greedy continuation of 6 tokens, row by row."""
    model = peft.PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), path).eval()
    lines = []
    for prompt in PROMPTS:
        tokens = torch.tensor([prompt])
        for _ in range(6):
            likeliest = model(input_ids=tokens).logits[:, -1:].argmax(-1)
            tokens = torch.cat([tokens, likeliest], dim=1)
        lines.append(torch.cat([tokens[0].float(), model(input_ids=tokens).logits[0].log_softmax(-1).flatten()]))
    return lines


@torch.no_grad()
def by_heed(policy: Policy) -> list[Tensor]:
    """The same from heed: the sampler draws from merged weights, the scorer reads adapters."""
    lines = []
    for prompt in PROMPTS:
        asked = PromptBatch(torch.tensor([prompt]), torch.ones(1, len(prompt), dtype=torch.bool))
        policy.trunk.stop_ids = frozenset({10**6})
        drawn = policy.generate(asked, 6, 0.0, torch.Generator())
        tokens = torch.cat([asked.tokens, drawn.tokens], dim=1)
        with policy.active():
            logits = policy.trunk.logits(policy.trunk.hidden(tokens, torch.ones_like(tokens, dtype=torch.bool))[0])
        lines.append(torch.cat([tokens[0].float(), logits.log_softmax(-1).flatten()]))
    return lines


ACCEPTED = {
    "plain": {},
    "two layers by name": {"target_modules": ["q_proj", "v_proj"]},
    "a pattern": {"target_modules": r".*\.mlp\.(up|down)_proj"},
    "all but one": {"exclude_modules": ["gate_proj"]},
    "rank-stabilised": {"use_rslora": True},
    "ranks of their own": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"v_proj": 3}},
    "the last layer": {"target_modules": ["q_proj"], "layers_to_transform": [1]},
    "begun at random": {"init_lora_weights": False},
    "begun from a Gaussian": {"init_lora_weights": "gaussian"},
    "begun orthogonal": {"init_lora_weights": "orthogonal"},
    "trained with dropout": {"lora_dropout": 0.3},
}


@pytest.mark.parametrize("options", ACCEPTED.values(), ids=ACCEPTED)
def test_what_is_taken_is_stock_peft(llama: Path, tmp_path: Path, options: dict[str, Any]) -> None:
    path = adapter(llama, tmp_path, **options)
    policy = Shelf(lambda _: torch.float32, CPU).policy(str(path), "policy")
    expected = by_peft(path, llama)
    for found, theirs in zip(by_heed(policy), expected, strict=True):
        assert_close(found, theirs, atol=1e-4, rtol=1e-5)
    policy.trunk.copy_adapter("policy", "copy")
    for found, theirs in zip(by_heed(Policy(policy.trunk, "copy")), expected, strict=True):
        assert_close(found, theirs, atol=1e-4, rtol=1e-5)
    policy.trunk.save_adapter("copy", tmp_path / "again", "CAUSAL_LM")
    for found, theirs in zip(by_peft(tmp_path / "again", llama), expected, strict=True):
        assert_close(found, theirs, atol=1e-5, rtol=1e-5)


REFUSED = {
    "use_dora=True": {"use_dora": True},
    "embed_tokens": {"target_modules": ["q_proj", "embed_tokens"]},
    "holds lm_head": {"target_modules": ["q_proj", "lm_head"]},
    "modules_to_save: embed_tokens, lm_head": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "modules_to_save: input_layernorm": {"modules_to_save": ["input_layernorm"], "target_modules": ["q_proj"]},
    "lora_bias=True": {"lora_bias": True},
    "trainable_token_indices": {"trainable_token_indices": [1, 2], "target_modules": ["q_proj"]},
    "init_lora_weights='pissa'": {"init_lora_weights": "pissa"},
    "init_lora_weights='olora'": {"init_lora_weights": "olora"},
    "layer_replication": {"layer_replication": [[0, 2], [0, 2]]},
}  # fmt: skip


@pytest.mark.parametrize(("named", "options"), REFUSED.items(), ids=REFUSED)
def test_what_is_more_than_lora_is_named(llama: Path, tmp_path: Path, named: str, options: dict[str, Any]) -> None:
    refused(adapter(llama, tmp_path, **options), llama, named)


OTHER_KINDS = {
    "IA3": peft.IA3Config(task_type="CAUSAL_LM", target_modules=["q_proj"], feedforward_modules=[]),
    "PROMPT_TUNING": peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=3),
    "VERA": peft.VeraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"]),
}


@pytest.mark.parametrize(("kind", "config"), OTHER_KINDS.items(), ids=OTHER_KINDS)
def test_an_adapter_that_is_no_lora(llama: Path, tmp_path: Path, kind: str, config: peft.PeftConfig) -> None:
    refused(adapter(llama, tmp_path, config), llama, f"is of the type {kind}")


@pytest.mark.parametrize(("kind", "config"), OTHER_KINDS.items(), ids=OTHER_KINDS)
def test_merging_is_advised_where_it_can_be_done(
    llama: Path, tmp_path: Path, kind: str, config: peft.PeftConfig
) -> None:
    found = open_checkpoint(str(adapter(llama, tmp_path, config)))
    with pytest.raises(CheckpointError) as told:
        Trunk.load(found, torch.float32, CPU).attach("policy", found)
    base = AutoModelForCausalLM.from_pretrained(llama)
    mergeable = hasattr(peft.PeftModel.from_pretrained(base, tmp_path).base_model, "merge_and_unload")
    assert ("merge_and_unload" in told.value.hint) == mergeable


def test_a_setting_that_a_later_peft_invented(llama: Path, tmp_path: Path) -> None:
    file = adapter(llama, tmp_path) / "adapter_config.json"
    told = json.loads(file.read_text())
    file.write_text(json.dumps({**told, "use_tomorrow": "yes"}))
    refused(tmp_path, llama, "use_tomorrow='yes'")
    file.write_text(json.dumps({**told, "use_tomorrow": False}))
    Trunk.load(open_checkpoint(str(tmp_path)), torch.float32, CPU).attach("policy", open_checkpoint(str(tmp_path)))


def test_biases_that_were_trained_too(llama: Path, tmp_path: Path) -> None:
    file = adapter(llama, tmp_path) / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "bias": "all"}))
    refused(tmp_path, llama, "bias='all'")


def test_tensors_that_do_not_fit(llama: Path, tmp_path: Path) -> None:
    """Of another base, of a module that is not there, or not there themselves."""
    file = adapter(llama, tmp_path) / "adapter_model.safetensors"
    tensors, name = load_file(file), "base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"
    save_file({**tensors, name: torch.zeros(4, 64)}, file)
    refused(tmp_path, llama, r"shape \[4, 64\] where 32 are needed")
    save_file({**tensors, name.replace("up_proj", "fc1"): tensors[name].clone()}, file)
    refused(tmp_path, llama, "which LlamaForCausalLM does not have")
    save_file({**tensors, "base_model.model.lm_head.lora_A.weight": torch.zeros(4, 32)}, file)
    refused(tmp_path, llama, "lm_head, which is not in the transformer but after it")
    save_file({key: value for key, value in tensors.items() if key != name}, file)
    refused(tmp_path, llama, "has no weights for model.layers.1.mlp.up_proj.lora_A.weight")


def test_a_revision_of_a_base_on_the_hub(llama: Path, tmp_path: Path) -> None:
    """A local base has no revisions; on the hub another one has other weights."""
    file = adapter(llama, tmp_path) / "adapter_config.json"
    told = {**json.loads(file.read_text()), "revision": "v2"}
    file.write_text(json.dumps(told))
    trunk, checkpoint = Trunk.load(open_checkpoint(str(llama)), torch.float32, CPU), open_checkpoint(str(tmp_path))
    trunk.attach("policy", checkpoint)
    file.write_text(json.dumps({**told, "base_model_name_or_path": "somebody/model"}))
    with pytest.raises(CheckpointError, match="stands on the revision 'v2' of its base"):
        trunk.attach("again", checkpoint)


def test_an_adapter_of_an_adapter(llama: Path, tmp_path: Path) -> None:
    first = adapter(llama, tmp_path / "first")
    file = adapter(llama, tmp_path / "second") / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(first)}))
    with pytest.raises(CheckpointError, match="is an adapter itself"):
        open_checkpoint(str(tmp_path / "second"))


def test_a_reward_adapter_is_no_policy(llama: Path, tmp_path: Path) -> None:
    """Stock peft's own classifier, without a word from heed: as a reward model it is taken, with its head."""
    model = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(llama), peft.LoraConfig(target_modules=["q_proj"], modules_to_save=None)
    )
    model.save_pretrained(tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({**load_file(file), "base_model.model.score.weight": torch.ones(1, 32)}, file)
    refused(tmp_path, llama, "score.weight, not A or B")
    reward = Shelf(lambda _: torch.float32, CPU).reward_model(str(tmp_path), "reward")
    assert reward.head.weight.tolist() == [[1.0] * 32]
    save_file({**load_file(file), "base_model.model.score.weight": torch.ones(2, 32)}, file)
    with pytest.raises(CheckpointError, match="gives 2 numbers a text"):
        Shelf(lambda _: torch.float32, CPU).reward_model(str(tmp_path), "reward")


def refused(path: Path, base: Path, match: str) -> None:
    """In two lines, before a weight of the base changes and before an adapter is there."""
    trunk = Trunk.load(open_checkpoint(str(base)), torch.float32, CPU)
    before = trunk.plain_state()
    with pytest.raises(CheckpointError, match=match) as told:
        trunk.attach("policy", open_checkpoint(str(path)))
    assert str(told.value).count("\n") == 1
    assert all(torch.equal(weight, before[name]) for name, weight in trunk.plain_state().items() if name in before)


@pytest.mark.parametrize("base", ["llama", "models/llama"])
def test_a_base_by_a_relative_name_is_looked_for_and_the_hint_names_the_file(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str
) -> None:
    """As peft writes it where the base was given so; the command runs elsewhere."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    config = adapter(llama, tmp_path) / "adapter_config.json"
    told = json.loads(config.read_text())
    config.write_text(json.dumps({**told, "base_model_name_or_path": base}))
    with pytest.raises(CheckpointError, match=f"its base model {base} ") as caught:
        open_checkpoint(str(tmp_path))
    assert caught.value.where == str(tmp_path) and str(config) in caught.value.hint
    config.write_text(json.dumps({**told, "base_model_name_or_path": str(llama)}))
    assert open_checkpoint(str(tmp_path)).base == str(llama)
