"""`heed export`: weights that stock libraries load, with heed's tokens and heed's scores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file
from torch.testing import assert_close
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from heed.batches import PromptBatch
from heed.errors import HeedError
from heed.flows import export
from heed.models.artefact import Artefact, TemplateUsed
from heed.models.policy import Policy
from heed.models.roles import Shelf, trained_copy
from heed.models.scalar_head import RewardModel, new_head
from heed.settings.common import LoraSettings
from heed.settings.export import ExportSettings

CPU = torch.device("cpu")
TEXTS = ["hello there", "a", "what is it?", "the quick brown fox jumps over"]


def trained(base: Path, path: Path, kind: type, rank: int = 4) -> Policy | RewardModel:
    """A checkpoint in `path` whose weights differ from its base's."""
    policy = Shelf(lambda _: torch.float32, CPU).policy(str(base), "base")
    body = trained_copy(policy, "trained", LoraSettings(rank=rank))
    head = new_head(body.trunk.width, torch.Generator().manual_seed(0)).requires_grad_(False)
    model = body if kind is Policy else RewardModel(body.trunk, body.adapter, head, 0.5, -1.25)
    generator = torch.Generator().manual_seed(1)
    for parameter in model.parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    figures = {"accuracy": {"estimate": 0.7, "low": 0.6, "high": 0.8, "n": 9}}
    used = TemplateUsed("dialogue", "", "{% for turn in messages %}{{ turn.content }}{% endfor %}")
    path.mkdir(parents=True)
    Artefact(
        "ppo", "mine", "A model.", "seed: 7", {}, used, base=body.trunk.name, base_hash=body.trunk.hash, figures=figures
    ).save(model, path)
    return model


def exported(source: Path, output: Path, **options: Any) -> Path:
    export.run(ExportSettings(model=str(source), output=str(output), **options))
    return output


def batch(base: Path, side: str) -> Any:
    return AutoTokenizer.from_pretrained(base, padding_side=side)(TEXTS, padding=True, return_tensors="pt")


@pytest.mark.parametrize("rank", [4, 0], ids=["adapter", "all weights"])
def test_a_merged_policy_answers_greedily_as_heed_does(tiny_directory: Path, tmp_path: Path, rank: int) -> None:
    policy = trained(tiny_directory, tmp_path / "run", Policy, rank)
    assert isinstance(policy, Policy)
    asked = batch(tiny_directory, "left")
    prompts = PromptBatch(asked.input_ids, asked.attention_mask.bool())
    ours = policy.generate(prompts, 20, 0.0, torch.Generator())
    stock = AutoModelForCausalLM.from_pretrained(exported(tmp_path / "run", tmp_path / "merged"))
    theirs = stock.generate(**asked, do_sample=False, max_new_tokens=20)[:, asked.input_ids.shape[1] :]
    assert len({tuple(row) for row in theirs.tolist()}) > 1
    for row, mask, other in zip(ours.tokens, ours.mask, theirs, strict=True):
        assert row[mask].tolist() == other[: int(mask.sum())].tolist()


@pytest.mark.parametrize("rank", [4, 0], ids=["adapter", "all weights"])
def test_a_merged_reward_model_gives_heeds_scores(tiny_directory: Path, tmp_path: Path, rank: int) -> None:
    """In the layout of TRL: a sequence classifier with one label, which finds the last token by its pad token."""
    model = trained(tiny_directory, tmp_path / "run", RewardModel, rank)
    path = exported(tmp_path / "run", tmp_path / "merged")
    stock = AutoModelForSequenceClassification.from_pretrained(path).eval()
    told = batch(tiny_directory, "right")
    assert stock.config.num_labels == 1 and stock.config.pad_token_id == 1
    assert (stock.config.reward_gain, stock.config.reward_bias) == (1.0, 0.0)
    ours = scores(model, told)
    assert_close(stock(**told).logits[:, 0].detach(), ours, atol=1e-5, rtol=1e-5)
    again = Shelf(lambda _: torch.float32, CPU).reward_model(str(path), "again")
    assert_close(scores(again, told), ours, atol=1e-5, rtol=1e-5)


