"""Every stage as a function, and what stages leave as objects: heed in a script or a notebook.

    import heed
    heed.sft(model="runs/pretrain", data="demonstrations.jsonl", output="runs/sft", lora={"rank": 8})

Settings, checks and errors are those of the command line. Heavy libraries are imported when a function is called, so
that `import heed` is told at once. `docs/python.md` shows the whole.
"""

from __future__ import annotations

import importlib
import logging
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import BaseModel

    from heed.doctor.verdict import Verdict
    from heed.evaluation.judge import Judge
    from heed.evaluation.speaker import Speaker
    from heed.report.frames import RunTables

RecipePath = str | Path | None
"""A YAML file whose settings go first; what is given by name is laid over them."""


def pretrain(recipe: RecipePath = None, **settings: Any) -> Path:
    """Step 0: `text` → a small base model in `output`. Returns the run's directory, as all stages do.

    `heed pretrain --help-all` lists the settings; one that is in a group goes into a dict:
    `optimizer={"learning_rate": 1e-3}`. Raises ConfigError, DataError, CheckpointError, RunError.
    """
    return _run("pretrain", recipe, settings)


def sft(recipe: RecipePath = None, **settings: Any) -> Path:
    """Step 1: a base `model` and demonstrations, `data` → a model that answers."""
    return _run("sft", recipe, settings)


def sample(recipe: RecipePath = None, **settings: Any) -> Path:
    """A `model` and `prompts` → `candidates.jsonl`, several responses each, to be ranked."""
    return _run("sample", recipe, settings)


def reward(recipe: RecipePath = None, **settings: Any) -> Path:
    """Step 2: the SFT `model` and rankings, `data` → a reward model."""
    return _run("reward", recipe, settings)


def evaluate_reward(recipe: RecipePath = None, **settings: Any) -> Path:
    """A reward `model` on held-out rankings, `data` → `report.json`."""
    return _run("evaluate-reward", recipe, settings)


def score(recipe: RecipePath = None, **settings: Any) -> Path:
    """Every response of `data` with its score by a reward `model`; the pairs that it gets wrong."""
    return _run("score", recipe, settings)


def ppo(recipe: RecipePath = None, **settings: Any) -> Path:
    """Step 3: the SFT `model`, a `reward_model` and `prompts` → a better policy."""
    return _run("ppo", recipe, settings)


def best_of_n(recipe: RecipePath = None, **settings: Any) -> Path:
    """The baseline: a `model` answers `prompts` n times, the `reward_model` keeps the best."""
    return _run("best-of-n", recipe, settings)


def evaluate(recipe: RecipePath = None, **settings: Any) -> Path:
    """Checkpoints, `models={"sft": …, "ppo": …}`, side by side on held-out `prompts` → `report.json`."""
    return _run("evaluate", recipe, settings)


def demo(recipe: RecipePath = None, **settings: Any) -> Path:
    """The whole loop on the generated pocket world."""
    return _run("demo", recipe, settings)


def resume(run: str | Path, **settings: Any) -> Path:
    """Go on with the run in a directory where it was stopped; `settings` are those that may change then."""
    from heed import cli

    path = Path(run).expanduser()
    going_on = {"resume": True, "output": str(path), **settings}
    return _run(cli.command_of(path), path / "config.yaml", going_on)


def diagnose(target: str | Path = "", **settings: Any) -> Verdict:
    """What `heed doctor` says of a recipe of PPO, of a run's directory, or of `rollouts` of any library.

    Its tables are printed; the verdict has `findings`, `is_grave` and `as_dict()`. (`heed.doctor` is the package.)
    """
    given = {"target": target, **settings} if target else settings
    with _prepared("doctor", None, given) as checked:
        from heed.stages.doctor import diagnose as examine

        return examine(checked)


def load_policy(path: str | Path, *, device: str = "auto", dtype: str = "auto", template: str = "dialogue") -> Speaker:
    """A policy that answers: `load_policy("runs/ppo").answer(["how are you?"])`.

    `path` is a run, a checkpoint directory, or a hub name; `template` is for a model that does not name its own.
    """
    with _prepared("chat", None, {"models": [path], "device": device, "dtype": dtype, "template": template}) as checked:
        from heed.stages.chat import load

        return load(checked)[0]


def load_reward(path: str | Path, *, device: str = "auto", dtype: str = "auto") -> Judge:
    """A reward model that scores: `load_reward("runs/reward").score(prompts, responses)`.

    Scores are normalised: the SFT model's own answers average 0, or demonstrations do, with standard deviation 1.
    """
    with _prepared("evaluate-reward", None, {"model": path, "output": "", "device": device, "dtype": dtype}) as checked:
        from heed.evaluation.judge import Judge
        from heed.models.checkpoint import open_checkpoint
        from heed.models.roles import Shelf, weight_count
        from heed.training.device import pick_device, pick_dtype

        checkpoint = open_checkpoint(checked.model, "reward")
        on = pick_device(checked.device, weight_count(checkpoint))
        return Judge.load(Shelf(partial(pick_dtype, checked.dtype, on), on), checked.model, "reward")


def read_run(path: str | Path) -> RunTables:
    """The tables of a run, running, stopped or finished: `read_run("runs/ppo").metrics["kl/exact"].plot()`."""
    from heed.report.frames import read_run as read

    return read(Path(path).expanduser())


def _run(command: str, recipe: RecipePath, settings: Mapping[str, Any]) -> Path:
    from heed import cli

    with _prepared(command, recipe, settings) as checked:
        path: Path = importlib.import_module(f"heed.{cli.COMMANDS[command].stage}").run(checked)
        cli.write_page(path)
        return path


@contextmanager
def _prepared(command: str, recipe: RecipePath, settings: Mapping[str, Any]) -> Iterator[Any]:
    """Checked settings, in a process that is ready for a stage; what goes wrong inside is told in Python's words."""
    from heed import cli, config
    from heed.errors import HeedError

    model = cli.settings_of(cli.COMMANDS[command])
    with _heard(cli.Plain()):
        try:
            checked = config.from_values(model, str(recipe or ""), settings, command.replace("-", "_"))
            cli.require_files(checked)
            cli.quieten()
            yield checked
        except HeedError as error:
            error.where, error.what, error.hint = (
                in_python(text, model) for text in (error.where, error.what, error.hint)
            )
            raise


@contextmanager
def _heard(handler: logging.Handler) -> Iterator[None]:
    """Progress lines are shown while a function runs, unless the application has set up logging: then that decides."""
    log = logging.getLogger("heed")
    if log.hasHandlers() or log.level != logging.NOTSET:
        yield
        return
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(logging.NOTSET)


_FLAG = re.compile(r"(?<![\w-])--([a-z][\w.-]*\w)(?:[ =]([A-Z]+\b|'\[.*?\]'))?")


def in_python(text: str, model: type[BaseModel]) -> str:
    """A message with the flags of the command line as a program writes them: `--lora.rank VALUE` is
    `lora={"rank": VALUE}`, `--overwrite` is `overwrite=True`, and a setting that is only named keeps its dots."""
    from heed import config

    switches = {name for name, described in config.fields(model) if described.annotation is bool}

    def written(found: re.Match[str]) -> str:
        name, value = found[1].replace("-", "_"), found[2] or ("True" if found[1] in switches else "")
        first, *inner = name.split(".")
        if not value:
            return name
        for key in reversed(inner):
            value = f'{{"{key}": {value}}}'
        return f"{first}={value}"

    return _FLAG.sub(written, text)
