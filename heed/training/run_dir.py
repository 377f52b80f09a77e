"""The directory that a run writes: `config.yaml`, `run.json`, rows (`metrics.jsonl` …), `state/`, `checkpoint/`.

Nothing in it is ever half-written: rows are appended whole, files, states and checkpoints appear by renaming. Nothing
in it is ever deleted by starting a run: that is refused, or goes on where the run stopped (`resume`), or moves the old
run aside until the new one is finished (`overwrite`).
"""

from __future__ import annotations

import json
import logging
import os
import shlex
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import torch

from heed import config, disk
from heed.errors import HeedError, RunError
from heed.settings.common import StageSettings
from heed.tracking.follow import Trackers, require
from heed.training import claim, memory
from heed.training.describe import data_hashes, describe_run
from heed.training.dry_run import DryRun, Measured
from heed.training.files import finite, sync, write_json, write_text
from heed.training.lock import Lock
from heed.training.state import Part, Saved, find_state, keep_last, save_state

CHECKPOINT, STATES = "checkpoint", "state"
DROPPED = "dropped.jsonl"
"""Rows of the data that were not used, each with its file, line and reason."""
ROWS = ("metrics.jsonl", "timings.jsonl", "samples.jsonl", "findings.jsonl")
RESULTS = ("report.json", "report.html", "candidates.jsonl")

log = logging.getLogger("heed")


