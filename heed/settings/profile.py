"""Settings of `heed profile`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heed.settings.common import Settings


class ProfileSettings(Settings):
    """A recipe → where a step's time goes: a trace and a table."""

    recipe: str = Field(description="recipe (.yaml) of a stage that trains")
    set: dict[str, str] = Field({}, description="values for the variables of the recipe: --set.name VALUE")
    stage: Literal["pretrain", "sft", "reward", "ppo"] = Field("ppo", description="stage of the recipe")
    steps: int = Field(2, ge=1, description="steps that are looked at, after one that is not")
    output: str = Field("runs/profile", description="directory for trace.json and table.txt")
