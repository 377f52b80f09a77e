"""A model that would be read otherwise than stock transformers reads it is refused at load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertConfig,
    CohereConfig,
    Gemma2Config,
    GraniteConfig,
    MambaConfig,
    PreTrainedConfig,
)

from heed.errors import CheckpointError
from heed.models.checkpoint import open_checkpoint
from heed.models.trunk import Trunk

CPU = torch.device("cpu")
SHAPE = {
    "vocab_size": 270, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "max_position_embeddings": 64, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 1,
}  # fmt: skip


def made(config: PreTrainedConfig, tokenizer: Path, path: Path) -> Path:
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    model.get_output_embeddings().weight.data *= 20
    model.save_pretrained(path)
    AutoTokenizer.from_pretrained(tokenizer).save_pretrained(path)
    return path


AFTER_THE_HEAD = {
    "capped": Gemma2Config(**SHAPE, num_key_value_heads=2, head_dim=8, final_logit_softcapping=2.0),
    "multiplied": CohereConfig(**SHAPE, num_key_value_heads=2, logit_scale=0.25),
    "divided": GraniteConfig(**SHAPE, num_key_value_heads=2, logits_scaling=4.0),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("config", AFTER_THE_HEAD.values(), ids=AFTER_THE_HEAD)
def test_what_a_model_does_after_its_head_is_done(
    config: PreTrainedConfig, dtype: torch.dtype, tiny_directory: Path, tmp_path: Path
) -> None:
    path = made(config, tiny_directory, tmp_path)
    trunk = Trunk.load(open_checkpoint(str(path)), dtype, CPU)
    tokens = torch.arange(5, 25)[None]
    with torch.no_grad():
        hidden = trunk.hidden(tokens, torch.ones_like(tokens, dtype=torch.bool))[0]
        stock = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
        by_hand = hidden.float() @ stock.get_output_embeddings().weight.bfloat16().float().T  # rounded where it was
        if dtype == torch.float32:
            assert torch.equal(trunk.logits(hidden), stock(input_ids=tokens).logits[0])
            return
    after = {
        "Gemma2Config": lambda x: 2 * (x / 2).tanh(),
        "CohereConfig": lambda x: x / 4,
        "GraniteConfig": lambda x: x / 4,
    }
    expected = after[type(config).__name__](by_hand)
    assert (expected - by_hand).abs().max() > 0.3
    assert_close(trunk.logits(hidden), expected, atol=1e-4, rtol=1e-5)
    assert trunk.logits(hidden).dtype == torch.float32


def test_whole_training_reaches_a_head_that_is_read_by_the_models_own_forward(
    tiny_directory: Path, tmp_path: Path
) -> None:
    path = made(AFTER_THE_HEAD["divided"], tiny_directory, tmp_path)
    trunk = Trunk.load(open_checkpoint(str(path)), torch.float32, CPU).merged_copy(None)
    trunk.model.get_output_embeddings().weight.data[9] += 1
    tokens = torch.arange(5, 25)[None]
    with torch.no_grad():
        found = trunk.logits(trunk.hidden(tokens, torch.ones_like(tokens, dtype=torch.bool))[0])
        assert torch.equal(found, trunk.model(input_ids=tokens).logits[0])


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (MambaConfig(vocab_size=270, hidden_size=32, num_hidden_layers=2, eos_token_id=0), "keeps a state, which"),
        (BertConfig(**SHAPE), "BertLMHeadModel"),  # reads what comes later, too
    ],
    ids=["a state", "both directions"],
)
def test_what_cannot_be_read_so_is_refused(
    config: PreTrainedConfig, told: str, tiny_directory: Path, tmp_path: Path
) -> None:
    path = made(config, tiny_directory, tmp_path)
    with pytest.raises(CheckpointError, match=told) as error:
        Trunk.load(open_checkpoint(str(path)), torch.float32, CPU)
    assert str(error.value).count("\n") == 1


def test_positions_that_count_padding_are_seen(tiny_directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Trunk.hidden

    def counted(trunk: Trunk, tokens: Tensor, mask: Tensor, cache: Any = None) -> Tensor:
        return right(trunk, tokens, mask if cache else torch.ones_like(mask), cache)

    monkeypatch.setattr(Trunk, "hidden", counted)
    with pytest.raises(CheckpointError, match="with padding on the left gives numbers"):
        Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, CPU)


def test_weights_that_are_not_numbers(tiny_directory: Path, tmp_path: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(tiny_directory)
    model.transformer.h[0].mlp.c_fc.weight.data[3, 3] = float("nan")
    model.save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(tiny_directory).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="not finite"):
        Trunk.load(open_checkpoint(str(tmp_path)), torch.float32, CPU)


def test_width_is_asked_of_the_model(trunk: Trunk) -> None:
    """A config may call it otherwise, or say something else."""
    trunk.model.config.n_embd = 7
    assert trunk.width == 32


def test_whole_training_does_not_begin_from_rounded_weights(tiny_directory: Path) -> None:
    checkpoint = open_checkpoint(str(tiny_directory))
    rounded, exact = (Trunk.load(checkpoint, dtype, CPU) for dtype in (torch.bfloat16, torch.float32))
    copied = rounded.merged_copy(None)
    assert copied.model.dtype == torch.float32
    found = copied.model.state_dict()
    assert all(torch.equal(weight, found[name]) for name, weight in exact.model.state_dict().items())
