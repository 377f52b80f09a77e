"""Sets of tokens whose policy probability is known at every position, and whether the drawn token was in them (T8, T9).

Any set that depends on the text before a token and on the policy, but not on the token, gives a fair test: the number
of draws inside it is a sum of coins with known probabilities.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from heed.doctor.statistics import Absences, Count, Martingale, Sum, Uniform, in_float64
from heed.formulas.logprobs import TokenStatistics, log_softmax

NUCLEUS = 0.95
RANKS = (50, 200)
EARLY = 8  # tokens of a response within which an early end is counted
DEEPEST = 1024  # ranks that the nucleus is looked for in

EVENTS = {
    "eos": "end-of-text",
    "early_eos": "end-of-text within eight tokens",
    "last_eos": "end-of-text at the length at which responses are cut",
    "rank_50": "a token of rank 50 or more",
    "rank_200": "a token of rank 200 or more",
    "tail": "a token outside the .95 nucleus",
    "seen": "a token already in the context",
    "trigram": "a token that repeats a 3-gram",
}
"""The events that are counted, in words."""


@dataclass(frozen=True)
class Context:
    """The text before each counted token of a batch. `tokens` and `mask` are prompt and response in one row."""

    tokens: Int[Tensor, "batch time"]
    mask: Bool[Tensor, "batch time"]
    counted: Bool[Tensor, "batch time"]

    @classmethod
    def of(cls, prompts: Tensor, prompt_mask: Tensor, responses: Tensor, mask: Tensor) -> Self:
        """Of left-padded prompts and right-padded responses."""
        return cls(
            torch.cat([prompts, responses], 1),
            torch.cat([prompt_mask, mask], 1),
            torch.cat([torch.zeros_like(prompt_mask), mask], 1),
        )

    def before(self, index: Int[Tensor, " tokens"], responses: bool = False) -> tuple[Tensor, Tensor]:
        """Rows of the text before the counted tokens with these numbers (row-major), −1 where there is none, and
        their columns. `responses`: of the response alone."""
        rows, columns = self.counted.nonzero()[index.to(self.counted.device)].unbind(1)
        time = torch.arange(self.tokens.shape[1], device=columns.device)
        visible = (self.counted if responses else self.mask)[rows] & (time < columns[:, None])
        return self.tokens[rows].masked_fill(~visible, -1), columns

    def positions(self, index: Int[Tensor, " tokens"]) -> Int[Tensor, " tokens"]:
        """How many counted tokens stand before each in its own response."""
        return (self.counted.cumsum(1) - 1)[self.counted][index.to(self.counted.device)]


def in_context(before: Int[Tensor, "tokens time"], vocab: int) -> Bool[Tensor, "tokens vocab"]:
    """True at the tokens that already stand in the text."""
    marks = torch.zeros(len(before), vocab + 1, dtype=torch.bool, device=before.device)
    return marks.scatter_(1, before.masked_fill(before < 0, vocab), True)[:, :vocab]


def closing(
    before: Int[Tensor, "tokens time"], columns: Int[Tensor, " tokens"], vocab: int, size: int = 3
) -> Bool[Tensor, "tokens vocab"]:
    """True at the tokens that would write an n-gram of that `size` of the text a second time."""
    time = before.shape[1]
    if time < size:
        return torch.zeros(len(before), vocab, dtype=torch.bool, device=before.device)
    same = torch.ones_like(before[:, size - 1 :], dtype=torch.bool)
    for back in range(1, size):  # from the last token to the first of the n-gram
        last = before.gather(1, (columns - back).clamp(min=0)[:, None])
        same &= (before[:, size - 1 - back : time - back] == last) & (last >= 0)
    return in_context(before[:, size - 1 :].masked_fill(~same, -1), vocab)


class Events:
    """Watches the logits of one batch go by in pieces: an observer for the scoring of a rollout.

    `eos` are the tokens that end a text; `temperature` divides the logits; `longest` is the length at which responses
    are cut, None where that is not known.
    """

    def __init__(
        self,
        context: Context,
        eos: tuple[int, ...],
        temperature: float = 1.0,
        generator: torch.Generator | None = None,
        longest: int | None = None,
    ) -> None:
        self.context, self.eos, self.temperature, self.generator = context, eos, temperature, generator
        self.longest = longest
        self.lines: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in EVENTS}
        self.uniforms: list[Tensor] = []
        self.choices = 0.0
        self.missed: Tensor | None = None
        self.drawn: Tensor | None = None

    @torch.no_grad()
    def __call__(self, logits: Tensor, ref_logits: Tensor, tokens: Tensor, index: Tensor) -> None:
        """Count one piece: `[tokens, vocab]` logits, the drawn tokens and their numbers in the batch."""
        p = log_softmax(logits, self.temperature).exp()
        chosen = p.gather(1, tokens[:, None])
        self._ranked(p, chosen)
        self._in_text(p, tokens, index)
        if self.eos:
            ends = torch.tensor(self.eos, device=tokens.device)
            ending, ended = p[:, ends].sum(1), torch.isin(tokens, ends)
            positions = self.context.positions(index)
            early = positions < EARLY
            self.lines["eos"].append((ending, ended))
            self.lines["early_eos"].append((ending[early], ended[early]))
            if self.longest is not None:
                last = positions == self.longest - 1
                self.lines["last_eos"].append((ending[last], ended[last]))
        noise = torch.rand(len(tokens), generator=self.generator).to(p.device)
        tied = (p * (p == chosen)).sum(1)
        self.uniforms.append((p * (p > chosen)).sum(1) + noise * tied)
        missed = in_float64(-torch.log1p(-p.clamp(max=1 - 1e-6)).sum(0))
        drawn = torch.zeros_like(missed, dtype=torch.bool).index_fill_(0, tokens.cpu(), True)
        self.missed = missed if self.missed is None else self.missed + missed
        self.drawn = drawn if self.drawn is None else self.drawn | drawn

    def _ranked(self, p: Tensor, chosen: Tensor) -> None:
        """Sets below a value of the sorted probabilities: ties then lie on one side together."""
        best = p.topk(min(DEEPEST, p.shape[1]), dim=1).values
        self.choices += float((1 - in_float64(best[:, 0])).sum())
        limits = {f"rank_{rank}": best[:, rank - 1 : rank] for rank in RANKS if rank < p.shape[1]}
        inside = (best.cumsum(1) < NUCLEUS).sum(1, keepdim=True).clamp(max=best.shape[1] - 1)
        limits["tail"] = best.gather(1, inside)
        for name, limit in limits.items():
            self.lines[name].append(((p * (p < limit)).sum(1), chosen[:, 0] < limit[:, 0]))

    def _in_text(self, p: Tensor, tokens: Tensor, index: Tensor) -> None:
        before, columns = self.context.before(index)
        sets = {"seen": in_context(before, p.shape[1]), "trigram": closing(before, columns, p.shape[1])}
        for name, members in sets.items():
            self.lines[name].append(((p * members).sum(1), members.gather(1, tokens[:, None])[:, 0]))

    def sums(self) -> dict[str, Sum]:
        """What the batch contributes to T8 and T9, by test."""
        found: dict[str, Sum] = {}
        for name, pieces in self.lines.items():
            if pieces:
                probabilities, happened = (torch.cat(part) for part in zip(*pieces, strict=True))
                found[f"T8 {name}"] = Count.of(probabilities, happened)
        if self.missed is not None and self.drawn is not None:
            found["T8 absent"] = Absences(self.missed, self.drawn)
            found["T9"] = Uniform(torch.cat(self.uniforms).cpu())
        return found


def token_sums(statistics: TokenStatistics, choices: float) -> dict[str, Sum]:
    """What flat per-token statistics contribute to T6, T7 and T10."""
    s = statistics
    k1 = s.logprobs - s.ref_logprobs
    return {
        "T6": Martingale.of(k1 - s.exact_kl, s.kl_variance, choices),
        "T7": Martingale.of(-s.logprobs - s.entropy, s.surprisal_variance, choices),
        "T10": Martingale.of(1 - (-k1).exp(), s.ref_ratio_variance, choices, ceiling=1.0),
    }


def add(one: dict[str, Sum], other: dict[str, Sum]) -> dict[str, Sum]:
    """The sums of two batches, test by test."""
    return {**other, **{name: line + other[name] if name in other else line for name, line in one.items()}}
