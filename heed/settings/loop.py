"""Settings of `heed loop`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heed.settings.common import Settings
from heed.settings.evaluate import SampleSettings
from heed.settings.ppo import PPOSettings
from heed.settings.reward import RewardSettings


class LoopSettings(Settings):
    """From labels to a new policy and to new tasks for the people who label, round after round."""

    run: str = Field(description="what `heed label` was started with: a run of `heed sample`, or a file")
    database: str = Field("", description="the labels' database, where `heed label` was given one")
    output: str = Field("", description="directory of the rounds; empty = `loop` beside the labels")
    model: str = Field("", description="the SFT model; empty = the one that wrote the first candidates")
    policy: Literal["first", "last"] = Field(
        "first", description="PPO begins from, and measures its KL from, `model` (first) or the last round's policy"
    )
    after: int = Field(50, ge=1, description="new rankings after which a round begins")
    rounds: int = Field(0, ge=0, description="rounds until it ends; 0 = until Ctrl-C")
    once: bool = Field(False, description="one round at once, with the rankings that are there")
    look_every: float = Field(5.0, gt=0, description="seconds between looks for new rankings")

    tasks: int = Field(40, ge=0, description="new tasks of a round: prompts that the new policy has answered")
    pool: float = Field(4.0, ge=1, description="prompts answered for each that is queued; reward models of two halves "
        "of the labels then choose those on which they differ most")  # fmt: skip
    corrections: int = Field(10, ge=0, description="further tasks: the pairs that the reward model gets most wrong")
    mode: Literal["rank", "pairwise", "likert"] = Field("rank", description="the mode of `heed label`")
    reviewers: int = Field(1, ge=1, description="people who answer each new task")
    seed: int = Field(0, ge=0, description="seed of every stage of the first round; later rounds count up")
    device: str = Field("auto", description="cpu, cuda, mps; auto = the accelerator from 5 M weights")

    reward: RewardSettings = Field(
        RewardSettings(model="", output=""), description="settings of heed reward; the loop sets its model and data"
    )
    ppo: PPOSettings = Field(
        PPOSettings(model="", output=""), description="settings of heed ppo; the loop sets its models, not its prompts"
    )
    sample: SampleSettings = Field(
        SampleSettings(model="", output=""),
        description="settings of heed sample; prompts are those of PPO if not given",
    )
