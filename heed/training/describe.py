"""What a run was made with: versions, commit, machine. `run.json` and `heed env` say it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import secrets
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from heed.settings.common import DataSettings

TEXTS = "text"  # the setting that names text files, in whatever group it stands
PACKAGES = ("heed", "torch", "transformers", "peft", "datasets", "tokenizers", "safetensors", "numpy")
VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES", "HF_HUB_OFFLINE")
"""Environment that changes numbers or what can be reached."""


def describe_run(stage: str, settings: str, seed: int) -> dict[str, Any]:
    """The first content of `run.json`."""
    return {
        "id": secrets.token_hex(8),
        "stage": stage,
        "settings": settings,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": False,
        "versions": versions(),
        "commit": commit(),
        "host": host(),
    }


def data_hashes(settings: BaseModel) -> dict[str, dict[str, str]]:
    """Name and SHA-256 of every file of data that settings name, by setting; of several files, of all in their order.

    Hub data sets and directories have no hash here: their revision is the hub's, their files are many.
    """
    found: dict[str, dict[str, str]] = {}
    for name, value in settings:
        if isinstance(value, DataSettings):
            found |= _hashed(name, [value.path])
        elif isinstance(value, BaseModel):
            found |= {f"{name}.{inner}": told for inner, told in data_hashes(value).items()}
        elif name == TEXTS or name.endswith(f"_{TEXTS}"):
            found |= _hashed(name, value)
    return found


def _hashed(name: str, patterns: Sequence[str]) -> dict[str, dict[str, str]]:
    named = (Path(pattern).expanduser() for pattern in patterns if pattern)
    files = [file for path in named for file in sorted(path.parent.glob(path.name)) if file.is_file()]
    if not files:
        return {}
    hashed = hashlib.sha256()
    for file in files:
        with file.open("rb") as content:
            while block := content.read(1 << 20):
                hashed.update(block)
    return {name: {"name": ", ".join(file.name for file in files), "sha256": hashed.hexdigest()}}


def versions() -> dict[str, str | None]:
    """Versions of Python and of the packages that a run's numbers come from."""
    return {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}}


def host() -> dict[str, Any]:
    """What a measurement depends on and a seed does not: system, processor, threads, accelerator."""
    capabilities = torch.cpu.get_capabilities()
    found: dict[str, Any] = {
        "system": platform.system(),
        "processor": _processor(),
        "instructions": str(torch.backends.cpu.get_cpu_capability()),
        "bfloat16": bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16")),
        "threads": torch.get_num_threads(),
    }
    found |= {name: os.environ[name] for name in VARIABLES if name in os.environ}
    here = torch.accelerator.current_accelerator(check_available=True)
    if here is not None:
        found["accelerator"] = torch.cuda.get_device_name() if here.type == "cuda" else here.type
        found["accelerators"] = torch.accelerator.device_count()
    return found


def commit() -> str | None:
    """Commit of heed's own source, with `-dirty` where it was changed since; None for an installed wheel."""
    source = Path(__file__).parents[2]
    if not (source / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # heed run from a source tree
        return None


def _processor() -> str:
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else str(torch.cpu.get_capabilities().get("architecture", "unknown"))
