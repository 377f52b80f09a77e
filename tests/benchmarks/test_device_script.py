"""The script for a machine with an accelerator, on a tiny shape and the processor: every line of its table comes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from runpy import run_path

import pytest
import torch
from transformers import GPT2Config

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "device.py"
TINY = GPT2Config(
    vocab_size=96, n_positions=96, n_embd=16, n_layer=1, n_head=2, bos_token_id=0, eos_token_id=0, pad_token_id=1
)


def test_ppo_and_resume_on_a_tiny_shape(tmp_path: Path) -> None:
    names = run_path(str(SCRIPT), run_name="device")
    table = list(names["lines"](tmp_path, "cpu", ["tests", "demo"], TINY))
    assert [line.what.rpartition(": ")[2] for line in table] == [
        "seconds a step", "response tokens/s", "exact KL, first step and last", "sampler against scorer, nats a token",
        "resume, cpu",
    ]  # fmt: skip
    assert table[-1].found.startswith("2 + 2 steps, mean score apart by 0")
    assert [line.healthy for line in table] == [None, None, True, True, True]


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator on this machine")
def test_it_says_where_there_is_no_accelerator() -> None:
    done = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no accelerator" in done.stdout
