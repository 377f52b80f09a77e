"""Settings of `heed report` and `heed watch`."""

from __future__ import annotations

from pydantic import Field

from heed.settings.common import Settings


class ReportSettings(Settings):
    """Runs → one HTML page that needs nothing else: health, charts, samples, settings."""

    runs: tuple[str, ...] = Field(
        (), description="a run's directory; a demo's or a sweep's, for all runs in it; or several, to be compared"
    )
    output: str = Field(
        "", description="file to write; empty = report.html in the directory given, comparison.html beside several"
    )


class WatchSettings(Settings):
    """The same page of one run while it trains, in a browser on this machine."""

    run: str = Field("", description="a run's directory, or a demo's")
    port: int = Field(0, ge=0, le=65535, description="port of 127.0.0.1; 0 = any that is free")
    every: float = Field(2.0, gt=0, description="seconds between two looks at the files")
