"""The directory of several stages in a row: whose it is, and what is written down before the first of them."""

from __future__ import annotations

from pathlib import Path

from heed import config
from heed.errors import ConfigError
from heed.settings.demo import DemoSettings
from heed.settings.sweep import SweepSettings
from heed.training.describe import describe_run
from heed.training.files import write_json, write_text


def claim(root: Path, settings: DemoSettings | SweepSettings, stage: str, mark: str, seed: int = 0) -> None:
    """Make the directory, with `config.yaml` and `flow.json`. `mark` is what such a directory has in any case.

    Raises ConfigError, before anything is touched, where it holds something already.
    """
    if root.is_file():
        raise ConfigError("output", f"{root} is a file", "choose a directory")
    if root.is_dir() and any(root.iterdir()):
        if not (root / mark).exists():
            raise ConfigError("output", f"{root} holds files that are not a {stage}'s", "choose a new directory")
        if not settings.overwrite and not settings.resume:
            finished = (root / "report.json").exists()
            hint = "" if finished else f", or go on with it: heed resume {root}"
            raise ConfigError("output", f"{root} holds a {stage}", f"add --overwrite to replace it{hint}")
    elif settings.resume:
        raise ConfigError("resume", f"{root} holds no {stage}", "leave --resume out to begin one")
    root.mkdir(parents=True, exist_ok=True)
    write_text(root / "config.yaml", config.dump(settings.model_copy(update={"resume": False, "overwrite": False})))
    write_json(root / "flow.json", describe_run(stage, type(settings).__name__, seed))
