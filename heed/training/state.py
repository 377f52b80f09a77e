"""What a stopped run needs to go on: the state of its named parts, on disk.

    RUN/state/step-00000120/
      manifest.json         the step, SHA-256 and size of every file, how long each file of rows was
      policy.safetensors    tensors of a part
      policy.json           everything else of it, with the tensors' names in their places

safetensors and JSON only: nothing that is loaded can execute code. A state appears by renaming, after every byte of it
has reached the disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from heed.errors import CheckpointError
from heed.training.files import sync

MANIFEST = "manifest.json"
LAYOUT = 2
WRONG = (TypeError, ValueError, KeyError, IndexError, AttributeError, RuntimeError, AssertionError)
"""What values of another shape raise where they are put in their places."""
_TENSOR, _TUPLE, _PAIRS = "$tensor", "$tuple", "$pairs"


class Part(Protocol):
    """Anything with a state: weights, optimisers, averages, orders, generators, the doctor, running figures."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any], /) -> object: ...


@dataclass(frozen=True)
class Saved:
    """A state on disk that was found whole: every file has the size and the hash that its manifest names."""

    path: Path
    step: int
    rows: dict[str, int]  # file of rows → its length in bytes when the state was saved
    about: dict[str, Any]

    def load(self, parts: Mapping[str, Part]) -> None:
        """Give every part its state. Raises CheckpointError where the state is of other parts."""
        there = {file.stem for file in self.path.glob("*.json")} - {Path(MANIFEST).stem}
        if there != set(parts):
            told = f"holds the state of {', '.join(sorted(there))}, not of {', '.join(sorted(parts))}"
            raise CheckpointError(str(self.path), told, "go on with the recipe and the version that began the run")
        for name, part in parts.items():
            state = _read_part(self.path, name)
            try:
                part.load_state_dict(state)
            except WRONG as error:
                told = f"{name} does not fit this run: {next(iter(str(error).splitlines()), type(error).__name__)}"
                hint = "go on with the recipe and the version that began the run"
                raise CheckpointError(str(self.path), told, hint) from error


def save_state(directory: Path, step: int, parts: Mapping[str, Part], rows: Mapping[str, int], **about: Any) -> Path:
    """Write a state into `directory` as `step-…`; returns its path. Nothing is there until all of it is."""
    path, partial = directory / f"step-{step:08d}", directory / f"step-{step:08d}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, part in parts.items():
        _write_part(partial, name, part.state_dict())
    files = {file.name: _fingerprint(file) for file in sorted(partial.iterdir())}
    manifest = {"layout": LAYOUT, "step": step, "rows": dict(rows), **about, "files": files}
    manifest["sha256"] = _digest(manifest)
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    for file in partial.iterdir():
        sync(file)
    shutil.rmtree(path, ignore_errors=True)
    os.replace(partial, path)
    sync(directory)
    return path


def find_state(directory: Path) -> Saved | None:
    """The last state in a directory of states; None where there is none.

    Raises CheckpointError where the last one is damaged, and names the last one that is whole.
    """
    states = sorted((path for path in directory.glob("step-*") if path.suffix != ".partial"), reverse=True)
    if not states:
        return None
    try:
        return read_manifest(states[0])
    except CheckpointError as error:
        whole = next((path for path in states[1:] if _is_whole(path)), None)
        if whole is None:
            hint = "no other state is whole: start the run anew with --overwrite"
        else:
            hint = f"remove {states[0]}, then {whole.name} is gone on from"
        raise CheckpointError(error.where, error.what, hint) from None


def read_manifest(path: Path) -> Saved:
    """A state, checked to the last byte. Raises CheckpointError where it is not what was written."""
    file = path / MANIFEST
    try:
        manifest = json.loads(file.read_text(encoding="utf-8"))
        files, step, rows = dict(manifest["files"]), int(manifest["step"]), dict(manifest["rows"])
    except (OSError, RecursionError, OverflowError, *WRONG):
        raise CheckpointError(str(path), f"{MANIFEST} is missing or damaged", "use an earlier state") from None
    if manifest.get("layout") != LAYOUT:
        told = f"was written in layout {manifest.get('layout')}, this heed reads {LAYOUT}"
        raise CheckpointError(str(path), told, "go on with the version of heed that began the run")
    if manifest.get("sha256") != _digest(manifest) or path.name != f"step-{step:08d}":
        raise CheckpointError(str(file), "is damaged, or another step's", "use an earlier state")
    for name, expected in files.items():
        if Path(name).name != name or not (path / name).is_file() or _fingerprint(path / name) != expected:
            raise CheckpointError(str(path / name), "is damaged or missing", "use an earlier state")
    return Saved(path, step, rows, manifest)


