"""What the sampler draws at temperature 0 is what stock `generate` writes, prompt by prompt and without padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from families import FAMILIES, build
from transformers import AutoModelForCausalLM

from heed.errors import CheckpointError
from heed.models import sampler, step_attention
from heed.models.answers import left_padded
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.trunk import Trunk

FEW = ("GPT-2", "GPT-Neo", "OPT", "BLOOM", "Llama", "Mistral", "Qwen3", "Gemma 2", "Gemma 3", "Falcon", "gpt-oss")
"""Learned, rotary and linear positions; shared keys; windows; caps; sinks; positions that come from the mask."""
CPU, TOKENS = torch.device("cpu"), 12


def greedy(family: str, place: Path) -> None:
    directory = build(family, place)
    trunk = Trunk.load(open_checkpoint(str(directory)), torch.float32, CPU)
    generator = torch.Generator().manual_seed(0)
    lengths = (30, 18, 5, 1)  # of windows of 16, one that is passed while reading and one while writing
    asked = [torch.randint(3, 250, (length,), generator=generator).tolist() for length in lengths]
    drawn = Policy(trunk).generate(left_padded(asked, 1, CPU), TOKENS, 0.0, generator, copies=2)
    stock = AutoModelForCausalLM.from_pretrained(directory).eval()
    for row, prompt in enumerate(asked):
        written = stock.generate(
            torch.tensor([prompt]), do_sample=False, max_new_tokens=TOKENS, pad_token_id=1, eos_token_id=0
        )[0, len(prompt) :].tolist()
        for copy in (2 * row, 2 * row + 1):
            assert drawn.tokens[copy][drawn.mask[copy]].tolist() == written


@pytest.mark.parametrize("family", FEW)
def test_greedy_tokens_are_those_of_generate(family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_attention, "FEWEST", 0)  # the way of large caches, which these are not
    monkeypatch.setattr(sampler, "READ_AT_ONCE", 40)
    greedy(family, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("fewest", [0, 1 << 30], ids=["products", "fused"])
@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_tokens_of_all(family: str, fewest: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_attention, "FEWEST", fewest)
    try:
        greedy(family, tmp_path)
    except CheckpointError:
        pytest.skip("refused at load")
