"""A reward model that is not ours: any sequence classifier, with a tokenizer and an input form of its own.

Text in, score out. Its token ids have nothing to do with the policy's, so responses reach it as text.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BatchEncoding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from heed.errors import CheckpointError
from heed.models.load import from_pretrained


@dataclass(frozen=True)
class ExternalReward:
    """`form` "pair": tokenizer(question, answer), as OpenAssistant's DeBERTa reads; "text": one string."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    form: str
    batch: int = 16
    gain: float = 1.0
    bias: float = 0.0

    @classmethod
    def load(cls, name: str, form: str, batch: int, device: torch.device) -> ExternalReward:
        """Raises `CheckpointError` if the model is not there or gives more than one number."""
        model: PreTrainedModel
        model, told = from_pretrained(
            AutoModelForSequenceClassification.from_pretrained, name, output_loading_info=True
        )
        if model.config.num_labels != 1:
            raise CheckpointError(
                name, f"gives {model.config.num_labels} numbers a text, not 1", "use a classifier with num_labels 1"
            )
        if told["missing_keys"]:
            raise CheckpointError(
                name, f"has no weights for {min(told['missing_keys'])}", "use a classifier that was trained as one"
            )
        tokenizer = from_pretrained(AutoTokenizer.from_pretrained, name)
        return cls(model.to(device).eval().requires_grad_(False), tokenizer, form, batch)

    @torch.no_grad()
    def score_texts(self, questions: list[str], answers: list[str]) -> Float[Tensor, " texts"]:
        """Normalised scores; what does not fit the model's context is cut from the question's left end."""
        order = sorted(range(len(answers)), key=lambda i: len(questions[i]) + len(answers[i]))
        scores = torch.zeros(len(answers))
        for start in range(0, len(order), self.batch):
            rows = order[start : start + self.batch]
            encoded = self._encode([questions[i] for i in rows], [answers[i] for i in rows])
            scores[rows] = self.model(**encoded.to(self.model.device)).logits[:, 0].float().cpu()
        return self.gain * scores + self.bias

    def normalised(self, gain: float, bias: float) -> ExternalReward:
        """The same model with another normalisation."""
        return replace(self, gain=gain, bias=bias)

    def _encode(self, questions: list[str], answers: list[str]) -> BatchEncoding:
        self.tokenizer.truncation_side = "left"
        longest = min(self.tokenizer.model_max_length, 1 << 14)
        options = {"return_tensors": "pt", "padding": True, "truncation": True, "max_length": longest}
        if self.form == "pair":
            return self.tokenizer(questions, answers, **{**options, "truncation": "only_first"})
        return self.tokenizer([q + a for q, a in zip(questions, answers, strict=True)], **options)
