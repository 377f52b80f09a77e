"""A run directory → one typed object. Files only: no model, no path that the files name, so a copied run reads alike.

Whatever is missing or damaged is left out and told in `problems`; only a directory that holds no run is an error.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from heed.errors import ConfigError

Row = Mapping[str, Any]
CUT = "the last line is not whole"

ABOUT, SETTINGS, METRICS = "run.json", "config.yaml", "metrics.jsonl"
PAGE = "report.html"
NEVER_LISTED = (PAGE, f"{PAGE}.partial")
REPLACED = ".replaced"  # how the name of a run ends that another has taken the place of
DEEPEST = 3  # directories below a demo or a sweep in which runs are looked for

STAGES = {
    "PretrainSettings": "pretrain",
    "SFTSettings": "sft",
    "SampleSettings": "sample",
    "RewardSettings": "reward",
    "PPOSettings": "ppo",
    "EvaluateSettings": "evaluate",
    "EvaluateRewardSettings": "evaluate-reward",
    "BestOfNSettings": "best-of-n",
    "ScoreSettings": "score",
}
"""The stage that a run's settings belong to."""

TELLING = {
    "kl_coef": "ppo", "centring": "reward", "reward_models": "evaluate", "judge": "best-of-n", "responses": "sample",
    "pretrain_share": "sft", "vocabulary": "pretrain",
}  # fmt: skip
"""A setting that only one stage has, for a run whose `run.json` is lost."""


@dataclass(frozen=True)
class File:
    """A file of the run, or a directory as a whole."""

    name: str
    size: int  # bytes


@dataclass(frozen=True)
class Run:
    """Everything that the files of one run say."""

    name: str
    stage: str  # a key of STAGES, or "run" where nothing says
    about: Mapping[str, Any]  # run.json
    settings: Mapping[str, Any]  # config.yaml
    rows: Sequence[Row]  # metrics.jsonl, a row a step
    timings: Sequence[Row]
    samples: Sequence[Row]
    findings: Sequence[Row]
    report: Mapping[str, Any]
    files: Sequence[File]
    problems: Sequence[str]

    @property
    def finished(self) -> bool:
        """Whether the stage ran to its end."""
        return bool(self.about.get("finished"))

    @property
    def seconds(self) -> float | None:
        """Wall time; of a run that did not finish, of its steps."""
        if (told := number(self.about.get("seconds"))) is not None:
            return told
        return sum(row.get("time/step") or 0.0 for row in self.timings) or None

    @property
    def last_step(self) -> int | None:
        """Step of the last row."""
        return int(self.rows[-1]["step"]) if self.rows else None


