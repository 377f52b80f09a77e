"""`heed profile`: the first steps of a stage under torch's profiler → where their time goes. The run is not kept."""

from __future__ import annotations

import importlib
import logging
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, profile

from heed import config
from heed.errors import ConfigError
from heed.settings.profile import ProfileSettings
from heed.training.loop import Loop

MODELS = {"pretrain": "PretrainSettings", "sft": "SFTSettings", "reward": "RewardSettings", "ppo": "PPOSettings"}
ROWS, PRINTED = 60, 16  # of the table

log = logging.getLogger("heed")


class EnoughSteps(Exception):
    """As many steps have been looked at as were asked for."""


class Steps:
    """Told of every step that is done: the first one is not looked at, `count` after it are."""

    def __init__(self, count: int) -> None:
        self.count, self.done, self.running = count, 0, False
        kinds = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * torch.cuda.is_available()
        everywhere = _ExperimentalConfig(profile_all_threads=True)  # small models share rows among threads
        self.profile = profile(activities=kinds, experimental_config=everywhere)

    def __call__(self, step: int) -> None:
        self.done += 1
        if self.done == 1:
            self.profile.start()
            self.running = True
        elif self.done > self.count:
            self.stop()
            raise EnoughSteps

    def stop(self) -> None:
        """No more is looked at: a profiler that still runs when Python ends brings it down."""
        if self.running:
            self.running = False
            self.profile.stop()


def run(settings: ProfileSettings) -> None:
    """Write `trace.json`, for Perfetto or chrome://tracing, and `table.txt`, and print the top of the table."""
    path = Path(settings.recipe)
    if path.suffix not in (".yaml", ".yml"):
        raise ConfigError("recipe", f"{path} is no recipe", "give the .yaml file of a stage that trains")
    module = importlib.import_module(f"heed.stages.{settings.stage}")
    model = getattr(module, MODELS[settings.stage])
    variables = [f"--set.{name}={text}" for name, text in settings.set.items()]
    steps = Steps(settings.steps)
    with tempfile.TemporaryDirectory() as place, watched(steps), suppress(EnoughSteps):
        given = [str(path), *variables, "--output", f"{place}/run"]
        module.run(config.load(model, given, settings.stage))
    if steps.done <= steps.count:
        told = f"{settings.stage} has {steps.done} steps, {steps.count + 1} are needed"
        raise ConfigError("steps", told, "lower it, or give the recipe more data")
    write(steps.profile, Path(settings.output))


@contextmanager
def watched(steps: Steps) -> Iterator[None]:
    """Loops tell `steps` of every step inside the block."""
    Loop.watcher = steps
    try:
        yield
    finally:
        Loop.watcher = None
        steps.stop()


def write(profiled: profile, place: Path) -> None:
    """The trace; the table, in which `time/NAME` are the parts of a step."""
    place.mkdir(parents=True, exist_ok=True)
    profiled.export_chrome_trace(str(place / "trace.json"))
    order = "self_device_time_total" if torch.cuda.is_available() else "self_cpu_time_total"
    table = profiled.key_averages().table(sort_by=order, row_limit=ROWS, max_name_column_width=60)
    parts = [row for row in profiled.key_averages() if row.key.startswith("time/")]
    lines = [f"{row.key:<20} {row.cpu_time_total / 1e6:10.3f} s" for row in parts]
    (place / "table.txt").write_text("\n".join([*lines, "", table]) + "\n")
    print("\n".join([*lines, "", *table.splitlines()[:PRINTED]]))
    log.info("wrote  %s", place / "trace.json")
    log.info("wrote  %s", place / "table.txt")
