"""Settings of `heed sweep`."""

from __future__ import annotations

from pydantic import Field

from heed.settings.common import Settings, TrackerName


class SweepSettings(Settings):
    """One stage with every combination of some settings, one run after the other → a page that compares them."""

    what: tuple[str, ...] = Field(description="the stage, then its recipe: sft recipe.yaml", min_length=1, max_length=2)
    grid: tuple[str, ...] = Field(
        description="settings and their values: lora.rank=8,16 seed=0,1; one value fixes a setting, set.NAME is a "
        "variable of the recipe",
        min_length=1,
    )
    output: str = Field(description="directory that gets a run directory for each combination, and report.html")
    overwrite: bool = Field(False, description="replace a sweep that is already in `output`")
    resume: bool = Field(False, description="go on with the sweep in `output` where it was stopped")
    track: tuple[TrackerName, ...] = Field((), description="wandb, tensorboard, trackio: follow every run there too")
