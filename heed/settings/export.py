"""Settings of `heed export` and `heed push`."""

from __future__ import annotations

from pydantic import Field

from heed.settings.common import Settings


class ExportSettings(Settings):
    """A checkpoint → a directory that needs neither its base nor heed."""

    model: str = Field("", description="a run, a checkpoint or a hub name: a policy or a reward model")
    output: str = Field("", description="directory to write; must not exist")
    merge: bool = Field(
        True,
        description="add an adapter to the weights and a reward model's normalisation to its head; false = copy it",
    )
    dtype: str = Field(
        "auto",
        pattern="^(auto|float32|bfloat16|float16)$",
        description="dtype of a policy's weights; auto = its base's",
    )


class PushSettings(Settings):
    """A checkpoint → a repository on the hub. The token is the one of `hf auth login`, or HF_TOKEN."""

    model: str = Field("", description="a run, or a directory that `heed export` wrote")
    to: str = Field("", description="owner/name on the hub; made where it is not there")
    private: bool = Field(True, description="whether a new repository is seen by its owner alone")
