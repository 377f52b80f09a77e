"""A reward model that is not ours: any sequence classifier, with a tokenizer and an input form of its own.

Text in, score out. Its token ids have nothing to do with the policy's, so responses reach it as text.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    BatchEncoding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from heed.errors import CheckpointError
from heed.models.checkpoint import open_checkpoint
from heed.models.load import context_length, from_pretrained
from heed.models.vocabulary import check_vocabulary, unused_entry


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
        if Path(name).is_dir() and open_checkpoint(name).is_adapter:
            hint = f"give it as reward_model, or give what `heed export {name} --merge --output DIR` writes"
            raise CheckpointError(name, "is an adapter, not a whole classifier", hint)
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
        rows = len(model.get_input_embeddings().weight)
        check_vocabulary(tokenizer, rows, name)
        if tokenizer.pad_token_id is None or tokenizer.pad_token_id >= rows:
            tokenizer.pad_token = unused_entry(tokenizer, rows)
        if tokenizer.pad_token_id is None:
            batch = 1  # nothing to pad with
        # A classifier on a decoder reads its score at the last token that is no pad.
        model.config.get_text_config().pad_token_id = tokenizer.pad_token_id
        tokenizer.padding_side, tokenizer.truncation_side = "right", "left"
        return cls(model.to(device).eval().requires_grad_(False), tokenizer, form, batch)

    @property
    def longest(self) -> int:
        """Tokens that the model reads at most."""
        learned = _learned_positions(self.model)
        return min(context_length(self.model.config, self.tokenizer), *learned, 1 << 14)

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
        padding = len(answers) > 1
        options = {"return_tensors": "pt", "padding": padding, "truncation": True, "max_length": self.longest}
        if self.form == "pair":
            room = self.longest - self.tokenizer.num_special_tokens_to_add(pair=True) - 1  # one for the question
            kept = [self._cut(answer, room) for answer in answers]
            return self.tokenizer(questions, kept, **{**options, "truncation": "only_first"})
        return self.tokenizer([q + a for q, a in zip(questions, answers, strict=True)], **options)

    def _cut(self, answer: str, room: int) -> str:
        """An answer, or as much of its beginning as leaves room for any question at all."""

        def tokens(characters: int) -> int:
            return len(self.tokenizer(answer[:characters], add_special_tokens=False, verbose=False)["input_ids"])

        if tokens(len(answer)) <= room:
            return answer
        return answer[: bisect_right(range(len(answer)), room, key=tokens) - 1]


def _learned_positions(model: PreTrainedModel) -> list[int]:
    """Positions that a model has embeddings for. RoBERTa's begin after that of its pad token."""
    return [
        module.num_embeddings - (0 if module.padding_idx is None else module.padding_idx + 1)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) and name.endswith(("position_embeddings", "wpe"))
    ]
