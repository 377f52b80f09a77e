"""Whose is this directory? A new run's, a stopped run's that goes on, an old run's that is replaced, or somebody's."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from heed import config
from heed.errors import CheckpointError, ConfigError
from heed.settings.common import StageSettings
from heed.training.lock import NAME as LOCK
from heed.training.lock import Lock

WORTH = ("checkpoint", "checkpoint.replaced", "state", "metrics.jsonl", "samples.jsonl", "candidates.jsonl")
"""What a run leaves that somebody may want to keep."""

BEGINNINGS = {LOCK, "config.yaml", "config.yaml.partial", "run.json.partial"}
"""What a run leaves that was killed before it had said in `run.json` that it is one."""

log = logging.getLogger("heed")


def claimed(path: Path, settings: StageSettings) -> Lock:
    """The lock of a directory that may be written now.

    Raises ConfigError, before anything is touched, where it may not.
    """
    _refuse_strangers(path)
    _refuse_inputs_inside(path, settings)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = Lock(path)
    except OSError as error:
        raise ConfigError("output", f"cannot write {path}: {error.strerror}", "choose another directory") from None
    try:
        if settings.resume:
            _require_the_same_run(path, settings)
        elif holds_a_run(path):
            if not settings.overwrite:
                raise _occupied(path)
            lock.moved(_moved_aside(path))
            lock.release()
            path.mkdir()
            lock = Lock(path)
    except ConfigError:
        lock.release()
        raise
    return lock


def tidied(path: Path) -> bool:
    """Whether the run in a directory is finished. What it had no time to remove after its last word is removed then.

    Raises ConfigError while another process is writing there.
    """
    if described(path).get("finished") is not True:
        return False
    lock = Lock(path)
    remove_leftovers(path)
    lock.release()
    return True


def remove_leftovers(path: Path) -> None:
    """Remove what a finished run does not need any more: its states, and what `overwrite` had moved aside."""
    for name in ("state", "checkpoint.partial", "checkpoint.replaced"):
        shutil.rmtree(path / name, ignore_errors=True)
    remove_replaced(path)


def remove_replaced(path: Path) -> None:
    """Remove what `overwrite` had moved aside."""
    for old in _replaced(path):
        shutil.rmtree(old, ignore_errors=True)


def holds_a_run(path: Path) -> bool:
    """Whether a directory has something of a run that nobody should lose without having said so."""
    return described(path).get("finished") is True or any((path / name).exists() for name in WORTH)


def described(path: Path) -> dict[str, Any]:
    """`run.json`; empty where there is none, or where it cannot be read."""
    try:
        return dict(json.loads((path / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _refuse_strangers(path: Path) -> None:
    if path.exists() and not path.is_dir():
        raise ConfigError("output", f"{path} is a file", "choose a directory")
    there = {file.name for file in path.iterdir()} - BEGINNINGS if path.is_dir() else set()
    if there and "run.json" not in there:
        raise ConfigError("output", f"{path} holds files that are not a run's", "choose a new directory")


def _refuse_inputs_inside(path: Path, settings: StageSettings) -> None:
    """A run that reads from the directory that it writes would lose its input."""
    inside = path.resolve()
    for name, value in _texts(settings.model_dump()):
        if name != "output" and value and Path(value).expanduser().exists():
            place = Path(value).expanduser().resolve()
            if place == inside or inside in place.parents:
                raise ConfigError(name, f"{value} lies in the output, {path}", "write to another directory")


def _require_the_same_run(path: Path, settings: StageSettings) -> None:
    before = described(path)
    if not before:
        raise ConfigError("resume", f"{path} holds no run", "leave --resume out to begin one")
    if before.get("finished"):
        raise ConfigError("resume", f"the run in {path} is finished", "there is nothing left to do")
    if before.get("settings") != type(settings).__name__:
        told = f"{path} is a run of {before.get('stage', before.get('settings'))}, not of {settings.stage_name()}"
        raise ConfigError("resume", told, f"write heed resume {path}")
    old = config.load(type(settings), [str(path / "config.yaml")])
    changed = sorted(_different(old.model_dump(), settings.model_dump(), settings.MAY_CHANGE))
    if changed:
        may = ", ".join(sorted(settings.MAY_CHANGE))
        told = f"changed since the run began: {', '.join(changed)}"
        raise ConfigError("resume", told, f"leave it as it was (heed resume {path}); these may change: {may}")


def require_this_run(path: Path, state: Path, run: str | None, rows: Mapping[str, int]) -> None:
    """Raises CheckpointError for a state of another run, and where rows of its time are gone."""
    if run != described(path).get("id"):
        raise CheckpointError(str(state), "is another run's state", f"remove it, then heed resume {path}")
    for name, before in rows.items():
        there = (path / name).stat().st_size if (path / name).exists() else 0
        if there < before:
            told = f"has {there:,} bytes, but had {before:,} when {state.name} was saved"
            raise CheckpointError(str(path / name), told, "put the whole file back, or begin anew with --overwrite")


def _different(old: Mapping[str, Any], new: Mapping[str, Any], may: frozenset[str], prefix: str = "") -> Iterator[str]:
    """Names of the settings that differ and may not, groups by what is in them."""
    for name in old.keys() | new.keys():
        whole = f"{prefix}{name}"
        if whole in may or old.get(name) == new.get(name):
            continue
        if isinstance(old.get(name), Mapping) and isinstance(new.get(name), Mapping):
            yield from _different(old[name], new[name], may, f"{whole}.")
        else:
            yield whole


def _occupied(path: Path) -> ConfigError:
    if described(path).get("finished"):
        return ConfigError("output", f"{path} holds a finished run", "add --overwrite to replace it, or choose another")
    hint = f"go on with it: heed resume {path}; or add --overwrite to begin anew, or choose another directory"
    return ConfigError("output", f"{path} holds a run that was stopped", hint)


def _moved_aside(path: Path) -> Path:
    number = 1 + max((int(old.suffix.removeprefix(".replaced-")) for old in _replaced(path)), default=0)
    return path.rename(path.with_name(f"{path.name}.replaced-{number}"))


def _replaced(path: Path) -> list[Path]:
    found = path.parent.glob(f"{path.name}.replaced-*")
    return [old for old in found if old.suffix.removeprefix(".replaced-").isdigit()]


def _texts(values: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Every text among settings, with its dotted name."""
    if isinstance(values, str):
        yield prefix, values
    elif isinstance(values, Mapping):
        for name, value in values.items():
            yield from _texts(value, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(values, list | tuple):
        for value in values:
            yield from _texts(value, prefix)
