from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from heed.models.census import census, told
from heed.models.checkpoint import Checkpoint, open_checkpoint, write_metadata
from heed.models.lineage import fingerprint, lineage, parent
from heed.models.policy import Policy
from heed.models.roles import trained_copy
from heed.models.scalar_head import ValueModel, new_head
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings

DIALOGUE = {"name": "dialogue", "hash": "a"}


@pytest.fixture
def made(tiny_directory: Path, tmp_path: Path) -> tuple[Path, Path]:
    """An SFT model and a reward model, as their files tell."""
    sft, reward = (Path(shutil.copytree(tiny_directory, tmp_path / name)) for name in ("sft", "reward"))
    write_metadata(sft, {"kind": "policy", "stage": "sft", "template": DIALOGUE})
    note = {"kind": "reward", "stage": "reward", "template": DIALOGUE}
    write_metadata(reward, {**note, "from": parent(opened(sft))})
    return sft, reward


def opened(path: Path) -> Checkpoint:
    return open_checkpoint(str(path))


def test_nothing_is_told_of_what_is_as_it_should_be(made: tuple[Path, Path]) -> None:
    assert lineage(*map(opened, made)) == []


def test_a_base_model_in_the_place_of_the_sft_model(made: tuple[Path, Path], tiny_directory: Path) -> None:
    sft, _ = made
    write_metadata(sft, {"kind": "policy", "stage": "pretrain", "template": DIALOGUE})
    (line,) = lineage(opened(sft))
    assert "is a base model" in line
    base, template = lineage(opened(tiny_directory))
    assert "is a base model" in base
    assert template.endswith("it has no heed.json, so template dialogue is assumed")


def test_a_reward_model_of_another_sft_model(made: tuple[Path, Path]) -> None:
    sft, reward = made
    model = AutoModelForCausalLM.from_pretrained(sft)
    model.transformer.wte.weight.data[0, 0] += 1
    model.save_pretrained(sft)
    (line,) = lineage(opened(sft), opened(reward))
    assert "was trained from another SFT model (sft)" in line


def test_a_fingerprint_is_of_the_weights(tiny_directory: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(tiny_directory, tmp_path / "copy"))
    write_metadata(copied, {"kind": "policy"})
    AutoTokenizer.from_pretrained(copied).save_pretrained(copied)
    assert fingerprint(opened(copied)) == fingerprint(opened(tiny_directory))
    assert fingerprint(Checkpoint("gpt2", "gpt2")) is None


def test_a_census_counts_shared_weights_once(trunk: Trunk) -> None:
    """Rank 2 on the four linear layers of each of two blocks of width 32: 2·(32+96 + 32+32 + 32+128 + 128+32) each."""
    weights = sum(parameter.numel() for parameter in trunk.model.parameters())
    policy, body = (trained_copy(Policy(trunk), name, LoraSettings(rank=2)) for name in ("policy", "value"))
    value = ValueModel(trunk, body.adapter, new_head(32, torch.Generator()))
    adapter = 2 * 2 * (32 + 96 + 32 + 32 + 32 + 128 + 128 + 32)
    found = census({"policy": policy, "value": value}, {"reference": Policy(trunk)})
    assert found == {
        "trained": {"policy": adapter, "value": adapter + 32}, "parameters": weights + 2 * adapter, "models": 1,
        "dtype": ["float32"], "device": ["cpu"],
    }  # fmt: skip
    assert told(found).startswith(f"parameters trained: policy {adapter:,} and value {adapter + 32:,}; ")
    whole = trained_copy(Policy(trunk), "policy", LoraSettings(rank=0))
    assert census({"policy": whole}, {"reference": Policy(trunk)})["models"] == 2
