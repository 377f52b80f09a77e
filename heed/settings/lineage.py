"""Settings of `heed lineage`."""

from __future__ import annotations

from pydantic import Field

from heed.settings.common import Settings


class LineageSettings(Settings):
    """From a checkpoint back to the data and the labels that it came from."""

    checkpoint: str = Field(description="a run or a checkpoint directory")
