"""Settings of `heed best-of-n`."""

from __future__ import annotations

from pydantic import Field

from heed.settings.common import DataSettings, HygieneSettings, MissingEosSettings, SamplingSettings, StageSettings


class BestOfNSettings(StageSettings):
    """The baseline that needs no training: draw n responses, keep the best-scored → report.json and samples.jsonl."""

    model: str = Field(description="checkpoint that answers, as a rule the SFT model")
    reward_model: str = Field(description="a run of `heed reward`, which chooses, as PPO is paid")
    judge: str = Field(
        "", description="a second reward model, trained on other data, which scores what was chosen; empty = none"
    )
    gold: bool = Field(False, description="also the gold score: for prompts of the pocket world alone")
    prompts: DataSettings = Field(DataSettings(), description="held-out prompts")
    hygiene: HygieneSettings = HygieneSettings()
    n: int = Field(16, ge=2, le=1024, description="responses drawn per prompt; the curve has 1, 2, 4, … up to n")
    sampling: SamplingSettings = SamplingSettings(batch=16)
    missing_eos: MissingEosSettings = MissingEosSettings()
