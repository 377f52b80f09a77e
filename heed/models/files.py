"""Files of a checkpoint as they are on disk: is each whole, before anything is loaded from it?"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from heed.errors import CheckpointError

AGAIN = "copy the file again, or train the model again"


def check_files(directory: Path) -> None:
    """Raise `CheckpointError`, naming the file, where a JSON or safetensors file of a directory is damaged."""
    for file in sorted(directory.glob("*.json")):
        _whole_json(file, *_stamp(file))
    for file in sorted(directory.glob("*.safetensors")):
        _whole_tensors(file, *_stamp(file))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises `CheckpointError` where the file holds anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise CheckpointError(f"{path}:{error.lineno}", f"not valid JSON: {error.msg}", AGAIN) from None
    except (UnicodeDecodeError, OSError) as error:
        raise CheckpointError(str(path), f"cannot be read: {_first_line(error)}", AGAIN) from None
    if not isinstance(content, dict):
        raise CheckpointError(str(path), f"holds a {type(content).__name__}, not an object", AGAIN)
    return content


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, on the processor. Raises `CheckpointError` where it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(str(path), f"is damaged: {_first_line(error)}", AGAIN) from None


def shapes_of(path: Path) -> dict[str, list[int]]:
    """The tensors of a safetensors file by name, without reading them."""
    header = _header(path)
    return {name: told["shape"] for name, told in header.items() if name != "__metadata__"}


def find_tensors(directory: Path, wanted: frozenset[str]) -> Iterator[tuple[str, Tensor]]:
    """Tensors by name from whatever weights a directory holds: one file, shards, or `pytorch_model*.bin`."""
    for file in sorted(directory.glob("*.safetensors")):
        for name in wanted.intersection(shapes_of(file)):
            with safe_open(file, framework="pt") as tensors:
                yield name, tensors.get_tensor(name)
    for file in sorted(directory.glob("pytorch_model*.bin")):
        state = torch.load(file, map_location="cpu", weights_only=True)
        yield from ((name, state[name]) for name in wanted.intersection(state))


def _stamp(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_size, found.st_mtime_ns


@cache
def _whole_json(file: Path, size: int, changed: int) -> None:
    read_json(file)


@cache
def _whole_tensors(file: Path, size: int, changed: int) -> None:
    header = _header(file)
    ends = [told["data_offsets"][1] for name, told in header.items() if name != "__metadata__"]
    with file.open("rb") as opened:
        expected = 8 + int.from_bytes(opened.read(8), "little") + max(ends, default=0)
    if size != expected:
        raise CheckpointError(str(file), f"is damaged: {size:,} bytes, its header tells of {expected:,}", AGAIN)


def _header(file: Path) -> dict[str, Any]:
    """What a safetensors file says of its tensors: 8 bytes of length, then so many of JSON."""
    size = file.stat().st_size
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        text = opened.read(length) if length <= size else b""
    try:
        header: dict[str, Any] = json.loads(text)
        for name, told in header.items():
            if name != "__metadata__":
                math.prod(told["shape"]), told["data_offsets"][1]
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        raise CheckpointError(str(file), "is damaged: its header cannot be read", AGAIN) from None
    return header


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)
