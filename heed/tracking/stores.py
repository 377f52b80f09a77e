"""The three trackers, each behind the same two calls. A tracker's library is imported when it is asked for, not before.

None of them needs an account, and none is let talk to anybody: W&B writes its offline directory unless `WANDB_MODE`
says otherwise, and its error reports and statistics of the machine are off.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

Row = Mapping[str, Any]

PROJECT = "heed"
"""Under which runs stand, where `WANDB_PROJECT` or `TRACKIO_PROJECT` names no other."""
SAMPLES = "samples"
MOST_TEXTS = 20  # rows of samples of a step that TensorBoard shows, which has no table


class Tracker(Protocol):
    """Where the rows of a run go. `place` is for a person: how they are looked at. `last` is the last step that was
    there already when it was opened; None where the run is new to it."""

    place: str
    last: int | None

    def log(self, step: int, numbers: Mapping[str, float], samples: Sequence[Row]) -> None:
        """The numbers of a step, and the texts that the model wrote at it. Every step comes once, in order."""

    def close(self) -> None:
        """Everything is written when this returns."""


class WandB:
    """Weights & Biases. A process that goes on writes a further directory of the same run, as `wandb sync` expects."""

    def __init__(self, run: Path, name: str, identity: str, config: Mapping[str, Any], last: int | None) -> None:
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        os.environ.setdefault("WANDB_MODE", "offline")
        self._wandb = importlib.import_module("wandb")
        is_offline = os.environ["WANDB_MODE"] == "offline"
        self.last, self._step = last, -1 if last is None else last
        self._run = self._wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT), id=identity, name=name, config=dict(config),
            dir=os.environ.get("WANDB_DIR", str(run)), resume=None if is_offline else "allow",
            settings=self._wandb.Settings(
                silent=True, console="off", save_code=False, disable_code=True, disable_git=True,
                x_disable_stats=True, x_disable_meta=True,
            ),
        )  # fmt: skip
        directory = Path(self._run.dir).parent
        self.place = f"wandb sync {directory}" if is_offline else str(self._run.url)

    def log(self, step: int, numbers: Mapping[str, float], samples: Sequence[Row]) -> None:
        """W&B's steps only rise: texts that are written after the last step stand at the next one."""
        told: dict[str, Any] = dict(numbers)
        if samples:
            names, cells = columns(samples)
            told[SAMPLES] = self._wandb.Table(columns=names, data=cells)
        self._step = max(step, self._step + 1)
        self._run.log(told, step=self._step, commit=True)

    def close(self) -> None:
        self._run.finish()


class TensorBoard:
    """An event file in the run's `tensorboard/`; numbers are 32-bit there, texts are Markdown."""

    def __init__(self, run: Path, name: str, identity: str, config: Mapping[str, Any], last: int | None) -> None:
        self.last, directory = last, run / "tensorboard"
        writer = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = writer(str(directory), purge_step=None if last is None else last + 1)
        if last is None:
            self._writer.add_text("settings", _code(json.dumps(config, indent=2, ensure_ascii=False)))
        self.place = f"tensorboard --logdir {directory}"

    def log(self, step: int, numbers: Mapping[str, float], samples: Sequence[Row]) -> None:
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)
        if samples:
            shown = [json.dumps(row, indent=2, ensure_ascii=False) for row in samples[:MOST_TEXTS]]
            self._writer.add_text(SAMPLES, "\n\n".join(map(_code, shown)), step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class Trackio:
    """trackio's own store: `TRACKIO_DIR`, or where `trackio show` looks without it."""

    def __init__(self, run: Path, name: str, identity: str, config: Mapping[str, Any], last: int | None) -> None:
        self._trackio = importlib.import_module("trackio")
        project = os.environ.get("TRACKIO_PROJECT", PROJECT)
        with _silence():
            self._run = self._trackio.init(
                project=project, name=f"{name}-{identity}", config=dict(config), resume="allow", embed=False,
                auto_log_cpu=False, auto_log_gpu=False,
            )  # fmt: skip
        stored = getattr(self._run, "_next_step", None)  # a killed process takes its last half second with it
        self.last = min(last, stored - 1) if last is not None and stored is not None else last
        self.place = f"trackio show --project {project}"

    def log(self, step: int, numbers: Mapping[str, float], samples: Sequence[Row]) -> None:
        told: dict[str, Any] = dict(numbers)
        if samples:
            names, cells = columns(samples)
            told[SAMPLES] = self._trackio.Table(columns=names, data=cells)
        self._run.log(told, step=step)

    def close(self) -> None:
        with _silence():
            self._trackio.finish()


TRACKERS: Mapping[str, type[WandB] | type[TensorBoard] | type[Trackio]] = {
    "wandb": WandB,
    "tensorboard": TensorBoard,
    "trackio": Trackio,
}


def columns(samples: Sequence[Row]) -> tuple[list[str], list[list[Any]]]:
    """Rows of `samples.jsonl` as a table: a column for each name, groups as `responses.ppo`; None where it is not."""
    flat = [dict(_flat(row)) for row in samples]
    names = list(dict.fromkeys(name for row in flat for name in row))
    return names, [[row.get(name) for name in names] for row in flat]


def _flat(row: Row, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value


def _code(text: str) -> str:
    """A block of Markdown that is shown as it is, whatever a model wrote."""
    return "\n".join(f"    {line}" for line in text.splitlines())


def _silence() -> contextlib.AbstractContextManager[Any]:
    """trackio tells its address on standard output, where results go."""
    return contextlib.redirect_stdout(io.StringIO())
