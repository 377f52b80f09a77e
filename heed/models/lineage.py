"""Where a model came from, as far as its files tell, and what is odd about it: a line each, told as a run begins."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from heed.models.checkpoint import ADAPTER, Checkpoint

EDGE = 1 << 20
"""Bytes at either end of a file of weights that its fingerprint is taken of: a file of gigabytes is not read whole."""


def fingerprint(checkpoint: Checkpoint) -> str | None:
    """Sixteen hexadecimal digits of a checkpoint's own weights; None for a model by hub name."""
    directory = Path(checkpoint.path)
    if not directory.is_dir():
        return None
    digest = hashlib.sha256()
    weights = sorted([*directory.glob("*.safetensors"), *directory.glob("pytorch_model*.bin")])
    for file in [directory / ADAPTER, *weights]:
        if file.is_file():
            digest.update(f"{file.name}\n{file.stat().st_size}\n".encode())
            with file.open("rb") as opened:
                digest.update(opened.read(EDGE))
                opened.seek(max(0, file.stat().st_size - EDGE))
                digest.update(opened.read(EDGE))
    return digest.hexdigest()[:16]


def parent(checkpoint: Checkpoint) -> dict[str, Any]:
    """What `heed.json` says under `from` of the checkpoint that a model was trained from."""
    return {"name": Path(checkpoint.name).name, "stage": checkpoint.stage, "fingerprint": fingerprint(checkpoint)}


def judged_by(reward: Checkpoint) -> dict[str, Any]:
    """What `heed.json` says of the reward model that a policy was trained against, and of the rankings behind it."""
    return {"reward_model": parent(reward), "rankings": reward.rankings}


def merged(*found: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sources of rankings, each once: those with the same content are the same, whatever the file was called."""
    together = {source.get("sha256", source.get("name")): dict(source) for some in found for source in some}
    return list(together.values())


def in_words(data: Mapping[str, Any]) -> str:
    """`rankings.jsonl, 1,200 rows by 5 labelers, sha256 0123…`."""
    count = data.get("labelers")
    people = f" by {count} labeler{'s' * (count != 1)}" if count else ""
    people += f" ({', '.join(data['labeled_by'])})" if data.get("labeled_by") else ""
    digest = f", sha256 {data['sha256'][:16]}" if "sha256" in data else ""
    return f"{data['name']}, {data['rows']:,} rows{people}{digest}"


def lineage(sft: Checkpoint, reward: Checkpoint | None = None) -> list[str]:
    """What a person should know of the models that a run begins with. `sft` is used as the SFT model."""
    told = [_template(checkpoint) for checkpoint in filter(None, (sft, reward))]
    if sft.stage == "pretrain" or not sft.metadata:
        told.insert(0, f"{sft.name} is a base model, as far as its files tell, and is used as the SFT model")
    if reward is not None:
        told.append(_other_start(sft, reward))
    return [line for line in told if line]


def _template(checkpoint: Checkpoint) -> str | None:
    if checkpoint.template is not None:
        return None
    missing = "its heed.json names no template" if checkpoint.metadata else "it has no heed.json"
    return f"{checkpoint.name}: {missing}, so template dialogue is assumed"


def _other_start(sft: Checkpoint, reward: Checkpoint) -> str | None:
    """Whether a reward model was trained from this SFT model, where its files tell."""
    start = reward.metadata.get("from", {})
    own = fingerprint(sft)
    if None not in (start.get("fingerprint"), own) and start["fingerprint"] != own:
        return f"{reward.name} was trained from another SFT model ({start.get('name')}), not from {sft.name}"
    other = reward.metadata.get("base_hash"), sft.metadata.get("base_hash")
    if not start and sft.is_adapter and reward.is_adapter and None not in other and other[0] != other[1]:
        return f"{reward.name} stands on another base model than {sft.name}"
    return None
