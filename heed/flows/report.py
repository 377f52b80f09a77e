"""`heed report RUN…`: one HTML page of a run, of a demo, or of several runs beside each other."""

from __future__ import annotations

from pathlib import Path

from heed.errors import ConfigError
from heed.report.command import write_pages
from heed.settings.report import ReportSettings


def run(settings: ReportSettings) -> Path:
    """Write the page; returns where it is."""
    if not settings.runs:
        raise ConfigError("runs", "no run is named", "give a run's directory: heed report runs/ppo")
    given = [Path(name).expanduser() for name in settings.runs]
    return write_pages(given, Path(settings.output).expanduser() if settings.output else None)
