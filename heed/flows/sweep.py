"""`heed sweep`: one stage with every combination of some settings, one run after the other, and a page of them all."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from heed import config
from heed.errors import ConfigError, RunError
from heed.flows.going_on import Step, go, walk
from heed.flows.place import claim
from heed.recipe import nearest
from heed.settings.common import StageSettings
from heed.settings.ppo import PPOSettings
from heed.settings.pretrain import PretrainSettings
from heed.settings.reward import RewardSettings
from heed.settings.sft import SFTSettings
from heed.settings.sweep import SweepSettings
from heed.stages import ppo, pretrain, reward, sft
from heed.training.files import write_json
from heed.training.metrics import print_completions, short

STAGES: Mapping[str, tuple[type[StageSettings], Callable[[Any], object]]] = {
    "pretrain": (PretrainSettings, pretrain.run),
    "sft": (SFTSettings, sft.run),
    "reward": (RewardSettings, reward.run),
    "ppo": (PPOSettings, ppo.run),
}
HEADLINES = ("validation/score", "validation/accuracy", "loss/validation", "loss/train")
"""What a run is told by: the first of these that it logged, as it was last."""
OWN = ("output", "overwrite", "resume", "track")
SEED = "seed"

log = logging.getLogger("heed")


@dataclass(frozen=True)
class Combination:
    """One run of the sweep: the values that were chosen for it, and its settings."""

    chosen: Mapping[str, str]
    settings: StageSettings

    @property
    def words(self) -> str:
        """`lora.rank 8, seed 0`."""
        return ", ".join(f"{name} {value}" for name, value in self.chosen.items())


def run(settings: SweepSettings) -> Path:
    """Check every combination, then run one after the other. One that cannot go on is told and left behind."""
    stage, root = settings.what[0], Path(settings.output).expanduser()
    planned = combinations(settings, root)
    claim(root, settings, "sweep", "flow.json")
    failed: list[Combination] = []

    def attempt(one: Combination) -> None:
        try:
            go(STAGES[stage][1], one.settings)
        except RunError as error:
            log.warning("%s", error)
            failed.append(one)

    walk([Step(one.words, partial(attempt, one)) for one in planned], whole="whole sweep")
    done = [one for one in planned if one not in failed]
    rows = list(table(done))
    write_json(root / "report.json", {"stage": stage, "runs": len(planned), "failed": [one.words for one in failed]})
    print_completions(rows, f"{len(done)} of {len(planned)} runs came to their end")
    return root


def combinations(settings: SweepSettings, root: Path) -> list[Combination]:
    """Every combination with its settings, checked. Raises ConfigError for the first that is wrong."""
    stage, *recipe = settings.what
    if stage not in STAGES:
        raise ConfigError("sweep", f"{stage} is no stage that trains", nearest(stage, list(STAGES), "stages"))
    grid = dict(axis(word) for word in settings.grid)
    if len(grid) < len(settings.grid):
        raise ConfigError("--grid", "names a setting twice", "give all of its values at once: lora.rank=8,16")
    varied = [name for name, values in grid.items() if len(values) > 1]
    short_names = {name: name.rpartition(".")[2] for name in varied}
    if len(set(short_names.values())) < len(varied):
        short_names = {name: name for name in varied}
    model, found = STAGES[stage][0], []
    for values in product(*grid.values()):
        chosen = dict(zip(grid, values, strict=True))
        parts = [f"{short_names[name]}-{_plain(chosen[name])}" for name in varied]
        flags = [part for name, value in chosen.items() for part in (f"--{name}", value)]
        flags += ["--output", str(root / ("_".join(parts) or stage))]
        flags += ["--track", *settings.track] if settings.track else []
        flags += [flag for name in ("overwrite", "resume") if getattr(settings, name) for flag in (f"--{name}", "true")]
        found.append(Combination({name: chosen[name] for name in varied}, config.load(model, [*recipe, *flags], stage)))
    return found


def axis(word: str) -> tuple[str, list[str]]:
    """`lora.rank=8,16` → its name and its values, as they were written."""
    name, equals, values = word.partition("=")
    found = [value.strip() for value in values.split(",")]
    if not equals or not name or not all(found):
        raise ConfigError("--grid", f"cannot read {word!r}", "write a setting and its values: lora.rank=8,16")
    if name in OWN:
        raise ConfigError("--grid", f"{name} is the sweep's own", f"give it to the sweep: --{name}")
    if len(set(found)) < len(found):
        raise ConfigError("--grid", f"{word} has a value twice", "name each once")
    return name, found


def table(runs: Sequence[Combination]) -> Iterator[dict[str, object]]:
    """A row for each combination but for the seed: what it ended at, mean ± standard deviation over seeds."""
    groups: dict[tuple[tuple[str, str], ...], list[tuple[str, float]]] = {}
    for one in runs:
        key = tuple((name, value) for name, value in one.chosen.items() if name != SEED)
        groups.setdefault(key, []).extend(headline(Path(one.settings.output)))
    for key, told in groups.items():
        row: dict[str, object] = dict(key)
        for name in dict.fromkeys(name for name, _ in told):
            values = [value for other, value in told if other == name]
            row |= {name: _spread(values), "runs": str(len(values))}
        yield row


def headline(path: Path) -> Iterator[tuple[str, float]]:
    """The figure that a run is told by, and its value at the last step that has one."""
    rows = [json.loads(line) for line in (path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    for name in HEADLINES:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            yield name, values[-1]
            return


def _spread(values: Sequence[float]) -> str:
    return f"{short(mean(values))} ± {short(stdev(values))}" if len(values) > 1 else short(values[0])


def _plain(value: str) -> str:
    """A value as a part of a directory's name."""
    return re.sub(r"[^A-Za-z0-9.+-]+", "-", value)
