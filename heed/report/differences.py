"""The settings of a run: those that differ from their defaults first. Of several runs: those that differ at all."""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from heed.config import fields
from heed.report.blocks import Table
from heed.report.read import STAGES, Run

HOMES = {
    "SampleSettings": "evaluate",
    "EvaluateRewardSettings": "reward",
    "ScoreSettings": "reward",
    "BestOfNSettings": "best_of_n",
}
PLACE = ("output", "overwrite")  # where a run lies says nothing about what it does
SEED = "seed"
REQUIRED = "required"


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted names; a mapping that is empty stays as it is."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


def defaults(run: Run) -> dict[str, Any]:
    """The defaults of the run's stage by dotted name, as this version of heed has them; required ones have none."""
    model = _model(run)
    if model is None:
        return {}
    found: dict[str, Any] = {}
    for name, described in model.model_fields.items():
        value = described.default
        if isinstance(value, BaseModel):
            found |= flat(value.model_dump(mode="json"), f"{name}.")
        elif value is not PydanticUndefined:
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def meanings(run: Run) -> dict[str, str]:
    """What each setting does, in the words of its help."""
    model = _model(run)
    return {} if model is None else {name: described.description or "" for name, described in fields(model)}


def settings_hash(run: Run) -> str:
    """Twelve digits that two runs share when all of their settings but their directory are alike."""
    told = {name: value for name, value in flat(run.settings).items() if name not in PLACE}
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()[:12]


def settings_tables(run: Run) -> list[Table]:
    """Two tables: what somebody chose, then what is as it always is."""
    usual, meaning, own = defaults(run), meanings(run), flat(run.settings)
    chosen = {name: value for name, value in own.items() if name not in usual or usual[name] != value}
    rest = {name: value for name, value in own.items() if name not in chosen}
    changed = [
        (name, shown(value), shown(usual[name]) if name in usual else REQUIRED, meaning.get(name, ""))
        for name, value in chosen.items()
    ]
    same = [(name, shown(value), meaning.get(name, "")) for name, value in rest.items()]
    tables = [Table("Chosen for this run", ("setting", "value", "default", "meaning"), changed)]
    return [*tables, Table("At their defaults", ("setting", "value", "meaning"), same, open=False)] if same else tables


def differing(runs: Sequence[Run]) -> list[str]:
    """Names of the settings in which runs differ, but for where they lie and their seed."""
    told = [flat(run.settings) for run in runs]
    names = dict.fromkeys(name for some in told for name in some)
    return [
        name
        for name in names
        if name not in (*PLACE, SEED) and len({json.dumps(some.get(name), default=str) for some in told}) > 1
    ]


def comparison_tables(runs: Sequence[Run]) -> list[Table]:
    """Every setting of several runs of one stage: those that differ, marked unless it is the seed, and, folded, those
    that are the same in all."""
    told, different = [flat(run.settings) for run in runs], differing(runs)
    names = dict.fromkeys(name for some in told for name in some)
    order = [*different, *(name for name in names if name not in different and name not in PLACE)]
    rows = [(name, *(shown(some.get(name)) for some in told)) for name in order]
    note = f"{len(different)} differ and are marked." if different else "None differs but the seed."
    other = [row for row in rows if len(set(row[1:])) > 1]
    same = [row[:2] for row in rows if len(set(row[1:])) == 1]
    return [
        Table("Settings", ("setting", *(run.name for run in runs)), other, note, marked=range(len(different))),
        Table("Settings that are the same", ("setting", "in all runs"), same, open=False),
    ]


def datasets(run: Run) -> str:
    """Names of the data that the settings read, without the directories of the machine that it was read on."""
    return ", ".join(dict.fromkeys(_paths(run.settings))) or "none"


def shown(value: Any) -> str:
    """A setting as a recipe would write it."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return " ".join(shown(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return "none" if not value else json.dumps(value)
    return str(value) or "none"


def _paths(settings: Mapping[str, Any]) -> Iterator[str]:
    for name, value in settings.items():
        if isinstance(value, Mapping):
            if value.get("path"):
                yield _last(str(value["path"]))
            else:
                yield from _paths(value)
        elif name in ("text", "pretrain_text"):
            texts = [value] if isinstance(value, str) else value or []
            yield from (_last(str(text)) for text in texts if text)


def _last(path: str) -> str:
    """A file's name; the whole name of a data set on a hub, which has one slash."""
    return path if path.count("/") == 1 and not path.startswith((".", "/")) else path.rstrip("/").rpartition("/")[2]


def _model(run: Run) -> type[BaseModel] | None:
    names = {stage: name for name, stage in STAGES.items()}
    if run.stage not in names:
        return None
    name = names[run.stage]
    home = HOMES.get(name, run.stage)
    model: type[BaseModel] = getattr(importlib.import_module(f"heed.settings.{home}"), name)
    return model