def keep_last(directory: Path, count: int) -> None:
    """Remove all states but the last `count`, and what interrupted ones left behind."""
    for partial in directory.glob("*.partial"):
        shutil.rmtree(partial, ignore_errors=True)
    for path in sorted(directory.glob("step-*"))[:-count]:
        shutil.rmtree(path, ignore_errors=True)


def _is_whole(path: Path) -> bool:
    try:
        read_manifest(path)
    except CheckpointError:
        return False
    return True


def _digest(manifest: Mapping[str, Any]) -> str:
    """SHA-256 of a manifest without its own."""
    rest = {name: value for name, value in manifest.items() if name != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def _fingerprint(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        return {"sha256": hashlib.file_digest(content, "sha256").hexdigest(), "bytes": file.stat().st_size}


def _write_part(directory: Path, name: str, state: dict[str, Any]) -> None:
    tensors: dict[str, Tensor] = {}
    text = json.dumps(_encoded(state, tensors), allow_nan=True)
    (directory / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    if tensors:
        save_file(tensors, directory / f"{name}.safetensors")


def _read_part(directory: Path, name: str) -> dict[str, Any]:
    file = directory / f"{name}.safetensors"
    try:
        tensors = load_file(file) if file.is_file() else {}
        found: dict[str, Any] = _decoded(json.loads((directory / f"{name}.json").read_text(encoding="utf-8")), tensors)
    except (SafetensorError, OSError, RecursionError, *WRONG):
        raise CheckpointError(str(file), "cannot be read", "use an earlier state") from None
    return found


def _encoded(value: Any, tensors: dict[str, Tensor]) -> Any:
    """`value` as JSON can hold it; tensors go into `tensors`, and a mark takes their place."""
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()  # a tied or sliced tensor shares its memory
        return {_TENSOR: name}
    if isinstance(value, dict):
        if all(isinstance(key, str) and not key.startswith("$") for key in value):
            return {key: _encoded(item, tensors) for key, item in value.items()}
        return {_PAIRS: [[_encoded(key, tensors), _encoded(item, tensors)] for key, item in value.items()]}
    if isinstance(value, tuple):
        return {_TUPLE: [_encoded(item, tensors) for item in value]}
    if isinstance(value, list):
        return [_encoded(item, tensors) for item in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise TypeError(f"a state cannot hold {type(value).__name__}")


def _decoded(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_decoded(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    if _TENSOR in value:
        return tensors[value[_TENSOR]]
    if _TUPLE in value:
        return tuple(_decoded(value[_TUPLE], tensors))
    if _PAIRS in value:
        return {_decoded(key, tensors): _decoded(item, tensors) for key, item in value[_PAIRS]}
    return {key: _decoded(item, tensors) for key, item in value.items()}


class Weights:
    """Parameters by name, as a part."""

    def __init__(self, parameters: Mapping[str, Tensor]) -> None:
        self.parameters = dict(parameters)

    def state_dict(self) -> dict[str, Tensor]:
        """The tensors themselves."""
        return dict(self.parameters)

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Write into the parameters, which stay the same objects."""
        if state.keys() != self.parameters.keys():
            other = min(state.keys() ^ self.parameters.keys())
            raise CheckpointError("state", f"{other} is in one of saved and present weights only", "use the same model")
        for name, parameter in self.parameters.items():
            parameter.copy_(state[name])


class Same:
    """Hashes of what a run reads and does not train, as a part: they must be the same when it goes on."""

    def __init__(self, **hashes: Any) -> None:
        self.hashes = hashes

    def state_dict(self) -> dict[str, Any]:
        """The hashes."""
        return dict(self.hashes)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Raises CheckpointError where something has changed since the state was saved."""
        for name in self.hashes.keys() | state.keys():
            if self.hashes.get(name) != state.get(name):
                hint = "put back what it began with, or begin anew with --overwrite"
                raise CheckpointError(name, "is not what the run began with", hint)


class Memory:
    """Running figures of a stage, as a part: what a loop carries from step to step and is no weight."""

    def __init__(self, **values: Any) -> None:
        self.values = values

    def __getitem__(self, name: str) -> Any:
        return self.values[name]

    def __setitem__(self, name: str, value: Any) -> None:
        assert name in self.values, name
        self.values[name] = value

    def state_dict(self) -> dict[str, Any]:
        """The figures."""
        return dict(self.values)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The figures as they were."""
        self.values = dict(state)
