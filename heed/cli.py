"""The command line: `heed STAGE [RECIPE.yaml] [--setting value ...]`.

It checks the settings, imports the stage, and steps aside. Nothing here imports torch, so help and mistakes are
told at once.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.console import Console
from rich.table import Table
from rich.text import Text

from heed import config, disk
from heed.errors import ConfigError, HeedError, RunError
from heed.recipe import nearest
from heed.settings.common import DataSettings, StageSettings

QUIET = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_VERBOSITY": "error",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "DATASETS_VERBOSITY": "error",
    "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads sleep: on busy cores spinning ones cost two thirds of the speed
    "TOKENIZERS_PARALLELISM": "false",
    "DISABLE_SAFETENSORS_CONVERSION": "1",
}
"""Environment that keeps the libraries from talking over the run; what is set already is left alone.

The last one: of a model that has no safetensors, transformers sends the name (and the person's token) to a web service
that converts it and opens a pull request in its repository.
"""

HELP = {"--help", "-h", "--help-all"}
NARROWEST = 100


@dataclass(frozen=True)
class Command:
    """A stage by name: where its settings and its `run(settings)` live, and one sentence about it."""

    settings: str
    stage: str
    sentence: str
    positional: str = ""


COMMANDS = {
    "demo": Command("demo:DemoSettings", "flows.demo", "the whole loop on a generated little world, in minutes"),
    "pretrain": Command("pretrain:PretrainSettings", "stages.pretrain", "text → a small base model (step 0)"),
    "sft": Command("sft:SFTSettings", "stages.sft", "demonstrations → a model that answers (step 1)"),
    "sample": Command("evaluate:SampleSettings", "stages.sample", "prompts → several responses each, to be ranked"),
    "reward": Command("reward:RewardSettings", "stages.reward", "rankings → a reward model (step 2)"),
    "ppo": Command("ppo:PPOSettings", "stages.ppo", "prompts and a reward model → a better policy (step 3)"),
    "evaluate": Command("evaluate:EvaluateSettings", "stages.evaluate", "checkpoints side by side on held-out prompts"),
    "evaluate-reward": Command(
        "reward:EvaluateRewardSettings", "stages.evaluate_reward", "a reward model on held-out comparisons"
    ),
    "score": Command(
        "reward:ScoreSettings", "stages.score", "every response with its score; the pairs a reward model gets wrong"
    ),
    "best-of-n": Command(
        "best_of_n:BestOfNSettings", "stages.best_of_n", "the baseline: draw n answers, keep the best"
    ),
    "sweep": Command("sweep:SweepSettings", "flows.sweep", "a stage with every combination of some settings", "what"),
    "label": Command("label:LabelSettings", "flows.label", "the page on which people rank responses", "sources"),
    "loop": Command(
        "loop:LoopSettings", "flows.loop", "labels → reward model → PPO → new tasks, again and again", "run"
    ),
    "doctor": Command(
        "doctor:DoctorSettings",
        "stages.doctor",
        "a recipe or a run of PPO, or rollouts of any library: is it sound?",
        "target",
    ),
    "report": Command("report:ReportSettings", "flows.report", "runs → one HTML page: health, charts, samples", "runs"),
    "watch": Command("report:WatchSettings", "flows.watch", "the same page of a run while it trains", "run"),
    "export": Command(
        "export:ExportSettings", "flows.export", "a checkpoint → weights that every library loads and serves", "model"
    ),
    "push": Command("export:PushSettings", "flows.push", "a checkpoint → a repository on the hub", "model"),
    "chat": Command("evaluate:ChatSettings", "stages.chat", "talk to a checkpoint, or to two side by side", "models"),
    "lineage": Command(
        "lineage:LineageSettings", "flows.lineage", "a checkpoint → the data and the labels it came from", "checkpoint"
    ),
    "profile": Command("profile:ProfileSettings", "flows.profile", "a recipe → where a step's time goes", "recipe"),
    "env": Command("env:EnvSettings", "flows.env", "versions and machine: what a report of a bug needs"),
}
RESUME = "heed resume RUN goes on with a stopped run; heed resume RUN --setting value changes what may change."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code.

    0 done · 1 a bug, with its traceback · 2 something that a person can mend · 3 grave findings (a stage's `run` may
    return a code of its own) · 130 Ctrl-C · 143 SIGTERM.
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(arguments)
    except HeedError as error:
        print(error, file=sys.stderr)
        return 2
    except Exception as error:
        if not disk.is_full(error):
            raise
        print(RunError("heed", disk.told(error, Path.cwd()), "make room, then run it again"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("stopped by Ctrl-C: what was written so far is kept, nothing is half-written", file=sys.stderr)
        return 130


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        _print([_overview()])
        return 0
    if arguments[0] == "--version":
        print(importlib.import_module("importlib.metadata").version("heed"))
        return 0
    if arguments[0] == "resume":
        if not arguments[1:] or HELP & set(arguments):
            print(RESUME)
            return 0
        run = Path(arguments[1]).expanduser()
        if importlib.import_module("heed.training.claim").tidied(run):
            print(f"{run} is finished: nothing is left to do")
            return 0
        arguments = resumed(run, arguments[2:])
    name, *rest = arguments
    if name not in COMMANDS:
        raise ConfigError(name, "is not a command of heed", nearest(name, [*COMMANDS, "resume"], "commands"))
    command = COMMANDS[name]
    model = settings_of(command)
    if HELP & set(rest):
        _print(_stage_help(name, command, model, whole="--help-all" in rest))
        return 0
    settings = config.load(model, rest, name.replace("-", "_"), command.positional)
    require_files(settings)
    if track := getattr(settings, "track", ()):
        importlib.import_module("heed.tracking.follow").require(track)
    _prepare_process()
    stage: Callable[[Any], object] = importlib.import_module(f"heed.{command.stage}").run
    outcome = stage(settings)
    write_page(outcome)
    return outcome if isinstance(outcome, int) else 0


def write_page(outcome: object) -> None:
    """The page of what a command left, where that is the directory of a run or of a demo."""
    if isinstance(outcome, Path) and outcome.is_dir():
        importlib.import_module("heed.report.command").write_pages([outcome])


def resumed(path: Path, rest: Sequence[str]) -> list[str]:
    """The command that goes on with the run in a directory, wherever that was moved to."""
    return [command_of(path), str(path / "config.yaml"), "--resume", "true", "--output", str(path), *rest]


def command_of(path: Path) -> str:
    """The command that wrote the run, or the demo, in a directory."""
    described = path / "run.json" if (path / "run.json").exists() else path / "flow.json"
    try:
        return str(json.loads(described.read_text(encoding="utf-8"))["stage"]).replace("_", "-")
    except (OSError, ValueError, KeyError):
        raise ConfigError(str(path), "is not the directory of a run", "give one that a stage of heed wrote") from None


def settings_of(command: Command) -> type[BaseModel]:
    """The settings model of a command."""
    module, _, name = command.settings.partition(":")
    model: type[BaseModel] = getattr(importlib.import_module(f"heed.settings.{module}"), name)
    return model


def require_files(settings: BaseModel) -> None:
    """A data file that is not there is told before the stage, and torch with it, is imported."""
    for _, source in settings:
        if isinstance(source, DataSettings) and source.path and not Path(source.path).exists():
            importlib.import_module("heed.data.files").require(source)


def _prepare_process() -> None:
    """Environment, logging and signals, set before the heavy libraries are imported."""
    quieten()
    log = logging.getLogger("heed")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [Plain()]
    signal.signal(signal.SIGTERM, _stop)


def quieten() -> None:
    """Set the environment of `QUIET`, where it is not set."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)


def _stop(number: int, frame: FrameType | None) -> None:
    """Leave through the context managers, so that a run's files are closed, with the code shells expect."""
    sys.exit(128 + number)


class Plain(logging.Handler):
    """Log lines as they are, on whatever standard error is now (a progress bar replaces it while it lives)."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr, flush=True)


def _print(parts: Iterable[Text | Table]) -> None:
    console = Console(highlight=False)
    console.width = max(console.width, NARROWEST)
    for part in parts:
        console.print(part)


def _overview() -> Table:
    table = Table(
        title="heed STAGE [RECIPE.yaml] [--setting value ...]", title_justify="left", box=None, show_header=False
    )
    for name, command in COMMANDS.items():
        table.add_row(f"  heed {name}", command.sentence)
    table.caption = "heed STAGE --help: its settings. heed resume RUN: go on. heed sends nothing anywhere."
    table.caption_justify = "left"
    return table


def _stage_help(name: str, command: Command, model: type[BaseModel], whole: bool) -> Iterator[Text | Table]:
    words = f"[{command.positional.upper()} ...]" if command.positional else "[RECIPE.yaml]"
    yield Text(f"heed {name} {words} [--setting value ...]  {command.sentence}\n")
    table = Table(box=None, padding=(0, 2, 0, 0))
    for column in ("setting", "default", "meaning"):
        table.add_column(column)
    for setting, described in model.model_fields.items():
        for row in _rows(setting, described, whole):
            table.add_row(*(Text(cell) for cell in row))
    yield table
    if not whole:
        yield Text(f"\nheed {name} --help-all explains what is inside the groups (.…).")


def _rows(setting: str, described: FieldInfo, whole: bool) -> Iterator[tuple[str, str, str]]:
    """A setting's row; of a group one row that lists its defaults, or in the whole help one for each setting in it."""
    group = described.annotation
    if not config.is_group(group):
        yield f"--{setting}", _shown(described.default), described.description or ""
        return
    if issubclass(group, StageSettings) and not whole:  # a stage's settings inside a flow's
        yield f"--{setting}.…", "", described.description or ""
        return
    meaning = described.description or (group.__doc__ or "").partition("\n")[0].partition(". ")[0].rstrip(".")
    defaults = dict(described.default)
    inside = ", ".join(f"{name} {_shown(value)}" for name, value in defaults.items())
    yield f"--{setting}.…", "", meaning if whole else f"{meaning} ({inside})"
    for name, inner in group.model_fields.items() if whole else ():
        own = FieldInfo.from_annotated_attribute(inner.annotation, defaults[name])
        own.description = inner.description
        yield from ((f"  {flag}", default, told) for flag, default, told in _rows(f"{setting}.{name}", own, whole))


def _shown(default: object) -> str:
    if default is PydanticUndefined:
        return "required"
    if isinstance(default, tuple):
        return " ".join(str(item) for item in default) or "none"
    return {"": "none", "True": "true", "False": "false", "{}": "none"}.get(str(default), str(default))


if __name__ == "__main__":
    sys.exit(main())