class RunDir:
    """One run's directory, used as a context manager around everything that the stage does in it.

    A run that stops early keeps its rows, its states, and the checkpoint that was saved last. `saved` is the state that
    the run goes on from; None where it begins. `recipe` is the text of `config.yaml`.
    """

    def __init__(
        self, path: Path, lock: Lock, description: dict[str, Any], saved: Saved | None, settings: StageSettings
    ) -> None:
        self.path, self.saved = path, saved
        self.checkpoint = path / CHECKPOINT
        self.step = saved.step if saved else 0
        self.is_new, self.recipe, self.trackers = False, "", Trackers(path, (), {})
        self.dry: DryRun | None = None
        self._lock, self._description, self._settings = lock, description, settings
        self._started = time.perf_counter()
        self._files: dict[str, BinaryIO] = {}
        self._torch_threads = torch.get_num_threads()

    @classmethod
    def create(cls, settings: StageSettings) -> Self:
        """Claim `settings.output` and write `config.yaml` and `run.json` there.

        Raises ConfigError, before anything is touched, where the directory holds a run (unless `settings.resume` or
        `settings.overwrite`), something that is not a run, or a run that another process is writing.
        """
        require(settings.track)
        if settings.dry_run:
            dry = DryRun(Path(settings.output).expanduser(), settings.kept_states)
            plain = {"output": str(dry.place), "resume": False, "overwrite": False, "dry_run": False, "track": ()}
            run = cls.create(settings.model_copy(update=plain))
            run.dry = dry
            return run
        path = Path(settings.output).expanduser()
        is_new = not path.exists()
        lock = claim.claimed(path, settings)
        try:
            saved = find_state(path / STATES) if settings.resume else None
            if saved:
                claim.require_this_run(path, saved.path, saved.about.get("run"), saved.rows)
            _restore_interrupted_swap(path)
            _cut_rows(path, saved.rows if saved else {})
            recipe = config.dump(settings.model_copy(update={"resume": False, "overwrite": False, "dry_run": False}))
            write_text(path / "config.yaml", recipe)
            description = _description(path, settings, saved)
            write_json(path / "run.json", description)
        except BaseException as error:
            lock.release()
            if disk.is_full(error):
                hint = "make room, then run the same command again"
                raise RunError(str(path), disk.told(error, path), hint) from None
            raise
        run = cls(path, lock, description, saved, settings)
        run.is_new, run.recipe = is_new, recipe
        run.trackers = Trackers(path, settings.track, settings.model_dump(mode="json"))
        if settings.resume:
            log.info("going on after step %d of %s", run.step, path)
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.trackers.close()
        for file in self._files.values():
            file.close()
        self._files = {}
        self._lock.release()
        torch.set_num_threads(self._torch_threads)  # a small model had set it to one, for the whole process
        if self.dry is not None:
            return self._leave_dry(self.dry, error)
        if error is None:
            return False
        shutil.rmtree(self._partial, ignore_errors=True)
        if isinstance(error, HeedError) and not isinstance(error, RunError) and self.is_new and not self.step:
            shutil.rmtree(self.path)  # a mistake that showed when the models were read: nothing has been done yet
        if isinstance(error, RunError):
            error.where = f"{self.path}: step {self.step + 1}"
            error.hint += f"; {self._last_good()}"
        if disk.is_full(error):
            told = f"{disk.told(error, self.path)}; {self._last_good()}"
            raise RunError(str(self.path), told, f"make room, then {self._how_to_go_on()}") from None
        if memory.is_out_of_memory(error):
            raise self._out_of_memory(error, self.path) from None
        return False

    def record(self, step: int, metrics: Mapping[str, float | None]) -> None:
        """Append one row to `metrics.jsonl`. No times here: with one seed the file is the same twice."""
        self.step = step
        self._append("metrics.jsonl", {"step": step, **metrics})

    def time(self, step: int, timings: Mapping[str, float]) -> None:
        """Append one row to `timings.jsonl`: seconds, rates and memory, which differ from run to run. The step is over:
        trackers get it."""
        self._append("timings.jsonl", {"step": step, **timings})
        self.trackers.follow()

    def samples(self, step: int, rows: Sequence[Mapping[str, Any]]) -> None:
        """Append texts that the model wrote at `step` to `samples.jsonl`, a row each."""
        for row in rows:
            self._append("samples.jsonl", {"step": step, **row})

    def write_rows(self, name: str, rows: Sequence[Mapping[str, Any]]) -> Path:
        """Write a whole file of rows at once; returns its path."""
        write_text(self.path / name, "".join(json.dumps(finite(row), ensure_ascii=False) + "\n" for row in rows))
        return self.path / name

    def save_state(
        self, step: int, parts: Mapping[str, Part], rows: Mapping[str, int] | None = None, **about: Any
    ) -> None:
        """Write what is needed to go on after `step`, rows first: a state never names rows that are not on the disk.
        `rows`: how much of each file belongs to the steps up to that one; all of it, if not given."""
        for file in self._files.values():
            os.fsync(file.fileno())
        save_state(
            self.path / STATES,
            step,
            parts,
            self.row_lengths() if rows is None else rows,
            run=self._description.get("id"),
            **about,
        )
        keep_last(self.path / STATES, self._settings.kept_states)

    def has_state(self, step: int) -> bool:
        """Whether a state of that step was saved."""
        return (self.path / STATES / f"step-{step:08d}").exists()

    def row_lengths(self) -> dict[str, int]:
        """How long each file of rows is, in bytes."""
        return {name: (self.path / name).stat().st_size for name in ROWS if (self.path / name).exists()}

    def save_checkpoint(self, write: Callable[[Path], object]) -> Path:
        """Let `write(directory)` fill a new directory, then put it in place of `checkpoint/`; returns its path."""
        return self.save_directory(CHECKPOINT, write)

    def save_directory(self, name: str, write: Callable[[Path], object]) -> Path:
        """The same for another directory of the run."""
        shutil.rmtree(self._partial, ignore_errors=True)
        self._partial.mkdir()
        write(self._partial)
        for file in self._partial.rglob("*"):
            sync(file)
        return self._put(self._partial, name)

    def keep_as_checkpoint(self, name: str) -> Path:
        """Make a directory that was saved under another name `checkpoint/`."""
        return self._put(self.path / name, CHECKPOINT)

    def remove_directory(self, name: str) -> None:
        """Remove a directory of the run, if it is there."""
        shutil.rmtree(self.path / name, ignore_errors=True)

    def _put(self, source: Path, name: str) -> Path:
        target = self.path / name
        if target.exists():
            target.rename(self._replaced)
        source.rename(target)
        sync(self.path)
        shutil.rmtree(self._replaced, ignore_errors=True)
        return target

    def write_json(self, name: str, value: object) -> Path:
        """Write a whole JSON file of the run at once; NaN and infinities become null."""
        return write_json(self.path / name, value)

    def describe(self, **facts: Any) -> None:
        """Add what was decided when the stage began (device, dtype, parameters …) to `run.json`."""
        self._description |= facts
        self.write_json("run.json", self._description)

    def finished(self, *next_command: str, after: Sequence[str] = ()) -> None:
        """Mark the run as finished and say where its results are and what to run next, and `after` that, word by word.

        Its states, and what `overwrite` had moved aside, are not needed any more.
        """
        seconds = round(time.perf_counter() - self._started + self._description.get("seconds", 0.0), 1)
        self.describe(finished=True, seconds=seconds)
        claim.remove_leftovers(self.path)
        for name in (CHECKPOINT, *RESULTS):
            if (self.path / name).exists():
                log.info("wrote  %s", self.path / name)
        for command in filter(None, (next_command, after)):
            log.info("next   %s", shlex.join(command))

    @property
    def _partial(self) -> Path:
        return self.path / f"{CHECKPOINT}.partial"

    @property
    def _replaced(self) -> Path:
        return self.path / f"{CHECKPOINT}.replaced"

    def _append(self, name: str, row: Mapping[str, Any]) -> None:
        if name not in self._files:
            self._files[name] = (self.path / name).open("ab", buffering=0)
        line = json.dumps(finite(row), ensure_ascii=False, allow_nan=False) + "\n"
        disk.append_whole(self._files[name], line.encode())

    def _leave_dry(self, dry: DryRun, error: BaseException | None) -> bool:
        """Say what was measured, if it was, and leave nothing behind."""
        if error is None or isinstance(error, Measured):
            print("\n".join(dry.lines(self._description)))
        dry.remove()
        if error is not None and memory.is_out_of_memory(error):
            raise self._out_of_memory(error, dry.output) from None
        return isinstance(error, Measured)

    def _out_of_memory(self, error: BaseException, path: Path) -> RunError:
        steps = self._settings if "parameters" in self._description else None  # what is said when steps begin
        return memory.told(error, f"{path}: step {self.step + 1}", self._last_good(), steps)

    def _last_good(self) -> str:
        states = sorted((self.path / STATES).glob("step-????????"))
        if states:
            return f"the last good state is {states[-1]}"
        if self.checkpoint.exists():
            return f"the last good checkpoint is {self.checkpoint}"
        return "no state was saved yet"

    def _how_to_go_on(self) -> str:
        return f"heed resume {self.path}" if any((self.path / STATES).glob("step-????????")) else "run it again"


