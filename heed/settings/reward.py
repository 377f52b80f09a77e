"""Settings of `heed reward` and `heed evaluate-reward`."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from heed.settings.common import (
    AdapterSettings,
    DataSettings,
    OptimizerSettings,
    SamplingSettings,
    StageSettings,
    TrainedSettings,
)


class RewardSettings(TrainedSettings):
    """Step 2: rankings → a reward model (paper: section 3.5, appendix C.2)."""

    MAY_CHANGE: ClassVar[frozenset[str]] = TrainedSettings.MAY_CHANGE | {"microbatch_tokens", "evaluations"}

    model: str = Field(description="the SFT model to start from: a run of `heed sft`, a directory or a hub name")
    start_from: str = Field(
        "",
        description="a reward model to go on from, for example one of public comparisons (preference model "
        "pretraining, arXiv 2112.00861); empty = the SFT model with a new head",
    )
    data: DataSettings = Field(DataSettings(), description="rankings or comparisons")
    validation: DataSettings = Field(
        DataSettings(), description="held-out rankings; empty = `validation_share` of the groups of `data`"
    )
    validation_share: float = Field(
        0.05, gt=0, lt=0.5, description="share of groups held out when `validation` is empty"
    )
    demonstrations: DataSettings = Field(
        DataSettings(limit=2000),
        description="demonstrations whose mean score becomes 0; empty = the mean of reference samples becomes 0",
    )
    normalise_prompts: int = Field(
        256, ge=8, description="prompts answered by the SFT model; their scores get standard deviation 1"
    )
    sampling: SamplingSettings = SamplingSettings()
    half: str = Field(
        "all",
        pattern="^(all|first|second)$",
        description="train on all groups or on one of two disjoint halves of them",
    )
    max_tokens: int = Field(
        512, ge=8, description="longest text; the prompt is cut from its left end, never the response"
    )
    batch: int = Field(
        64,
        ge=1,
        description="prompts a step: all pairs of a prompt's responses, whoever ranked them, are in one (paper: 64)",
    )
    microbatch_tokens: int = Field(
        8192, ge=1, description="padded tokens in one forward pass; changes speed and memory only"
    )
    epochs: float = Field(1.0, gt=0, description="passes over the rankings; more than one overfits quickly (paper: 1)")
    centring: float = Field(
        0.01, ge=0, description="weight of the mean squared score of a pair's sum, which stops drift"
    )
    lora: AdapterSettings = Field(
        AdapterSettings(), description="adapter where the SFT model has none; rank 0 = train all weights"
    )
    method: Literal["adamw", "muon"] = Field(
        "adamw",
        description="adamw: for all; muon: orthogonalised momentum for the blocks' matrices, AdamW for the rest",
    )
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=1e-4)
    head_learning_rate: float = Field(1e-3, gt=0, description="peak learning rate of the scalar head")
    evaluations: int = Field(5, ge=1, description="how often the held-out rankings are scored, the last step included")


class EvaluateRewardSettings(StageSettings):
    """A reward model on held-out comparisons → report.json."""

    model: str = Field(description="reward model: a run of `heed reward` or its checkpoint directory")
    data: DataSettings = Field(DataSettings(), description="held-out rankings or comparisons; `--data FILE` works too")
    max_tokens: int = Field(512, ge=8, description="longest text; the prompt is cut from its left end")
    microbatch_tokens: int = Field(
        8192, ge=1, description="padded tokens in one forward pass; changes speed and memory only"
    )


class ScoreSettings(EvaluateRewardSettings):
    """Every response with its score, and the pairs that a reward model gets wrong."""

    data: DataSettings = Field(
        DataSettings(), description="rankings, comparisons, or candidates that nobody has ranked"
    )
    queue: str = Field(
        "", description="labels that get the worst mistakes as new tasks: what `heed label` was started with, or an URL"
    )
    queue_most: int = Field(20, ge=1, description="tasks that are queued at most, the worst mistakes first")
    queue_mode: Literal["rank", "pairwise"] = Field("rank", description="the mode in which `heed label` serves them")
