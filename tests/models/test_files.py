"""A damaged file of a checkpoint is named in two lines, whichever it is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from heed.errors import CheckpointError
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.load import load_config, load_tokenizer
from heed.models.roles import Shelf
from heed.models.scalar_head import RewardModel, new_head, save_scalar
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings

CPU = torch.device("cpu")

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "one byte short": lambda content: content[:-2],
    "other bytes": lambda content: bytes(255 - byte for byte in content),
}


@pytest.fixture(scope="module")
def whole(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base in shards, and a reward model that is an adapter of it."""
    place = tmp_path_factory.mktemp("whole")
    AutoModelForCausalLM.from_pretrained(tiny_directory).save_pretrained(place / "base", max_shard_size="60KB")
    AutoTokenizer.from_pretrained(tiny_directory).save_pretrained(place / "base")
    trunk = Trunk.load(open_checkpoint(str(place / "base")), torch.float32, CPU)
    trunk.add_adapter("reward", LoraSettings(rank=2))
    save_scalar(RewardModel(trunk, "reward", new_head(32, torch.Generator())), place / "reward")
    write_metadata(place / "reward", {"kind": "reward", "reward": {"gain": 2.0, "bias": 1.0}})
    return place


FILES = (
    "base/config.json", "base/tokenizer.json", "base/tokenizer_config.json", "base/generation_config.json",
    "base/model.safetensors.index.json", "base/model-00002-of-00003.safetensors", "reward/adapter_config.json",
    "reward/adapter_model.safetensors", "reward/heed.json", "reward/tokenizer.json",
)  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize("file", FILES)
def test_the_file_is_named(whole: Path, tmp_path: Path, file: str, damage: Callable[[bytes], bytes]) -> None:
    place = Path(shutil.copytree(whole, tmp_path / "copy"))
    config = place / "reward" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(whole), str(place)))
    Shelf(lambda _: torch.float32, CPU).reward_model(str(place / "reward"), "reward")
    broken = place / file
    broken.write_bytes(damage(broken.read_bytes()))
    with pytest.raises(CheckpointError) as told:
        Shelf(lambda _: torch.float32, CPU).reward_model(str(place / "reward"), "reward")
    assert broken.name in told.value.where
    assert str(told.value).count("\n") == 1


@pytest.mark.parametrize(
    "text", ["[]", '"text"', '{"template": 3}', '{"reward": {"gain": "much"}}', '{"reward": {"bias": NaN}}']
)
def test_a_note_that_says_something_else(whole: Path, tmp_path: Path, text: str) -> None:
    path = Path(shutil.copytree(whole / "reward", tmp_path / "copy"))
    (path / "heed.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"heed\.json"):
        open_checkpoint(str(path))


def test_weights_in_torchs_own_format(tiny_directory: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_directory, tmp_path / "copy"))
    (path / "model.safetensors").unlink()
    file = path / "pytorch_model.bin"
    torch.save(AutoModelForCausalLM.from_pretrained(tiny_directory).state_dict(), file)
    Trunk.load(open_checkpoint(str(path)), torch.float32, CPU)
    file.write_bytes(file.read_bytes()[:9000])
    with pytest.raises(CheckpointError) as told:
        Trunk.load(open_checkpoint(str(path)), torch.float32, CPU)
    assert str(told.value).count("\n") == 1


def test_a_model_without_a_tokenizer_is_told_and_the_hint_works(tiny_directory: Path, tmp_path: Path) -> None:
    bare = Path(shutil.copytree(tiny_directory, tmp_path / "bare"))
    for file in bare.glob("*tok*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="holds no tokenizer") as told:
        load_tokenizer(str(bare))
    assert f".save_pretrained({str(bare)!r})" in told.value.hint
    AutoTokenizer.from_pretrained(tiny_directory).save_pretrained(bare)
    assert load_tokenizer(str(bare)).eos_token_id == load_tokenizer(str(tiny_directory)).eos_token_id


@pytest.mark.parametrize("content", [{}, {"model": {"type": "Tomorrow"}}, {"model": 3, "added_tokens": []}])
def test_a_tokenizer_that_no_library_reads(tiny_directory: Path, tmp_path: Path, content: dict[str, object]) -> None:
    odd = Path(shutil.copytree(tiny_directory, tmp_path / "odd"))
    (odd / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="its tokenizer cannot be loaded: ") as told:
        load_tokenizer(str(odd))
    assert "copy or save them again" in told.value.hint


@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8", "of tomorrow"])
def test_quantised_weights_are_refused_before_anything_is_loaded(
    tiny_directory: Path, tmp_path: Path, method: str
) -> None:
    packed = Path(shutil.copytree(tiny_directory, tmp_path / "packed"))
    config = json.loads((packed / "config.json").read_text())
    packing = {"quant_method": method, "load_in_4bit": True, "bits": 4}
    (packed / "config.json").write_text(json.dumps(config | {"quantization_config": packing}))
    with pytest.raises(CheckpointError, match=f"quantised \\({method}\\)"):
        load_tokenizer(str(packed))


def test_a_model_that_brings_its_own_code(tiny_directory: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(tiny_directory, tmp_path / "own"))
    code = {"model_type": "tomorrow", "auto_map": {"AutoConfig": "configuration_x.XConfig"}}
    (own / "config.json").write_text(json.dumps(json.loads((own / "config.json").read_text()) | code))
    with pytest.raises(CheckpointError, match="custom code") as told:
        load_config(str(own))
    assert "is not run here" in told.value.hint
