"""Ids cross from one checkpoint to another only where both read alike."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from tokenizers import processors
from transformers import AutoModelForCausalLM, AutoTokenizer

from heed.errors import CheckpointError
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.reader import Reader, require_same_reader, same_reader
from heed.models.roles import Shelf, load_roles
from heed.models.scalar_head import RewardModel, new_head, save_scalar
from heed.models.trunk import Trunk
from heed.settings.common import LoraSettings

CPU = torch.device("cpu")


@pytest.fixture
def other(tiny_directory: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_directory, tmp_path / "other"))


def why(reader: Path, writer: Path, longest: int | None = None) -> str | None:
    return same_reader(*(Reader.of(open_checkpoint(str(path))) for path in (reader, writer)), longest)


def test_a_copy_reads_alike(tiny_directory: Path, other: Path) -> None:
    assert why(other, tiny_directory) is None
    require_same_reader(open_checkpoint(str(other)), open_checkpoint(str(tiny_directory)))


def test_another_template_or_one_of_other_content(tiny_directory: Path, other: Path, tmp_path: Path) -> None:
    first = Path(shutil.copytree(other, tmp_path / "first"))
    write_metadata(first, {"kind": "policy", "template": {"name": "chat", "hash": "a"}})
    assert why(other, first) is None  # it does not say, which is told elsewhere
    write_metadata(other, {"kind": "policy", "template": {"name": "alpaca", "hash": "b"}})
    assert "template alpaca, but" in str(why(other, first))
    write_metadata(other, {"kind": "policy", "template": {"name": "chat", "hash": "b"}})
    assert str(why(other, first)).endswith("with chat of other content")


def test_another_entry(tiny_directory: Path, other: Path) -> None:
    """As many entries, two of them exchanged."""
    file = other / "tokenizer.json"
    a, b = '"!":2', '"\\"":3'
    text = file.read_text().replace(" ", "").replace("\n", "")
    assert a in text and b in text
    file.write_text(text.replace(a, '"!":3').replace(b, '"\\"":2'))
    assert "other entries" in str(why(other, tiny_directory))


def test_another_special_token(tiny_directory: Path, other: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.eos_token = "!"
    tokenizer.save_pretrained(other)
    assert "its eos_token_id is 2" in str(why(other, tiny_directory))


def test_a_token_around_every_text(tiny_directory: Path, other: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<|endoftext|> $A", special_tokens=[("<|endoftext|>", 0)]
    )
    tokenizer.save_pretrained(other)
    assert "puts [0] around a text" in str(why(other, tiny_directory))


def test_fewer_embeddings_and_a_shorter_context(tiny_directory: Path, other: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(other)
    model.resize_token_embeddings(300)
    model.save_pretrained(other)
    assert "has 258 embeddings" in str(why(tiny_directory, other))
    assert why(other, tiny_directory) is None
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.model_max_length = 32
    tokenizer.save_pretrained(other)
    assert "sees 32 tokens, and is to read 64" in str(why(other, tiny_directory))
    assert why(other, tiny_directory, longest=32) is None


def test_ppo_does_not_begin_with_a_reward_model_that_reads_otherwise(
    tiny_directory: Path, other: Path, llama: Path
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(other)
    tokenizer.eos_token = "!"
    tokenizer.save_pretrained(other)
    trunk = Trunk.load(open_checkpoint(str(other)), torch.float32, CPU)
    path = other.parent / "reward"
    save_scalar(RewardModel(trunk, None, new_head(32, torch.Generator())), path)
    shelf = Shelf(lambda _: torch.float32, CPU)
    with pytest.raises(CheckpointError, match="its eos_token_id is 2") as told:
        load_roles(shelf, str(tiny_directory), shelf.reward_model(str(path), "reward"), LoraSettings(rank=2))
    assert str(told.value).count("\n") == 1
    with pytest.raises(CheckpointError, match="its eos_token_id is 2"):
        require_same_reader(open_checkpoint(str(other)), open_checkpoint(str(tiny_directory)))


def test_one_trunk_for_one_directory_by_whatever_path(tiny_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny_directory.parent)
    shelf = Shelf(lambda _: torch.float32, CPU)
    a, b = shelf.policy(str(tiny_directory), "a"), shelf.policy(f"./{tiny_directory.name}", "b")
    assert a.trunk is b.trunk
