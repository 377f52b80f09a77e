"""Settings of `heed evaluate`, `heed sample` and `heed chat`."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heed.settings.common import (
    DataSettings,
    HygieneSettings,
    MissingEosSettings,
    SamplingSettings,
    Settings,
    StageSettings,
    TemplateName,
)


class EndpointSettings(Settings):
    """A language model as a judge, behind an OpenAI-compatible address. Each pair is shown in both orders."""

    url: str = Field("", description="address before /chat/completions, as http://localhost:8000/v1; empty = none")
    model: str = Field("", description="the model's name there")
    key: str = Field("OPENAI_API_KEY", description="environment variable that holds the key")
    prompts: int = Field(100, ge=1, description="pairs that are judged, the first ones; two requests each")
    timeout: float = Field(60.0, gt=0, description="seconds to wait for an answer")


class HarnessSettings(Settings):
    """Public benchmarks by lm-evaluation-harness (heed[eval])."""

    tasks: tuple[str, ...] = Field((), description="names as in lm-eval, such as hellaswag; empty = none")
    limit: int = Field(0, ge=0, description="examples of each task; 0 = all")
    include: str = Field("", description="directory of your own tasks, which need no network")


class EvaluateSettings(StageSettings):
    """Two or more checkpoints on the same held-out prompts → report.json and samples.jsonl."""

    models: dict[str, str] = Field(
        description="name → checkpoint, the baseline first; for example {sft: runs/sft, ppo: runs/ppo}", min_length=2
    )
    reference: str = Field("", description="name in `models` that KL is measured from; empty = the first")
    reward_models: dict[str, str] = Field({}, description="name → reward model; the first decides the win rate")
    gold: bool = Field(False, description="also the gold score: for prompts of the pocket world alone")
    endpoint: EndpointSettings = EndpointSettings()
    people: DataSettings = Field(
        DataSettings(), description="rankings of these very answers, made on the page of heed label"
    )
    prompts: DataSettings = Field(
        DataSettings(), description="held-out prompts, or demonstrations (then BLEU is reported)"
    )
    overlap: tuple[Literal["bleu", "chrf", "rouge"], ...] = Field(
        ("bleu", "chrf"), description="likeness to reference answers; rouge needs heed[eval]"
    )
    hygiene: HygieneSettings = HygieneSettings()
    sampling: SamplingSettings = SamplingSettings()
    text: tuple[str, ...] = Field((), description="text files on which nats per token are measured")
    text_characters: int = Field(200_000, ge=1000, description="characters of `text` that are read")
    harness: HarnessSettings = HarnessSettings()
    few_shot: int = Field(
        0, ge=0, description="also each model that is not fine-tuned, shown so many demonstrations first; 0 = none"
    )
    best_of: int = Field(
        0, ge=0, le=1024, description="also best-of-n of the first model, by the first reward model: its n; 0 = none"
    )
    missing_eos: MissingEosSettings = MissingEosSettings()


class SampleSettings(StageSettings):
    """Prompts and a model → K candidate responses each, to be ranked."""

    model: str = Field(description="checkpoint that answers")
    prompts: DataSettings = Field(DataSettings(), description="prompts, or any rows that have them")
    hygiene: HygieneSettings = HygieneSettings()
    responses: int = Field(4, ge=2, le=9, description="candidates per prompt, K (paper: 4 to 9)")
    sampling: SamplingSettings = SamplingSettings()


class ChatSettings(Settings):
    """Talk to one checkpoint, or to two side by side."""

    models: tuple[str, ...] = Field(description="one or two checkpoints", min_length=1, max_length=2)
    max_new_tokens: int = Field(128, ge=1, description="longest answer in tokens")
    temperature: float = Field(0.7, ge=0, description="0 = always the likeliest token")
    template: TemplateName = Field("dialogue", description="used for a checkpoint that does not name its own")
    seed: int = Field(0, ge=0, description="seed of the sampler")
    dtype: str = Field("auto", pattern="^(auto|float32|bfloat16)$", description="dtype of the weights")
    device: str = Field("auto", description="cpu, cuda, mps; auto = the accelerator from 5 M weights")
    json_lines: bool = Field(
        False, description="a question and its answers are a line of JSON each, as the labeling page asks"
    )
