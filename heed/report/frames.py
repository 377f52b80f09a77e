"""A run directory as tables: what a notebook plots and compares. pandas is there wherever `datasets` is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pandas import DataFrame

from heed.report.read import Row
from heed.report.read import read_run as read_files


@dataclass(frozen=True)
class RunTables:
    """What the files of a run say, whether it is running, was stopped, or is finished.

    `metrics` and `timings` have a row a step, under its number; `samples` and `findings` have a column `step`. What the
    run has not written yet is empty. `problems` says what could not be read.
    """

    metrics: DataFrame  # metrics.jsonl
    timings: DataFrame  # timings.jsonl: seconds, rates, memory
    samples: DataFrame  # samples.jsonl
    findings: DataFrame  # findings.jsonl: what the doctor said
    report: Mapping[str, Any]  # report.json
    settings: Mapping[str, Any]  # config.yaml
    about: Mapping[str, Any]  # run.json
    problems: Sequence[str]

    @property
    def finished(self) -> bool:
        """Whether the stage ran to its end."""
        return bool(self.about.get("finished"))


def read_run(path: Path) -> RunTables:
    """The tables of the run in a directory. Raises ConfigError where there is no run."""
    run = read_files(path, live=True)
    return RunTables(
        metrics=_by_step(run.rows),
        timings=_by_step(run.timings),
        samples=DataFrame(list(run.samples)),
        findings=DataFrame(list(run.findings)),
        report=run.report,
        settings=run.settings,
        about=run.about,
        problems=run.problems,
    )


def _by_step(rows: Sequence[Row]) -> DataFrame:
    return DataFrame([dict(row) for row in rows]).set_index("step") if rows else DataFrame()
