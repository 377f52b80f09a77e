"""Settings of `heed pretrain`: plain text → a small GPT-2-architecture base model and its tokenizer."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heed.settings.common import OptimizerSettings, StageSettings


class PretrainSettings(StageSettings):
    """Step 0, for machines that have no base model: learn language from plain text."""

    text: tuple[str, ...] = Field(
        description="text files (.txt, plain or .gz/.xz), documents separated by <|endoftext|>"
    )
    limit_characters: int = Field(0, ge=0, description="read at most so many characters; 0 = all")
    validation_share: float = Field(0.02, gt=0, lt=0.5, description="share of documents held out for validation")
    tokenizer: Literal["bytes", "words"] = Field(
        "bytes", description="bytes: byte-level BPE trained here; words: one entry a word, for closed vocabularies"
    )
    vocabulary: int = Field(4096, ge=16, description="entries of the tokenizer, special ones included")
    layers: int = Field(4, ge=1, description="transformer blocks")
    width: int = Field(256, ge=8, description="hidden width")
    heads: int = Field(4, ge=1, description="attention heads; must divide width")
    context: int = Field(256, ge=8, description="positions that the model can see")
    batch: int = Field(32, ge=1, description="sequences a step")
    sequence: int = Field(128, ge=8, description="tokens in a training sequence; at most `context`")
    epochs: float = Field(1.0, gt=0, description="passes over the text")
    method: Literal["muon", "adamw"] = Field(
        "muon", description="muon: orthogonalised momentum for the blocks' matrices, AdamW for the rest; adamw: for all"
    )
    optimizer: OptimizerSettings = OptimizerSettings(learning_rate=1e-3, weight_decay=0.1)
