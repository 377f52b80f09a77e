"""`heed watch RUN`: the page of a run while it trains."""

from __future__ import annotations

from pathlib import Path

from heed.errors import ConfigError
from heed.report.watch import serve
from heed.settings.report import WatchSettings


def run(settings: WatchSettings) -> None:
    """Serve it to a browser on this machine until Ctrl-C."""
    if not settings.run:
        raise ConfigError("run", "no run is named", "give a run's directory: heed watch runs/ppo")
    serve(Path(settings.run).expanduser(), settings.port, settings.every)
