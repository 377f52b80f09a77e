"""What every test stands on: no network, one thread a process, shapes and types of the formulas checked at run time."""

from __future__ import annotations

import importlib.util
import os

# Before torch and the hub library are imported.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")

if importlib.util.find_spec("beartype"):
    from jaxtyping import install_import_hook

    install_import_hook("heed.formulas", "beartype.beartype")

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("heed", deadline=None, max_examples=50, derandomize=True, database=None)
settings.load_profile("heed")

ROOT = Path(__file__).parents[1]


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
