"""Settings that several stages share. No torch here: a wrong setting must be told in a second."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator


class Settings(BaseModel):
    """A frozen group of settings; an unknown name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _start_groups_from_their_defaults(cls, values: Any) -> Any:
        """A group that is given in part keeps the stage's own defaults for the rest, not the group's general ones."""
        if not isinstance(values, Mapping):
            return values
        defaults = {name: described.default for name, described in cls.model_fields.items()}
        return {name: _over(defaults.get(name), value) for name, value in values.items()}

    @field_validator("*", mode="before")
    @classmethod
    def _a_switch_is_not_a_number(cls, value: Any, info: ValidationInfo) -> Any:
        """Python takes True for 1, and YAML takes `yes` for True."""
        if isinstance(value, bool) and cls.model_fields[str(info.field_name)].annotation in (int, float):
            raise ValueError("should be a number, not a switch")
        return value


def _over(default: Any, value: Any) -> Any:
    """`value` laid over a group's default; whatever is not a group replaces its default."""
    if isinstance(default, DataSettings) and isinstance(value, str):
        value = {"path": value}
    if not isinstance(default, Settings) or not isinstance(value, Mapping):
        return value
    return dict(default) | {name: _over(getattr(default, str(name), None), item) for name, item in value.items()}


class AdapterSettings(Settings):
    """Low-rank adapters (peft). `rank: 0` trains every weight instead."""

    rank: int = Field(16, ge=0, description="rank of each update B·A; 0 = full fine-tuning")
    alpha: float = Field(32.0, gt=0, description="scale: the update is (alpha / rank)·B·A")
    targets: tuple[str, ...] = Field(
        (), description="module names that get an adapter; empty = every linear layer but the output head"
    )

    @model_validator(mode="before")
    @classmethod
    def _has_no_dropout(cls, values: Any) -> Any:
        """Recipes and runs may say so of stages that never have any."""
        if "dropout" in cls.model_fields or not isinstance(values, Mapping) or values.get("dropout") != 0:
            return values
        return {name: value for name, value in values.items() if name != "dropout"}


class LoraSettings(AdapterSettings):
    """Low-rank adapters (peft) in SFT. `rank: 0` trains every weight instead."""

    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the adapter's input; later stages have none")


class AdamWSettings(Settings):
    """AdamW with gradient clipping, at a constant learning rate."""

    learning_rate: float = Field(2e-4, gt=0, description="peak learning rate")
    weight_decay: float = Field(0.0, ge=0, description="AdamW weight decay (not on biases and norms)")
    betas: tuple[float, float] = Field((0.9, 0.95), description="Adam's decay rates (paper: 0.9, 0.95)")
    eps: float = Field(1e-8, gt=0, description="Adam's epsilon")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient norm clip (the paper gives none)")


class DecaySettings(AdamWSettings):
    """AdamW whose learning rate may fall."""

    schedule: Literal["cosine", "linear", "constant"] = Field(
        "cosine", description="decay after warm-up; cosine and linear end at `floor`"
    )
    floor: float = Field(0.1, ge=0, le=1, description="last learning rate as a share of the peak (paper: 0.1)")


class OptimizerSettings(DecaySettings):
    """AdamW with warm-up, decay and gradient clipping."""

    warmup: float = Field(0.03, ge=0, lt=1, description="share of the steps spent warming up (paper: 0 in SFT and RM)")


class DataSettings(Settings):
    """Where rows come from and which of them are kept."""

    path: str = Field("", description="a file, a directory in hub layout, or a hub data set name; empty = none")
    split: str = Field("train", description="split of a directory or hub data set")
    limit: int = Field(0, ge=0, description="keep at most so many rows, drawn with the stage's seed; 0 = all")
    sources: tuple[str, ...] = Field((), description="keep rows whose `source` starts with one of these; empty = all")
    columns: dict[str, str] = Field({}, description="rename columns first, for example {question: prompt}")

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, values: Any) -> Any:
        """A plain string is short for its `path`."""
        return {"path": values} if isinstance(values, str) else values


class HygieneSettings(Settings):
    """The paper's cleaning of prompts (section 3.2 and appendix A)."""

    shared_prefix: int = Field(
        200, ge=0, description="drop a prompt that shares its first N characters with an earlier one; 0 = off"
    )
    max_per_user: int = Field(200, ge=0, description="keep at most N prompts of one user (paper: 200); 0 = no limit")
    max_prompt_tokens: int = Field(256, ge=1, description="drop prompts longer than this (paper: 1,000)")


class SamplingSettings(Settings):
    """How to draw. There is no top-k, top-p or penalty: what is sampled is what is scored."""

    max_new_tokens: int = Field(64, ge=1, description="longest response in tokens (paper: 1,000)")
    temperature: float = Field(1.0, gt=0, description="divides the logits in sampler and scorer alike (paper: 1)")
    batch: int = Field(64, ge=1, description="prompts generated for at once, with random numbers of their own")


class MissingEosSettings(Settings):
    """The price of a missing end of text."""

    mode: Literal["subtract", "replace", "none"] = Field(
        "subtract", description="subtract `value`, replace the score by −value, or none: pay the score as it is"
    )
    value: float = Field(1.0, ge=0, description="in standard deviations of the reward model")


TemplateName = Literal["dialogue", "alpaca", "plain", "chat"]
DtypeName = Literal["auto", "float32", "bfloat16"]
TrackerName = Literal["wandb", "tensorboard", "trackio"]


class StageSettings(Settings):
    """What every stage has."""

    MAY_CHANGE: ClassVar[frozenset[str]] = frozenset(
        {"output", "overwrite", "resume", "dry_run", "save_every", "kept_states", "track"}
    )
    """Settings that may be others when a stopped run goes on; a stage adds its own."""

    output: str = Field(description="run directory that the stage writes")
    overwrite: bool = Field(False, description="replace a run in `output`, once the new one is finished")
    resume: bool = Field(False, description="go on with the run in `output` where it was stopped")
    dry_run: bool = Field(False, description="three steps, then what the run will need; nothing is written")
    save_every: int = Field(0, ge=0, description="steps between saved states; 0 = about ten minutes")
    kept_states: int = Field(2, ge=1, description="states that are kept while the run goes on")
    track: tuple[TrackerName, ...] = Field(
        (), description="wandb, tensorboard, trackio: follow metrics.jsonl there too"
    )
    seed: int = Field(0, ge=0, description="seed of every random choice in the stage")
    dtype: DtypeName = Field(
        "auto",
        description="dtype of frozen weights; auto = bfloat16 where that is faster",
    )
    device: str = Field(
        "auto",
        description="cpu, cuda, cuda:1, mps; auto = the accelerator from 5 M weights",
    )

    @field_validator("*", mode="after")
    @classmethod
    def _rows_come_from_somewhere(cls, value: Any, info: ValidationInfo) -> Any:
        """Which rows to take of no file: whoever says that forgot the file."""
        default = cls.model_fields[str(info.field_name)].default
        if isinstance(value, DataSettings) and not value.path and value != default:
            raise ValueError("names no `path` that these rows would come from")
        return value

    @classmethod
    def stage_name(cls) -> str:
        """What the stage is called: of `BestOfNSettings` best_of_n."""
        return re.sub(r"(?<!^)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])", "_", cls.__name__.removesuffix("Settings")).lower()


class TrainedSettings(StageSettings):
    """What stages have that train a checkpoint."""

    MAY_CHANGE: ClassVar[frozenset[str]] = StageSettings.MAY_CHANGE | {"recompute"}

    recompute: bool = Field(False, description="gradient checkpointing: less memory, up to half more time")
