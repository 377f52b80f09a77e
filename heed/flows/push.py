"""`heed push`: a checkpoint to a repository on the hub, with its card."""

from __future__ import annotations

import logging
from pathlib import Path

from heed.errors import CheckpointError, ConfigError
from heed.models.checkpoint import open_checkpoint
from heed.models.hub import upload
from heed.settings.export import PushSettings

LEFT = ("value/*", "ema/*", "*.partial")  # models of their own inside a checkpoint: export the averaged one, push it

log = logging.getLogger("heed")


def run(settings: PushSettings) -> None:
    """Upload the directory; says where it is then."""
    if not settings.model:
        raise ConfigError("model", "no checkpoint is named", "give a run: heed push runs/ppo --to owner/name")
    if not settings.to:
        raise ConfigError("to", "no repository is named", "say where to: --to owner/name")
    checkpoint = open_checkpoint(settings.model)
    path = Path(checkpoint.path)
    if not path.is_dir():
        raise CheckpointError(settings.model, "is on the hub already", "give a run or an exported directory")
    if checkpoint.base and Path(checkpoint.base).is_dir():
        told = f"is an adapter of {checkpoint.base}, a directory of this machine: nobody else could load it"
        hint = f"heed export {settings.model} --merge true --output exported, then push that"
        raise CheckpointError(settings.model, told, hint)
    log.info("wrote  %s", upload(path, settings.to, settings.private, LEFT))
