"""Other ways to draw a token than from the policy as it is scored: what each setting makes of the logits.

A setting is written as `generate` and vLLM call it: `top_k=50`. Several act in the order of their stage, as in those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from heed.doctor.events import Context, closing, in_context

TOP_K = (2, 3, 5, 8, 10, 20, 30, 40, 50, 100, 200)
TOP_P = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
MIN_P = (0.02, 0.05, 0.1, 0.2)
TEMPERATURE = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.35, 1.5, 2.0)
PENALTY = (1.05, 1.1, 1.2, 1.3, 1.5, 2.0)
PRESENCE = (0.1, 0.2, 0.5, 1.0, 1.5, 2.0)
NGRAMS = (2, 3, 4)
SHORTEST = (1, 2, 4, 8, 16, 32, 64, 128)

GREEDY, REFERENCE, HALFWAY, NEVER = (
    "the likeliest token", "the reference", "weights between the reference and the policy", "at any length",
)  # fmt: skip
STAGES = (
    (REFERENCE, HALFWAY),
    ("repetition_penalty", "presence_penalty", "frequency_penalty", "no_repeat_ngram_size", "min_new_tokens", NEVER,
     "end-of-text at length"),
    ("temperature",),
    ("top_k", "top_p", "min_p", GREEDY),
)  # fmt: skip
"""Which settings come before which."""


@dataclass(frozen=True)
class Suspect:
    """Another way to draw, by the cause it would be (NK…) and its setting."""

    cause: str
    setting: str

    @property
    def name(self) -> str:
        """The setting without its number."""
        return self.setting.partition("=")[0].rstrip(" 0123456789")

    @property
    def number(self) -> float:
        """The number of the setting; 0 where it has none."""
        text = self.setting.rpartition("=")[2].rpartition(" ")[2]
        return float(text) if text.replace(".", "").isdigit() else 0.0

    @property
    def stage(self) -> int:
        return next(i for i, names in enumerate(STAGES) if self.name in names)


CAUSES = {
    "top_k": "NK1", "top_p": "NK1", "min_p": "NK1", "temperature": "NK2", "repetition_penalty": "NK3",
    "presence_penalty": "NK3", "frequency_penalty": "NK3", "no_repeat_ngram_size": "NK3", "min_new_tokens": "NK4",
}  # fmt: skip
GRIDS: dict[str, tuple[float, ...]] = {
    "top_k": TOP_K, "top_p": TOP_P, "min_p": MIN_P, "temperature": TEMPERATURE, "repetition_penalty": PENALTY,
    "presence_penalty": PRESENCE, "frequency_penalty": PRESENCE, "no_repeat_ngram_size": NGRAMS,
    "min_new_tokens": SHORTEST,
}  # fmt: skip
"""The numbers that each setting is tried with; of the temperature, factors of that of the scorer."""


def suspect(name: str, number: float) -> Suspect:
    """`top_k=50` and its cause."""
    return Suspect(CAUSES[name], f"{name}={number:.4g}")


@dataclass(frozen=True)
class Piece:
    """Some counted tokens of a batch, and what every other sampler needs to know of them.

    `logits` and `ref_logits` are not yet divided by the `temperature`; `index` numbers the tokens in the batch.
    """

    logits: Tensor
    ref_logits: Tensor
    index: Tensor
    context: Context
    temperature: float = 1.0
    eos: tuple[int, ...] = ()
    longest: int | None = None
    _closing: dict[int, Tensor] = field(default_factory=dict)

    @cached_property
    def before(self) -> tuple[Tensor, Tensor]:
        return self.context.before(self.index)

    @cached_property
    def seen(self) -> Tensor:
        """Tokens of prompt and response so far."""
        return in_context(self.before[0], self.logits.shape[1])

    @cached_property
    def drawn(self) -> Tensor:
        """How often each token stands in the response so far."""
        text, _ = self.context.before(self.index, responses=True)
        vocab = self.logits.shape[1]
        counts = torch.zeros(len(text), vocab + 1, device=text.device)
        return counts.scatter_add_(1, text.masked_fill(text < 0, vocab), torch.ones_like(text, dtype=counts.dtype))[
            :, :vocab
        ]

    def repeats(self, size: int) -> Tensor:
        """Tokens that would write an n-gram of that size a second time."""
        if size not in self._closing:
            self._closing[size] = closing(*self.before, self.logits.shape[1], size)
        return self._closing[size]

    @cached_property
    def positions(self) -> Tensor:
        return self.context.positions(self.index)

    @cached_property
    def ends(self) -> Tensor:
        """True at the ids that end a text."""
        marks = torch.zeros(self.logits.shape[1], dtype=torch.bool, device=self.logits.device)
        return marks.index_fill(0, torch.tensor(self.eos, dtype=torch.long, device=marks.device), True)


def drawn_by(suspects: Sequence[Suspect], piece: Piece) -> Tensor:
    """log q of every token under a sampler with these settings at once, `[tokens, vocab]`."""
    logits = piece.logits.float()
    scaled = False
    for one in sorted(suspects, key=lambda one: one.stage):
        if one.stage >= 3 and not scaled:
            logits, scaled = logits / piece.temperature, True
        if one.name == "temperature":
            logits, scaled = logits / one.number, True
        else:
            logits = _changed(logits, one, piece)
    return (logits if scaled else logits / piece.temperature).log_softmax(-1)


def _changed(logits: Tensor, one: Suspect, piece: Piece) -> Tensor:
    """The logits under one setting that is not the temperature."""
    match one.name:
        case "repetition_penalty":
            punished = torch.where(logits > 0, logits / one.number, logits * one.number)
            return torch.where(piece.seen, punished, logits)
        case "presence_penalty":
            return logits - one.number * (piece.drawn > 0)
        case "frequency_penalty":
            return logits - one.number * piece.drawn
        case "no_repeat_ngram_size":
            return logits.masked_fill(piece.repeats(int(one.number)), -torch.inf)
        case "min_new_tokens":
            return logits.masked_fill((piece.positions < one.number)[:, None] & piece.ends, -torch.inf)
        case "end-of-text at length":
            forced = (piece.positions == one.number - 1)[:, None]
            return logits.masked_fill(forced & ~piece.ends, -torch.inf)
    return _other(logits, one, piece)


def _other(logits: Tensor, one: Suspect, piece: Piece) -> Tensor:
    """Other weights, no end at all, and what is cut off: above a number of the sorted probabilities."""
    if one.name == REFERENCE:
        return piece.ref_logits.float()
    if one.name == HALFWAY:
        return (logits + piece.ref_logits) / 2
    if one.name == NEVER:
        return logits.masked_fill(piece.ends, -torch.inf)
    p = logits.softmax(-1)
    if one.name == "top_p":
        ordered = p.sort(dim=1, descending=True).values
        last = (ordered.cumsum(1) < one.number).sum(1, keepdim=True).clamp(max=p.shape[1] - 1)
        return logits.masked_fill(p < ordered.gather(1, last), -torch.inf)
    if one.name == "min_p":
        return logits.masked_fill(p < one.number * p.amax(1, keepdim=True), -torch.inf)
    count = 1 if one.name == GREEDY else min(int(one.number), p.shape[1])
    return logits.masked_fill(p < p.topk(count).values[:, -1:], -torch.inf)
