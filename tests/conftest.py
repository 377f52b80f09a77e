"""What every test stands on: no network, one thread a process, shapes and types of the formulas checked at run time."""

from __future__ import annotations

import atexit
import importlib.util
import os
import shutil
import tempfile

# Before torch and the hub library are imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["TRACKIO_DIR"] = tempfile.mkdtemp(prefix="trackio-")

if importlib.util.find_spec("beartype"):
    from jaxtyping import install_import_hook

    install_import_hook("heed.formulas", "beartype.beartype")

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

atexit.register(shutil.rmtree, os.environ["TRACKIO_DIR"], ignore_errors=True)
settings.register_profile("heed", deadline=None, max_examples=50, derandomize=True, database=None)
settings.load_profile("heed")

ROOT = Path(__file__).parents[1]
CHROMIUM_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NO_CHROMIUM = "no Chromium: `apt-get install chromium`, or name one by HEED_CHROMIUM=/path/to/chromium"


@pytest.fixture
def root() -> Path:
    """The project's directory."""
    return ROOT


@pytest.fixture
def heed(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own, in an empty directory (`tmp_path`)."""

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "heed.cli", *map(str, arguments)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)

    return run


@pytest.fixture(autouse=True)
def _seed() -> None:
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def tiny_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A GPT-2 of a few thousand weights with a tokenizer: end-of-text 0, pad 1, then the 256 bytes.

    Its weights are large, so that logits are far from uniform.
    """
    path = tmp_path_factory.mktemp("tiny")
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: i for i, token in enumerate(["<|endoftext|>", "<|pad|>", *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|endoftext|>", eos_token="<|endoftext|>", pad_token="<|pad|>"
    ).save_pretrained(path)
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(vocabulary), n_positions=64, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0,
        pad_token_id=1, initializer_range=0.3,
    )  # fmt: skip
    GPT2LMHeadModel(config).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def tiny_runs(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """An SFT run and a reward run, adapters of the tiny base; the reward model's head is random."""
    place = tmp_path_factory.mktemp("runs")
    import torch

    from heed.models.checkpoint import open_checkpoint, write_metadata
    from heed.models.policy import Policy, save_policy
    from heed.models.roles import trained_copy
    from heed.models.scalar_head import RewardModel, new_head, save_scalar
    from heed.models.trunk import Trunk
    from heed.settings.common import LoraSettings

    lora = LoraSettings(rank=4, alpha=8)
    torch.manual_seed(0)
    trunk = Trunk.load(open_checkpoint(str(tiny_directory)), torch.float32, torch.device("cpu"))
    trunk.add_adapter("sft", lora)
    save_policy(Policy(trunk, "sft"), place / "sft" / "checkpoint")
    about = {"base_hash": trunk.hash, "template": {"name": "plain", "hash": ""}}
    write_metadata(place / "sft" / "checkpoint", {**about, "kind": "policy"})
    body = trained_copy(Policy(trunk, "sft"), "reward", lora)
    for parameter in body.parameters().values():
        parameter.data += 0.05 * torch.randn(parameter.shape)
    head = new_head(trunk.width, torch.Generator().manual_seed(0)).requires_grad_(False)
    save_scalar(RewardModel(trunk, body.adapter, head), place / "reward" / "checkpoint")
    normalised = {"reward": {"gain": 0.5, "bias": 0.25}}
    write_metadata(place / "reward" / "checkpoint", {**about, **normalised, "kind": "reward"})
    return str(place / "sft"), str(place / "reward")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The distribution's Chromium, one for all tests: a process can hold one of Playwright's drivers."""
    from playwright.sync_api import sync_playwright

    path = os.environ.get("HEED_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if path is None:
        if os.environ.get("CI"):
            raise RuntimeError(NO_CHROMIUM)
        pytest.skip(NO_CHROMIUM)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        yield browser
        browser.close()