def number(value: Any) -> float | None:
    """A finite number, or None: what a null, a NaN, a word or nothing at all counts as."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def series(rows: Sequence[Row], name: str) -> tuple[list[float], list[float | None]]:
    """Steps and values of a metric, for the rows that have it; null stays None."""
    having = [row for row in rows if name in row]
    return [float(row["step"]) for row in having], [number(row[name]) for row in having]


def is_run(path: Path) -> bool:
    """Whether a directory holds what a stage writes."""
    return (path / ABOUT).is_file() or (path / METRICS).is_file()


def runs_in(path: Path) -> list[Path]:
    """The runs of a demo's or a sweep's directory, in the order of their names; a run holds no other runs."""
    found: list[Path] = []
    level = [path]
    for _ in range(DEEPEST):
        inside = (child for parent in level for child in parent.iterdir() if child.is_dir())
        below = sorted(child for child in inside if not child.suffix.startswith(REPLACED))
        found += [child for child in below if is_run(child)]
        level = [child for child in below if not is_run(child) and child.name != "checkpoint"]
    return found


def read_run(path: Path, name: str = "", live: bool = False) -> Run:
    """Read the run in `path`. Raises ConfigError where there is none.

    Of a `live` run the last line may be half-written at any moment: that is then no problem.
    """
    if not is_run(path):
        raise ConfigError(str(path), *_no_run(path))
    problems: list[str] = []
    about = _read_json(path / ABOUT, problems)
    settings = _read_yaml(path / SETTINGS, problems)
    rows = _by_step(_read_lines(path / METRICS, problems), problems)
    return Run(
        name=name or path.resolve().name,
        stage=STAGES.get(str(about.get("settings")), _stage_of(settings)),
        about=about,
        settings=settings,
        rows=rows,
        timings=_by_step(_read_lines(path / "timings.jsonl", problems), problems),
        samples=_samples(path, problems),
        findings=_read_lines(path / "findings.jsonl", problems),
        report=_read_json(path / "report.json", problems) if (path / "report.json").exists() else {},
        files=list(_files(path)),
        problems=[told for told in problems if not (live and CUT in told)],
    )


def read_root(path: Path) -> tuple[Mapping[str, Any], list[Row], list[str]]:
    """What lies beside the runs of a demo: its report, its samples, and problems with them."""
    problems: list[str] = []
    report = _read_json(path / "report.json", problems) if (path / "report.json").exists() else {}
    return report, _read_lines(path / "samples.jsonl", problems), problems


def _no_run(path: Path) -> tuple[str, str]:
    if not path.exists():
        beside = path.parent if path.parent.is_dir() else Path()
        there = [str(child) for child in sorted(beside.iterdir()) if child.is_dir() and is_run(child)]
        return "there is no such directory", f"runs here: {', '.join(there[:6])}" if there else "give a run's directory"
    if not path.is_dir():
        return "is a file", "give the directory of a run, which holds its metrics.jsonl"
    return f"holds no run: neither {ABOUT} nor {METRICS}", "give the directory that a stage wrote, its --output"


def _stage_of(settings: Mapping[str, Any]) -> str:
    return next((stage for setting, stage in TELLING.items() if setting in settings), "run")


def _samples(path: Path, problems: list[str]) -> list[Row]:
    name = "samples.jsonl" if (path / "samples.jsonl").exists() else "candidates.jsonl"
    return _read_lines(path / name, problems)


def _by_step(rows: Sequence[Row], problems: list[str]) -> list[Row]:
    """One row a step in rising order; of a step that was written twice, by a run that was resumed, the last."""
    numbered = {int(row["step"]): row for row in rows if number(row.get("step")) is not None}
    if len(numbered) < len(rows):
        problems.append(f"{len(rows) - len(numbered)} rows have no step of their own: the last of each step is shown")
    return [numbered[step] for step in sorted(numbered)]


def _read_text(path: Path, problems: list[str]) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        problems.append(f"{path.name} cannot be read: {error.strerror}")
        return ""


def _read_json(path: Path, problems: list[str]) -> dict[str, Any]:
    return _parsed(path, problems, json.loads)


def _read_yaml(path: Path, problems: list[str]) -> dict[str, Any]:
    return _parsed(path, problems, yaml.safe_load)


def _parsed(path: Path, problems: list[str], parse: Callable[[str], Any]) -> dict[str, Any]:
    text = _read_text(path, problems)
    try:
        found = parse(text) if text else {}
    except (ValueError, yaml.YAMLError):
        found = None
    if isinstance(found, dict):
        return found
    problems.append(f"{path.name} is damaged: nothing of it is shown")
    return {}


def _read_lines(path: Path, problems: list[str]) -> list[Row]:
    """The rows of a JSONL file; a line that was cut off, or is no object, is left out and told."""
    if not path.exists():
        return []
    lines = _read_text(path, problems).splitlines()
    rows = [_object(line) for line in lines]
    broken = [place for place, row in enumerate(rows, start=1) if row is None]
    if broken == [len(lines)]:
        problems.append(f"{path.name}: {CUT}, as of a run that was stopped; it is left out")
    elif broken:
        problems.append(f"{path.name}: {len(broken)} lines cannot be read, the first is line {broken[0]}")
    return [row for row in rows if row is not None]


def _object(line: str) -> Row | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def _files(path: Path) -> Iterator[File]:
    """What the directory holds. A run that goes on may rename a file between two looks: it is then left out."""
    for child in sorted(path.iterdir()):
        if child.name in NEVER_LISTED or child.name.endswith(".partial"):
            continue
        inside = sorted(child.rglob("*")) if child.is_dir() else [child]
        sizes = [size for file in inside if (size := _size(file)) is not None]
        yield File(f"{child.name}/" if child.is_dir() else child.name, sum(sizes))


def _size(file: Path) -> int | None:
    try:
        return file.stat().st_size if file.is_file() else None
    except FileNotFoundError:
        return None
