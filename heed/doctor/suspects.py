"""Which other sampler explains the drawn tokens better than the policy that was scored?

Each suspect is a distribution q made from the logits. Its gain is Σ log(q_ε(y) / π(y)), q_ε = 0.99·q + 0.01·π: the log
of a likelihood ratio, whose expectation e^gain is 1 for tokens drawn from π. So a gain over ln(10⁴) has a chance of at
most 10⁻⁴ in healthy rollouts, however often one looks (Ville's inequality), and the suspect of largest gain is named.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from heed.doctor.events import Context, closing, in_context
from heed.formulas.logprobs import log_softmax

CONVINCING = 9.2  # nats
_BLUR = 0.01

TOP_K = (2, 3, 5, 8, 10, 20, 30, 40, 50, 100, 200)
TOP_P = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
MIN_P = (0.02, 0.05, 0.1, 0.2)
TEMPERATURE = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.35, 1.5, 2.0)
PENALTY = (1.05, 1.1, 1.2, 1.3, 1.5, 2.0)
SHORTEST = (1, 2, 4, 8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Suspect:
    """Another way to draw, by the cause it would be (NK…) and its setting."""

    cause: str
    setting: str


class Suspects:
    """An observer that adds up every suspect's gain, in nats. Heavier than `Events`: for when something is wrong.

    A penalty acts on the logits before they are divided by the temperature.
    """

    def __init__(self, context: Context, eos: int | None, temperature: float = 1.0) -> None:
        self.context, self.eos, self.temperature = context, eos, temperature
        self.gains: dict[Suspect, float] = {}
        self.tokens = 0

    @torch.no_grad()
    def __call__(self, logits: Tensor, ref_logits: Tensor, tokens: Tensor, index: Tensor) -> None:
        """Weigh one piece, as `Events` is called."""
        logp = log_softmax(logits, self.temperature)
        chosen = logp.gather(1, tokens[:, None])[:, 0]
        self.tokens += len(tokens)
        self._truncations(logp.exp(), chosen.exp())
        self._others(logits, ref_logits, chosen, tokens)
        self._bans(logits, logp.exp(), chosen, tokens, index)

    def best(self) -> tuple[Suspect, float] | None:
        """The suspect that explains the tokens best, if it does so convincingly."""
        name = max(self.gains, key=lambda suspect: self.gains[suspect], default=None)
        return (name, self.gains[name]) if name is not None and self.gains[name] > CONVINCING else None

    def _add(self, cause: str, setting: str, ratio: Tensor) -> None:
        """`ratio` is q(y) / π(y) at each token."""
        suspect, gain = Suspect(cause, setting), float(((1 - _BLUR) * ratio.double() + _BLUR).log().sum())
        self.gains[suspect] = self.gains.get(suspect, 0.0) + gain

    def _truncations(self, p: Tensor, chosen: Tensor) -> None:
        ordered = p.sort(dim=1, descending=True).values
        mass = ordered.cumsum(1)
        above = (p * (p > chosen[:, None])).sum(1)
        self._add("NK5", "the likeliest token", (chosen >= ordered[:, 0]) / chosen)
        limits = {f"top_k={k}": torch.full_like(chosen, k - 1, dtype=torch.long) for k in TOP_K if k < p.shape[1]}
        limits |= {f"top_p={share}": (mass < share).sum(1).clamp(max=p.shape[1] - 1) for share in TOP_P}
        limits |= {f"min_p={share}": (ordered >= share * ordered[:, :1]).sum(1) - 1 for share in MIN_P}
        for setting, last in limits.items():
            smallest, kept = (line.gather(1, last[:, None])[:, 0] for line in (ordered, mass))
            inside = above < share_of(setting) if setting.startswith("top_p") else chosen >= smallest
            self._add("NK1", setting, inside / kept)

    def _others(self, logits: Tensor, ref_logits: Tensor, chosen: Tensor, tokens: Tensor) -> None:
        for factor in TEMPERATURE:
            q = log_softmax(logits, self.temperature * factor).gather(1, tokens[:, None])[:, 0]
            self._add("NK2", f"temperature={self.temperature * factor:.4g}", (q - chosen).exp())
        between = {"the reference": ref_logits, "weights between the reference and the policy": (logits + ref_logits) / 2}
        for setting, other in between.items():
            q = log_softmax(other, self.temperature).gather(1, tokens[:, None])[:, 0]
            self._add("NK13", setting, (q - chosen).exp())

    def _bans(self, logits: Tensor, p: Tensor, chosen: Tensor, tokens: Tensor, index: Tensor) -> None:
        before, columns = self.context.before(index)
        seen, repeats = in_context(before, p.shape[1]), closing(before, columns, p.shape[1])
        for penalty in PENALTY:
            punished = torch.where(logits > 0, logits / penalty, logits * penalty)
            q = log_softmax(torch.where(seen, punished, logits), self.temperature).gather(1, tokens[:, None])[:, 0]
            self._add("NK3", f"repetition_penalty={penalty}", (q - chosen).exp())
        left = 1 - (p * repeats).sum(1).clamp(max=1 - 1e-6)
        self._add("NK3", "no_repeat_ngram_size=3", ~repeats.gather(1, tokens[:, None])[:, 0] / left)
        if self.eos is None:
            return
        allowed = (tokens != self.eos) / (1 - p[:, self.eos].clamp(max=1 - 1e-6))
        self._add("NK4", "at any length", allowed)
        position = self.context.positions(index)
        for shortest in SHORTEST:
            self._add("NK4", f"min_new_tokens={shortest}", torch.where(position < shortest, allowed, 1.0))


def share_of(setting: str) -> float:
    """The number in `top_p=0.8`."""
    return float(setting.partition("=")[2])
