"""The directory that a run writes: `config.yaml`, `run.json`, rows (`metrics.jsonl` and others), `checkpoint/`.

Nothing in it is ever half-written: rows are appended whole, files and the checkpoint appear by renaming.
"""

from __future__ import annotations

import errno
import importlib.metadata
import json
import logging
import math
import os
import platform
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from heed import config
from heed.errors import ConfigError, HeedError, RunError
from heed.settings.common import StageSettings
from heed.training.device import host

CHECKPOINT = "checkpoint"
ROWS = ("metrics.jsonl", "timings.jsonl", "samples.jsonl", "findings.jsonl")
RESULTS = ("report.json", "report.html", "candidates.jsonl")
PACKAGES = ("heed", "torch", "transformers", "peft")

log = logging.getLogger("heed")


class RunDir:
    """One run's directory, used as a context manager around the stage's loop.

    A run that stops early keeps its rows and leaves no checkpoint of its own.
    """

    def __init__(self, path: Path, description: dict[str, Any], is_new: bool = False) -> None:
        self.path = path
        self.is_new = is_new
        self.checkpoint = path / CHECKPOINT
        self.step = 0
        self._description = description
        self._started = time.perf_counter()
        self._files: dict[str, TextIO] = {}

    @classmethod
    def create(cls, settings: StageSettings) -> Self:
        """Claim `settings.output` and write `config.yaml` and `run.json` there.

        Raises ConfigError, before anything is touched, where the directory holds a finished run (unless
        `settings.overwrite`) or something that is not a run. Of an old run the rows and results go now; its
        checkpoint goes when this run's is saved.
        """
        path = Path(settings.output).expanduser()
        is_new = not path.exists()
        _refuse_what_is_there(path, settings.overwrite)
        try:
            path.mkdir(parents=True, exist_ok=True)
            _restore_interrupted_swap(path)
            for name in (*ROWS, *RESULTS):
                (path / name).unlink(missing_ok=True)
            _write_text(path / "config.yaml", config.dump(settings))
        except OSError as error:
            raise ConfigError("output", f"cannot write {path}: {error.strerror}", "choose another directory") from None
        run = cls(path, _describe(settings), is_new)
        run.write_json("run.json", run._description)
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for file in self._files.values():
            file.close()
        self._files = {}
        if error is None:
            return
        shutil.rmtree(self._partial, ignore_errors=True)
        if isinstance(error, HeedError) and not isinstance(error, RunError) and self.is_new and not self.step:
            shutil.rmtree(self.path)  # a mistake that showed when the models were read: nothing has been done yet
        if isinstance(error, RunError):
            error.where = f"{self.path}: step {self.step + 1}"
            error.hint += f"; {self._last_checkpoint()}"
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise RunError(str(self.path), "no space left on the disk", "make room and run it again") from None

    def record(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Append one row to `metrics.jsonl`. No times here: with one seed the file is the same twice."""
        self.step = step
        self._append("metrics.jsonl", {"step": step, **metrics})

    def time(self, step: int, timings: Mapping[str, float]) -> None:
        """Append one row to `timings.jsonl`: seconds, rates and memory, which differ from run to run."""
        self._append("timings.jsonl", {"step": step, **timings})

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append texts that the model wrote at `step` to `samples.jsonl`, a row each."""
        for row in rows:
            self._append("samples.jsonl", {"step": step, **row})

    def save_checkpoint(self, write: Callable[[Path], object]) -> Path:
        """Let `write(directory)` fill a new directory, then put it in place of `checkpoint/`; returns its path."""
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir()
        write(self._partial)
        if self.checkpoint.exists():
            self.checkpoint.rename(self._replaced)
        self._partial.rename(self.checkpoint)
        shutil.rmtree(self._replaced, ignore_errors=True)
        return self.checkpoint

    def write_json(self, name: str, value: object) -> Path:
        """Write a whole JSON file of the run at once; NaN and infinities become null."""
        return write_json(self.path / name, value)

    def finished(self, next_command: str = "") -> None:
        """Mark the run as finished and say where its results are and what to run next."""
        self._description |= {"finished": True, "seconds": round(time.perf_counter() - self._started, 1)}
        self.write_json("run.json", self._description)
        for name in (CHECKPOINT, *RESULTS):
            if (self.path / name).exists():
                log.info("wrote  %s", self.path / name)
        if next_command:
            log.info("next   %s", next_command)

    @property
    def _partial(self) -> Path:
        return self.path / f"{CHECKPOINT}.partial"

    @property
    def _replaced(self) -> Path:
        return self.path / f"{CHECKPOINT}.replaced"

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        if name not in self._files:
            self._files[name] = (self.path / name).open("a", encoding="utf-8")
        file = self._files[name]
        file.write(json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) + "\n")
        file.flush()

    def _last_checkpoint(self) -> str:
        return (
            f"the last good checkpoint is {self.checkpoint}" if self.checkpoint.exists() else "no checkpoint was saved"
        )


def write_json(path: Path, value: object) -> Path:
    """Write a whole JSON file at once; NaN and infinities become null."""
    _write_text(path, json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
    return path


def _refuse_what_is_there(path: Path, overwrite: bool) -> None:
    if path.exists() and not path.is_dir():
        raise ConfigError("output", f"{path} is a file", "choose a directory")
    if not path.exists() or not any(path.iterdir()):
        return
    if not (path / "run.json").exists():
        raise ConfigError("output", f"{path} holds files that are not a run's", "choose a new directory")
    if not overwrite and ((path / CHECKPOINT).exists() or _is_finished(path)):
        raise ConfigError("output", f"{path} holds a finished run", "add --overwrite to replace it, or choose another")


def _is_finished(path: Path) -> bool:
    return bool(json.loads((path / "run.json").read_text(encoding="utf-8"))["finished"])


def _restore_interrupted_swap(path: Path) -> None:
    """A process killed between the two renames of `save_checkpoint` left the old checkpoint under its other name."""
    shutil.rmtree(path / f"{CHECKPOINT}.partial", ignore_errors=True)
    replaced = path / f"{CHECKPOINT}.replaced"
    if replaced.exists() and not (path / CHECKPOINT).exists():
        replaced.rename(path / CHECKPOINT)
    shutil.rmtree(replaced, ignore_errors=True)


def _describe(settings: StageSettings) -> dict[str, Any]:
    return {
        "settings": type(settings).__name__,
        "command": shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]]),
        "seed": settings.seed,
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "finished": False,
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in PACKAGES}},
        "commit": _commit(),
        "host": {"system": platform.system(), **host()},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # heed run from a source tree
        return None


def _commit() -> str | None:
    """Commit of heed's own source, with `-dirty` where it was changed since; None for an installed wheel."""
    source = Path(__file__).parents[2]
    if not (source / ".git").exists() or shutil.which("git") is None:
        return None
    command = ["git", "-C", str(source), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or None


def _write_text(path: Path, text: str) -> None:
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _finite(value: Any) -> Any:
    """The value with every NaN and infinity replaced by None, since JSON has no word for them."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value
