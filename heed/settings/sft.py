"""Settings of `heed sft`: demonstrations → a model that answers."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from heed.settings.common import (
    DataSettings,
    HygieneSettings,
    LoraSettings,
    OptimizerSettings,
    TemplateName,
    TrainedSettings,
)


class SFTSettings(TrainedSettings):
    """Step 1: supervised fine-tuning on demonstrations (paper: section 3.5, appendix C.1 and C.3)."""

    MAY_CHANGE: ClassVar[frozenset[str]] = TrainedSettings.MAY_CHANGE | {
        "microbatch_tokens",
        "evaluations",
        "completions",
    }

    model: str = Field(description="base model: hub name, directory, or a run of `heed pretrain`")
    data: DataSettings = Field(DataSettings(), description="demonstrations")
    validation: DataSettings = Field(
        DataSettings(), description="held-out demonstrations; empty = `validation_share` of the groups of `data`"
    )
    validation_share: float = Field(
        0.03, gt=0, lt=0.5, description="share of groups held out when `validation` is empty"
    )
    hygiene: HygieneSettings = HygieneSettings()
    template: TemplateName = Field(
        "dialogue", description="how a prompt is written; every later stage takes it from the checkpoint"
    )
    max_tokens: int = Field(512, ge=8, description="drop demonstrations longer than this, prompt included")
    batch: int = Field(32, ge=1, description="demonstrations a step (paper: 32)")
    microbatch_tokens: int = Field(
        8192, ge=1, description="padded tokens in one forward pass; changes speed and memory only"
    )
    epochs: float = Field(2.0, gt=0, description="passes over the data (paper: 16 for SFT, 2 for the start of RL)")
    pretrain_text: tuple[str, ...] = Field((), description="text files mixed in, as in the paper's start of RL (C.3)")
    pretrain_share: float = Field(
        0.0, ge=0, lt=1, description="share of training tokens from `pretrain_text` (paper: 0.1)"
    )
    lora: LoraSettings = LoraSettings()
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=2e-4)
    evaluations: int = Field(4, ge=1, description="how often the validation loss is taken, the last step included")
    completions: int = Field(
        200, ge=0, description="validation prompts answered for BLEU, chrF and the table; 0 = none"
    )
    completion_tokens: int = Field(64, ge=1, description="longest such answer in tokens")
    few_shot: int = Field(
        3, ge=0, description="demonstrations shown to the base model in the few-shot column; 0 = no column"
    )
