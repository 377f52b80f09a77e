"""Settings of `heed ppo`. Where ours differ from InstructGPT's, the paper's value stands beside."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field

from heed.settings.common import (
    AdamWSettings,
    AdapterSettings,
    DataSettings,
    DecaySettings,
    HygieneSettings,
    MissingEosSettings,
    SamplingSettings,
    Settings,
    TrainedSettings,
)


class PtxSettings(Settings):
    """PPO-ptx: pretraining text in the policy's loss (equation 2)."""

    coef: float = Field(
        0.0,
        ge=0,
        description="weight of the token-mean cross-entropy; more of it keeps more of the text (paper: 27.8, normaliser not given)",
    )
    text: tuple[str, ...] = Field((), description="pretraining text files; needed when coef > 0")
    ratio: float = Field(1.0, gt=0, description="text sequences per episode (paper: 8)")
    sequence: int = Field(128, ge=8, description="tokens in a text sequence")


class ExternalRewardSettings(Settings):
    """Any sequence classifier, with its own tokenizer, as the reward model."""

    model: str = Field("", description="hub name or directory; empty = use `reward_model`")
    form: Literal["pair", "text"] = Field(
        "pair", description="pair: tokenizer(question, answer); text: one rendered string"
    )
    batch: int = Field(16, ge=1, description="texts scored at once; changes speed and memory only")
    normalise_prompts: int = Field(
        128, ge=8, description="prompts whose reference answers set gain (sd 1) and bias (mean 0)"
    )


class PPOSettings(TrainedSettings):
    """Step 3: reinforcement learning from the reward model (paper: section 3.5, appendix C.4)."""

    MAY_CHANGE: ClassVar[frozenset[str]] = TrainedSettings.MAY_CHANGE | {
        "steps",
        "evaluations",
        "kl_budget",
        "allow_biased_kl",
        "microbatch",
        "external_reward.batch",
        "select",
    }

    model: str = Field(description="the SFT model: initial policy and KL reference")
    reward_model: str = Field("", description="a run of `heed reward`; also the value model's first weights")
    external_reward: ExternalRewardSettings = ExternalRewardSettings()
    judge: str = Field("", description="a second reward model, of other rankings, for evaluations")
    gold: bool = Field(False, description="also the gold score at evaluations (pocket world)")
    prompts: DataSettings = Field(DataSettings(), description="prompts, or any rows that have them")
    validation_prompts: DataSettings = Field(
        DataSettings(), description="held-out prompts; empty = a share of `prompts`"
    )
    validation_share: float = Field(
        0.03, gt=0, lt=0.5, description="share of groups held out when there are no `validation_prompts`"
    )
    validation_limit: int = Field(128, ge=8, description="held-out prompts scored at each evaluation")
    hygiene: HygieneSettings = HygieneSettings()
    steps: int = Field(100, ge=1, description="rollout-and-update iterations (paper: 500)")
    batch: int = Field(64, ge=2, description="episodes a step (paper: 512)")
    minibatch: int = Field(16, ge=1, description="episodes per optimiser step (paper: 64)")
    microbatch: int = Field(16, ge=1, description="full-length episodes in a forward pass: speed and memory only")
    epochs: int = Field(2, ge=1, description="passes over a rollout (paper: 1)")
    sampling: SamplingSettings = SamplingSettings()
    kl_coef: float = Field(0.05, ge=0, description="price of a nat of KL per token, β (paper: 0.02)")
    kl_target: float = Field(0.0, ge=0, description="KL, nats per response, that kl_coef moves for; 0 = fixed (paper)")
    kl_horizon: float = Field(10_000.0, gt=0, description="episodes in which kl_coef moves by a fifth at most")
    kl_budget: float = Field(0.0, ge=0, description="stop when the exact KL is over it, nats a response; 0 = never")
    allow_biased_kl: bool = Field(False, description="go on where the doctor finds that the measured KL is wrong")
    missing_eos: MissingEosSettings = MissingEosSettings()
    gamma: float = Field(1.0, gt=0, le=1, description="discount (paper: 1)")
    gae_lambda: float = Field(0.95, ge=0, le=1, description="GAE's λ (the paper gives none)")
    clip_range: float = Field(0.2, gt=0, description="clip of the probability ratio, ε (paper: 0.2)")
    value_clip_range: float = Field(0.2, gt=0, description="clip of the value's move, in units of the score's sd")
    critic_warmup: int = Field(5, ge=0, description="first steps that train the value model alone")
    lora: AdapterSettings = Field(
        AdapterSettings(),
        description="policy's adapter where SFT left none; rank 0 = train all weights",
    )
    optimizer: DecaySettings = Field(
        DecaySettings(learning_rate=3e-5, schedule="constant", eps=1e-5),
        description="policy's optimiser",
    )
    warmup_steps: int = Field(10, ge=0, description="policy's first steps at a rising rate (paper: 10, from 10 %)")
    value_optimizer: AdamWSettings = Field(
        AdamWSettings(learning_rate=1e-4, eps=1e-5), description="value model's optimiser (paper: 9e-6)"
    )
    ema: float = Field(0.0, ge=0, lt=1, description="decay of averaged weights, saved in ema/; 0 = off (paper: 0.992)")
    ptx: PtxSettings = PtxSettings()
    evaluations: int = Field(5, ge=1, description="how often held-out prompts are answered and scored")
    select: Literal["last", "kl_budget", "heldout", "gold"] = Field(
        "last",
        description="checkpoint/: last, or best by score in kl_budget, judge or gold",
    )