def _description(path: Path, settings: StageSettings, saved: Saved | None) -> dict[str, Any]:
    name = type(settings).__name__
    described = describe_run(settings.stage_name(), name, settings.seed) | {"data": data_hashes(settings)}
    if not settings.resume or not (path / "run.json").exists():
        return described
    before = json.loads((path / "run.json").read_text(encoding="utf-8"))
    again = {"step": saved.step if saved else 0, "at": described["started"], "versions": described["versions"]}
    again |= {"commit": described["commit"], "host": described["host"]}
    return {**before, "resumed": [*before.get("resumed", []), again]}


def _cut_rows(path: Path, lengths: Mapping[str, int]) -> None:
    """Rows after the state that is gone on from are written again; without a state all of them are."""
    for name in (*ROWS, *RESULTS):
        file = path / name
        if file.exists() and name in lengths:
            os.truncate(file, lengths[name])
        else:
            file.unlink(missing_ok=True)


def _restore_interrupted_swap(path: Path) -> None:
    """A process killed between the two renames of `save_checkpoint` left the old checkpoint under its other name."""
    shutil.rmtree(path / f"{CHECKPOINT}.partial", ignore_errors=True)
    replaced = path / f"{CHECKPOINT}.replaced"
    if replaced.exists() and not (path / CHECKPOINT).exists():
        replaced.rename(path / CHECKPOINT)
    shutil.rmtree(replaced, ignore_errors=True)
