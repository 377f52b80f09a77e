"""The checkpoint directory: a stock transformers or peft directory, plus `heed.json` with what those do not record.

A setting that names a model accepts a run directory (`runs/sft`), a checkpoint directory, any directory that
transformers opens, or a hub name.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from heed.errors import CheckpointError
from heed.models.files import check_files, read_json
from heed.models.hub import fetched

METADATA = "heed.json"
ADAPTER, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HEAD = "score.safetensors"  # a scalar head in heed's own layout
MARKS = (METADATA, ADAPTER)  # a hub repository that has one of them is fetched whole


@dataclass(frozen=True)
class Checkpoint:
    """Where a model's files are, and what heed knows about them.

    `base` is None for a full model; for an adapter it is the name or directory of the model that it changes.
    """

    name: str
    path: str
    base: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def is_adapter(self) -> bool:
        return self.base is not None

    @property
    def kind(self) -> str:
        """policy, reward or value; a model from elsewhere is a policy."""
        return str(self.metadata.get("kind", "policy"))

    @property
    def stage(self) -> str | None:
        """The stage that made it: pretrain, sft, reward, ppo; None for a model from elsewhere."""
        stage: str | None = self.metadata.get("stage")
        return stage

    @property
    def weights(self) -> str:
        """Name or directory of the frozen weights that it stands on: its base if it is an adapter, else itself."""
        return self.base or self.path

    @property
    def rankings(self) -> list[dict[str, Any]]:
        """The people's rankings that it came from, whether by its own training or that of the models before it."""
        found = self.metadata.get("rankings", [])
        return found if isinstance(found, list) else []

    @property
    def template(self) -> str | None:
        """Name of the template that the model was trained with; None for a model from elsewhere."""
        name: str | None = self.metadata.get("template", {}).get("name")
        return name


def open_checkpoint(name: str, kind: str | None = None) -> Checkpoint:
    """Find a model by run directory, directory or hub name; reads JSON only, no weights.

    An adapter that is on the hub is fetched whole. Raises `CheckpointError` where the directory lacks its files, or
    `kind` (policy, reward) is not what was found.
    """
    directory = Path(name).expanduser()
    if (directory / "checkpoint").is_dir():
        directory = directory / "checkpoint"
    if not directory.is_dir():
        if _is_path(name):
            raise CheckpointError(name, "no such directory", "give a run directory, a model directory or a hub name")
        if (found := fetched(name, MARKS)) is None:
            return Checkpoint(name, name)
        directory = found
    check_files(directory)
    metadata = _metadata(directory / METADATA)
    if (directory / ADAPTER).is_file():
        checkpoint = Checkpoint(name, str(directory), _base(name, directory), metadata)
    elif (directory / "config.json").is_file():
        checkpoint = Checkpoint(name, str(directory), None, metadata)
    else:
        raise CheckpointError(
            name, f"holds neither config.json nor {ADAPTER}", "the run may not have finished; train it again"
        )
    if kind is not None and metadata and checkpoint.kind != kind:
        raise CheckpointError(name, f"is a {checkpoint.kind} model, not a {kind} model", f"give a {kind} checkpoint")
    return checkpoint


def write_metadata(path: Path, metadata: dict[str, Any]) -> None:
    """Write `heed.json` into a checkpoint directory that is being saved."""
    metadata = {**metadata, "heed": importlib.metadata.version("heed")}
    (path / METADATA).write_text(json.dumps(metadata, indent=2, sort_keys=True) + "\n")


def weights_hash(model: PreTrainedModel) -> str:
    """A hash of the frozen weights, the same whether they are held in float32 or bfloat16; adapters do not count."""
    digest = hashlib.sha256()
    seen: set[int] = set()
    for name, parameter in sorted(model.named_parameters(), key=lambda item: item[0].replace(".base_layer", "")):
        if ".lora_" in name or parameter.data_ptr() in seen:
            continue
        seen.add(parameter.data_ptr())
        digest.update(name.replace(".base_layer", "").encode())
        rounded = parameter.detach().to("cpu", torch.bfloat16).contiguous()
        digest.update(rounded.view(torch.int16).numpy().tobytes())
    return digest.hexdigest()[:16]


def _is_path(name: str) -> bool:
    return name.startswith((".", "/", "~")) or name.count("/") > 1 or (Path(name).parent.is_dir() and "/" in name)


def _base(name: str, directory: Path) -> str:
    """The model that an adapter changes, which must be there."""
    base = read_json(directory / ADAPTER).get("base_model_name_or_path")
    if not base:
        hint = f"write the name or the directory of its base as base_model_name_or_path into {directory / ADAPTER}"
        raise CheckpointError(name, f"{ADAPTER} names no base model", hint)
    if not (directory / ADAPTER_WEIGHTS).is_file():
        raise CheckpointError(name, f"holds {ADAPTER} without {ADAPTER_WEIGHTS}", "copy or train the adapter again")
    if not Path(base).is_dir():
        if _is_path(base):
            hint = f"put it back, or write its new place into {directory / ADAPTER}"
            raise CheckpointError(name, f"its base model is not at {base} any more", hint)
        try:
            fetched(base, MARKS)
        except CheckpointError as error:
            hint = f"write where it is, from / on, into {directory / ADAPTER}; or be online, if it is on the hub"
            raise CheckpointError(name, f"its base model {base} {error.what}", hint) from None
    elif (Path(base) / ADAPTER).is_file():
        told = f"its base model {base} is an adapter itself"
        raise CheckpointError(
            name, told, "merge that adapter into its base (peft's merge_and_unload) and name the result"
        )
    else:
        check_files(Path(base))
    return str(base)


def _metadata(file: Path) -> dict[str, Any]:
    """What `heed.json` says, or nothing where there is none. Raises `CheckpointError` where a part of it is no part."""
    found = read_json(file) if file.is_file() else {}
    for name in ("template", "reward", "from"):
        if not isinstance(found.setdefault(name, {}), dict):
            raise CheckpointError(str(file), f"`{name}` is {found[name]!r}, not an object", "train the model again")
    for name in ("gain", "bias"):
        number = found["reward"].get(name, 0.0)
        if not isinstance(number, int | float) or not math.isfinite(number):
            raise CheckpointError(str(file), f"`reward.{name}` is {number!r}", "train the reward model again")
    return {name: value for name, value in found.items() if value != {}}