def test_openrlhf_reads_the_same_score_from_the_same_files(tiny_directory: Path, tmp_path: Path) -> None:
    """Its reward model is the bare transformer by its own prefix and a linear layer `score` without bias, read at the
    last token that the attention mask counts."""
    model = trained(tiny_directory, tmp_path / "run", RewardModel)
    path = exported(tmp_path / "run", tmp_path / "merged")
    body = AutoModel.from_config(AutoConfig.from_pretrained(path)).eval()
    prefix, state = f"{body.base_model_prefix}.", load_file(path / "model.safetensors")
    assert set(state) == {prefix + name for name in body.state_dict() if prefix + name in state} | {"score.weight"}
    body.load_state_dict(
        {name.removeprefix(prefix): tensor for name, tensor in state.items() if name != "score.weight"}
    )
    told = batch(tiny_directory, "right")
    values = (body(**told).last_hidden_state @ state["score.weight"].T)[..., 0].detach()
    last = told.attention_mask.shape[1] - 1 - told.attention_mask.fliplr().argmax(dim=1)
    assert_close(values[torch.arange(len(last)), last], scores(model, told), atol=1e-5, rtol=1e-5)


def test_where_no_layer_holds_the_bias_it_is_told(
    llama: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = trained(llama, tmp_path / "run", RewardModel)
    assert isinstance(model, RewardModel)
    with caplog.at_level("WARNING", "heed"):
        path = exported(tmp_path / "run", tmp_path / "merged")
    assert "scores of other libraries are lower by -1.25" in caplog.text
    told = batch(llama, "right")
    raw = AutoModelForSequenceClassification.from_pretrained(path).eval()(**told).logits[:, 0].detach()
    assert_close(raw - 1.25, scores(model, told), atol=1e-5, rtol=1e-5)
    assert json.loads((path / "heed.json").read_text())["reward"]["bias"] == -1.25
    again = Shelf(lambda _: torch.float32, CPU).reward_model(str(path), "again")
    assert_close(scores(again, told), scores(model, told), atol=1e-5, rtol=1e-5)


def test_the_directory_is_one_that_servers_take(tiny_directory: Path, tmp_path: Path) -> None:
    trained(tiny_directory, tmp_path / "run", Policy)
    path = exported(tmp_path / "run", tmp_path / "merged", dtype="bfloat16")
    names = {file.name for file in path.iterdir()}
    assert names >= {
        "config.json", "model.safetensors", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "README.md", "heed.json",
    }  # fmt: skip
    assert not [name for name in names if name.startswith("adapter")]
    config = json.loads((path / "config.json").read_text())
    assert (config["architectures"], config["model_type"], config["dtype"]) == (["GPT2LMHeadModel"], "gpt2", "bfloat16")
    assert {tensor.dtype for tensor in load_file(path / "model.safetensors").values()} == {torch.bfloat16}
    card = ModelCard.load(path / "README.md")
    assert card.data.library_name == "transformers" and card.data.eval_results[0].metric_value == 0.7
    assert "transformers serve PATH" in card.text and "# needs peft" not in card.text and "## Limits" in card.text


def test_an_adapter_can_stay_one(tiny_directory: Path, tmp_path: Path) -> None:
    trained(tiny_directory, tmp_path / "run", Policy)
    path = exported(tmp_path / "run", tmp_path / "copied", merge=False)
    assert (path / "adapter_model.safetensors").read_bytes() == (
        tmp_path / "run/adapter_model.safetensors"
    ).read_bytes()


@pytest.mark.parametrize(
    ("model", "output", "what"),
    [("", "out", "no checkpoint is named"), ("run", "", "no directory is named"), ("run", "run", "is there already")],
)
def test_what_a_person_can_mend(tiny_directory: Path, tmp_path: Path, model: str, output: str, what: str) -> None:
    trained(tiny_directory, tmp_path / "run", Policy)
    with pytest.raises(HeedError, match=what):
        export.run(
            ExportSettings(model=model and str(tmp_path / model), output=output and str(tmp_path / output))
        )  # fmt: skip
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run"]


def scores(model: Any, told: Any) -> torch.Tensor:
    with model.active(), torch.no_grad():
        found: torch.Tensor = model.scores(told.input_ids, told.attention_mask.bool())
    return found
