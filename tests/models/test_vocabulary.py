"""Tokenizer, embeddings and context of a checkpoint are held against each other before a model reads a token."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, GPT2Config

from heed.batches import PromptBatch, Responses
from heed.errors import CheckpointError
from heed.models.answers import texts_of
from heed.models.checkpoint import open_checkpoint
from heed.models.load import context_length, load_tokenizer
from heed.models.policy import Policy
from heed.models.trunk import Trunk

CPU = torch.device("cpu")


@pytest.fixture
def copied(tiny_directory: Path, tmp_path: Path) -> Path:
    """258 embeddings; pad is 1."""
    return Path(shutil.copytree(tiny_directory, tmp_path / "copied"))


def change_tokenizer(path: Path, **special: object) -> None:
    tokenizer = AutoTokenizer.from_pretrained(path)
    tokenizer.add_special_tokens(special)
    tokenizer.save_pretrained(path)


def test_a_pad_token_without_an_embedding_is_not_taken(copied: Path) -> None:
    change_tokenizer(copied, pad_token="[ADDED]")
    assert AutoTokenizer.from_pretrained(copied).pad_token_id == 258
    assert load_tokenizer(str(copied)).pad_token == "<|pad|>"
    prompts = PromptBatch(torch.tensor([[1, 40], [41, 42]]), torch.tensor([[False, True], [True, True]]))
    trunk = Trunk.load(open_checkpoint(str(copied)), torch.float32, CPU)
    drawn = Policy(trunk).generate(prompts, 20, 1.0, torch.Generator().manual_seed(0))
    assert drawn.tokens.max() < 258


def test_a_pad_token_that_is_the_end_of_text_is_not_taken(copied: Path) -> None:
    change_tokenizer(copied, pad_token="<|endoftext|>")
    assert load_tokenizer(str(copied)).pad_token == "<|pad|>"


def test_words_without_an_embedding_are_refused(copied: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(copied)
    tokenizer.add_tokens(["zebra", "yak"])
    tokenizer.save_pretrained(copied)
    with pytest.raises(CheckpointError, match="258 embeddings: 2, such as 'yak'") as told:
        load_tokenizer(str(copied))
    assert "resize_token_embeddings" in told.value.hint
    model = AutoModelForCausalLM.from_pretrained(copied)
    model.resize_token_embeddings(260)
    model.save_pretrained(copied)
    assert len(load_tokenizer(str(copied))) == 260


def test_a_special_token_that_only_a_chat_template_writes(copied: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(copied)
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|turn|>"]})
    tokenizer.save_pretrained(copied)
    load_tokenizer(str(copied))  # no text becomes it
    tokenizer.chat_template = "{{ '<|turn|>' }}"
    tokenizer.save_pretrained(copied)
    with pytest.raises(CheckpointError, match=r"<\|turn\|>"):
        load_tokenizer(str(copied))


def test_an_end_of_text_without_an_embedding_is_refused(copied: Path) -> None:
    change_tokenizer(copied, eos_token="<|over|>")
    with pytest.raises(CheckpointError, match=r"<\|over\|>"):
        load_tokenizer(str(copied))


def test_tokens_that_the_tokenizer_does_not_know_have_no_text(copied: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(copied)
    model.resize_token_embeddings(300)
    model.save_pretrained(copied)
    policy = Policy(Trunk.load(open_checkpoint(str(copied)), torch.float32, CPU))
    red = policy.trunk.tokenizer("red")["input_ids"]
    tokens = torch.tensor([[299, *red, 270]])
    assert texts_of(policy, Responses(tokens, torch.ones_like(tokens).bool(), torch.zeros(1, 5))) == ["red"]


def test_an_adapter_without_a_tokenizer_has_its_base_models(tiny_directory: Path, tmp_path: Path) -> None:
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(tiny_directory), LoraConfig(target_modules=["c_attn"]))
    model.save_pretrained(tmp_path)
    assert not list(tmp_path.glob("tokenizer*"))
    assert load_tokenizer(str(tmp_path)).get_vocab() == load_tokenizer(str(tiny_directory)).get_vocab()


@pytest.mark.parametrize(("by_tokenizer", "expected"), [(48, 48), (10**30, 64), (2048, 64)])
def test_the_context_is_what_model_and_tokenizer_both_see(copied: Path, by_tokenizer: int, expected: int) -> None:
    tokenizer = AutoTokenizer.from_pretrained(copied)
    tokenizer.model_max_length = by_tokenizer
    assert context_length(GPT2Config(n_positions=64), tokenizer) == expected
    tokenizer.save_pretrained(copied)
    assert Trunk.load(open_checkpoint(str(copied)), torch.float32, CPU).context == expected


def test_ends_of_text_come_from_the_generation_config_too(copied: Path) -> None:
    """A special token of several ends an answer; an ordinary letter and an id that is not there do not."""
    change_tokenizer(copied, additional_special_tokens=["<|pad|>"])
    GenerationConfig(eos_token_id=[1, 70, 900]).save_pretrained(copied)
    trunk = Trunk.load(open_checkpoint(str(copied)), torch.float32, CPU)
    assert trunk.stop_ids == {0, 1}
    assert trunk.merged_copy(None).stop_ids == {0, 1}
    many = PromptBatch(torch.full((256, 2), 44), torch.ones(256, 2, dtype=torch.bool))
    drawn = Policy(trunk).generate(many, 30, 3.0, torch.Generator().manual_seed(0))
    last = drawn.tokens.gather(1, (drawn.lengths - 1)[:, None])[:, 0]
    inside = drawn.mask.clone()
    inside[torch.arange(256), drawn.lengths - 1] = False
    assert {0, 1} <= set(last.tolist())
    assert not torch.isin(drawn.tokens[inside], torch.tensor([0, 1])).any()
    assert torch.equal(drawn.finished(trunk.stop_ids), (last == 0) | (last == 1))
    assert torch.equal(drawn.finished(0), last == 0)


def test_one_end_of_text_is_the_rule(tiny_directory: Path) -> None:
    assert json.loads((tiny_directory / "generation_config.json").read_text())["eos_token_id"] == 0
    assert Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, CPU).stop_ids == {0}
