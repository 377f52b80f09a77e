"""What PPO leaves: the policy, the averaged policy and the value model, and which policy is `checkpoint/`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from heed.models.artefact import Artefact, save_parts
from heed.models.roles import Roles
from heed.rl.held_out import headline
from heed.rl.policy_update import PolicyUpdate
from heed.training.run_dir import RunDir

log = logging.getLogger("heed")


def save_policies(
    artefact: Artefact, roles: Roles, update: PolicyUpdate, averaged: Mapping[str, Any] | None, path: Path
) -> None:
    """The policy as the checkpoint itself, the averaged policy in `ema/`, the value model in `value/`.

    `averaged` is the report of the averaged policy, where it was measured. Raises where the policy itself could not be
    saved; what else could not be is told.
    """
    parts = {path: partial(artefact.save, roles.policy)}
    if update.average:
        figures = headline(dict(averaged)) if averaged else {}
        one = replace(artefact, title=f"{artefact.title}, averaged weights", figures=figures)
        parts[path / "ema"] = partial(update.save_average, one)
    about = "The value model of a PPO run: the score that a response is expected to get, before each of its tokens."
    parts[path / "value"] = partial(artefact.of_value(about, roles.value.trunk).save, roles.value)
    for failure in save_parts(parts):  # the policy alone is what the run is for
        if failure.where == str(path):
            raise failure
        log.warning("%s", failure)


def keep(run_dir: RunDir, report: Mapping[str, Any], keeps_last: bool, save: Callable[[Path], object]) -> None:
    """Put the last policy, or the best one, into `checkpoint/`, and the other beside it. `save` writes the last."""
    best, last = report["best_step"], report["last_step"]
    if best == last:
        run_dir.save_checkpoint(save)
        run_dir.remove_directory("best")
    elif keeps_last:
        run_dir.save_checkpoint(save)
    else:
        run_dir.save_directory("last", save)
        run_dir.keep_as_checkpoint("best")
    if best != last:
        told = "step %d is the best on held-out prompts, the last one is %d; checkpoint/ is the %s"
        log.warning(told, best, last, "last" if keeps_last else "best")
