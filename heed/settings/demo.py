"""Settings of `heed demo`: the whole loop on the pocket world."""

from __future__ import annotations

from pydantic import Field

from heed.settings.common import Settings, TrackerName


class DemoSettings(Settings):
    """Everything from nothing: a world is generated, a base model is trained on its prose, and then the loop runs."""

    output: str = Field("runs/demo", description="directory that gets a run directory for each stage, and report.json")
    overwrite: bool = Field(False, description="replace a demo that is already in `output`")
    resume: bool = Field(False, description="go on with the demo in `output` where it was stopped")
    device: str = Field("auto", description="cpu, cuda, mps; auto = cpu, where models this small are faster")
    seed: int = Field(0, ge=0, description="seed of the world's texts and of every stage")
    track: tuple[TrackerName, ...] = Field((), description="wandb, tensorboard, trackio: follow every stage there too")
    full: bool = Field(False, description="also PPO with pretraining text (PPO-ptx), averaged weights and best-of-n")
