"""`heed export CHECKPOINT --merge`: one directory that transformers, vLLM, OpenRLHF and TRL load."""

from __future__ import annotations

import logging
import shutil
from functools import partial
from pathlib import Path

import torch

from heed.errors import CheckpointError, ConfigError
from heed.models.card import recast
from heed.models.checkpoint import Checkpoint, open_checkpoint, write_metadata
from heed.models.lineage import parent
from heed.models.load import load_config
from heed.models.merge import merged_policy, merged_reward, save_merged
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.models.usage import Usage
from heed.settings.export import ExportSettings

CPU = torch.device("cpu")
KEPT = ("chat_template.jinja", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "README.md")
OTHER = ("ema", "value")  # models of their own inside a checkpoint

log = logging.getLogger("heed")


def run(settings: ExportSettings) -> None:
    """Write the directory, and say how it is served."""
    if not settings.model:
        raise ConfigError("model", "no checkpoint is named", "give a run: heed export runs/ppo --output exported")
    output = Path(settings.output).expanduser()
    if not settings.output:
        raise ConfigError("output", "no directory is named", "say where to write: --output exported")
    if output.exists():
        raise ConfigError("output", f"{output} is there already", "choose a new directory, or remove that one")
    checkpoint = open_checkpoint(settings.model)
    if checkpoint.kind not in ("policy", "reward"):
        told = f"is a {checkpoint.kind} model, which nothing serves"
        raise CheckpointError(settings.model, told, "give a policy or a reward model")
    partial_place = output.with_name(output.name + ".partial")
    shutil.rmtree(partial_place, ignore_errors=True)
    try:
        (partial(merged, dtype=settings.dtype) if settings.merge else copied)(checkpoint, partial_place)
        partial_place.rename(output)
    finally:
        shutil.rmtree(partial_place, ignore_errors=True)
    log.info("wrote  %s", output)
    if checkpoint.kind == "policy" and settings.merge:
        log.info("next   transformers serve %s        (or: vllm serve %s)", output, output)
    log.info("next   heed push %s --to OWNER/NAME", output)


def copied(checkpoint: Checkpoint, path: Path) -> None:
    """The checkpoint's own files: of an adapter the adapter, which needs its base."""
    shutil.copytree(_here(checkpoint), path, ignore=shutil.ignore_patterns(*OTHER))


def merged(checkpoint: Checkpoint, path: Path, dtype: str) -> None:
    """Weights that need nothing else, with the tokenizer, templates and card of the checkpoint."""
    source = _here(checkpoint)
    shelf = Shelf(lambda _: torch.float32, CPU)
    about = {name: value for name, value in checkpoint.metadata.items() if name not in ("base", "base_hash")}
    about |= {"kind": checkpoint.kind, "from": parent(checkpoint)}
    if checkpoint.kind == "policy":
        model: Policy = merged_policy(shelf.policy(checkpoint, "exported"), wanted(dtype, checkpoint))
        save_merged(model, path)
        usage = _usage(checkpoint, source, 0.0)
    else:
        reward, left = merged_reward(shelf.reward_model(checkpoint, "exported"))
        save_merged(reward, path)
        about["reward"] = {**about.get("reward", {}), "gain": 1.0, "bias": left}
        if left:
            told = "no layer of %s can hold the bias: scores of other libraries are lower by %.6g, heed's are not"
            log.warning(told, checkpoint.name, left)
        usage = _usage(checkpoint, source, left)
    write_metadata(path, about)
    for name in KEPT:
        if (source / name).is_file():
            shutil.copyfile(source / name, path / name)
    recast(path, usage)


def wanted(dtype: str, checkpoint: Checkpoint) -> torch.dtype:
    """The dtype to write; of `auto` the one that the base's config names."""
    named = load_config(checkpoint.weights).dtype if dtype == "auto" else dtype
    found = getattr(torch, str(named).removeprefix("torch."), None)
    return found if isinstance(found, torch.dtype) else torch.float32


def _here(checkpoint: Checkpoint) -> Path:
    path = Path(checkpoint.path)
    if not path.is_dir():
        told = "is a model of the hub as it is"
        raise CheckpointError(checkpoint.name, told, "load it by its name: there is nothing to export")
    return path


def _usage(checkpoint: Checkpoint, source: Path, bias: float) -> Usage:
    chat = (source / "chat_template.jinja").is_file()
    space = checkpoint.template in ("dialogue", "alpaca")
    return Usage(checkpoint.kind, False, True, chat, space, 1.0, bias)
