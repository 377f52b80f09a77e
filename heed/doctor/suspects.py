"""Which other sampler explains the drawn tokens better than the policy that was scored?

Each suspect is a distribution q made from the logits. Its gain is Σ log(q_ε(y) / π(y)), q_ε = 0.99·q + 0.01·π: the log
of a likelihood ratio, whose expectation e^gain is 1 for tokens drawn from π. So a gain over ln(10⁴) has a chance of at
most 10⁻⁴ in healthy rollouts, however often one looks (Ville's inequality). If q drew the tokens the gain is near
Σ KL(q‖π); the suspect of largest gain is named if that holds, so that no suspect is blamed for what it only resembles.

Where the sampler recorded log-probabilities of its own that are not π's, they say more than the tokens: the suspect is
named whose log q(y) are the recorded numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from heed.doctor.events import Context, closing, in_context
from heed.doctor.statistics import in_float64
from heed.formulas.logprobs import log_softmax

CONVINCING = 9.2  # nats
LIKENESS = (0.5, 1.5)  # of the gain to Σ KL(q‖π)
_BLUR = 0.01
PLAIN = 1e-3  # nats at the mean token: a sampler this near to π reports π itself
SAME, NEAR = 0.25, 0.5  # of the sampler's distance to π that a suspect may leave
_NEVER = -20.0  # log q of a token that q cannot draw

TOP_K = (2, 3, 5, 8, 10, 20, 30, 40, 50, 100, 200)
TOP_P = (0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98)
MIN_P = (0.02, 0.05, 0.1, 0.2)
TEMPERATURE = (0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.05, 1.1, 1.2, 1.35, 1.5, 2.0)
PENALTY = (1.05, 1.1, 1.2, 1.3, 1.5, 2.0)
SHORTEST = (1, 2, 4, 8, 16, 32, 64, 128, 1 << 30)


@dataclass(frozen=True)
class Suspect:
    """Another way to draw, by the cause it would be (NK…) and its setting."""

    cause: str
    setting: str


@dataclass
class Ledger:
    """Every suspect's gain and Σ KL(q‖π), in nats, over as many batches as are written into it.

    `misses` are Σ |log q(y) − recorded|, `distance` is Σ |log π(y) − recorded| over `tokens` tokens.
    """

    gains: dict[Suspect, float] = field(default_factory=dict)
    divergences: dict[Suspect, float] = field(default_factory=dict)
    misses: dict[Suspect, float] = field(default_factory=dict)
    distance: float = 0.0
    tokens: int = 0

    def write(self, suspect: Suspect, gain: float, divergence: float, miss: float = 0.0) -> None:
        """Add one batch's."""
        for column, value in ((self.gains, gain), (self.divergences, divergence), (self.misses, miss)):
            column[suspect] = column.get(suspect, 0.0) + value

    def best(self) -> tuple[Suspect, float] | None:
        """The suspect that gives the recorded numbers, else the one that explains the tokens best, if convincingly."""
        told = self.distance > PLAIN * self.tokens
        nearest = min(self.misses, key=lambda suspect: self.misses[suspect], default=None)
        if told and nearest is not None and self.misses[nearest] <= SAME * self.distance:
            return nearest, self.gains[nearest]
        name = max(self.gains, key=lambda suspect: self.gains[suspect], default=None)
        if name is None or self.gains[name] <= CONVINCING or (told and self.misses[name] > NEAR * self.distance):
            return None
        low, high = (share * self.divergences[name] for share in LIKENESS)
        return (name, self.gains[name]) if low <= self.gains[name] <= high else None


class Suspects:
    """An observer that weighs every suspect. Heavier than `Events`: for when something is wrong.

    A penalty acts on the logits before they are divided by the temperature. `recorded` are the sampler's own
    log-probabilities, one for each counted token; `longest` is the length at which responses were cut.
    """

    def __init__(
        self,
        context: Context,
        eos: int | None,
        temperature: float = 1.0,
        ledger: Ledger | None = None,
        recorded: Tensor | None = None,
        longest: int | None = None,
    ) -> None:
        self.context, self.eos, self.temperature = context, eos, temperature
        self.ledger = Ledger() if ledger is None else ledger
        self.recorded, self.longest = recorded, longest
        self.off: Tensor | None = None  # recorded − log π(y), of the piece that is being weighed

    @torch.no_grad()
    def __call__(self, logits: Tensor, ref_logits: Tensor, tokens: Tensor, index: Tensor) -> None:
        """Weigh one piece, as `Events` is called."""
        logp = log_softmax(logits, self.temperature)
        chosen = logp.gather(1, tokens[:, None])[:, 0]
        if self.recorded is not None:
            self.off = self.recorded.to(chosen.device)[index.to(chosen.device)] - chosen
            self.ledger.distance += float(in_float64(self.off.abs()).sum())
            self.ledger.tokens += len(chosen)
        self._truncations(logp.exp(), chosen.exp())
        self._others(logits, ref_logits, logp, tokens)
        self._penalties(logits, logp, tokens, index)
        self._bans(logp.exp(), tokens, index)

    def _add(self, cause: str, setting: str, ratio: Tensor, divergence: Tensor) -> None:
        """`ratio` is q(y) / π(y), `divergence` KL(q‖π) at each token."""
        gain = ((1 - _BLUR) * in_float64(ratio) + _BLUR).log().sum()
        miss = 0.0
        if self.off is not None:
            miss = float(in_float64((self.off - ratio.log().clamp(min=_NEVER)).abs()).sum())
        self.ledger.write(Suspect(cause, setting), float(gain), float(in_float64(divergence).sum()), miss)

    def _add_cut(self, cause: str, setting: str, kept: Tensor, mass: Tensor) -> None:
        """q is π without some tokens: `kept` says whether y is left, `mass` is π's mass of what is left."""
        mass = mass.clamp(min=1e-6)
        self._add(cause, setting, kept / mass, -mass.log())

    def _add_other(self, cause: str, setting: str, logits: Tensor, logp: Tensor, tokens: Tensor) -> None:
        """q is the softmax of other logits, already divided by the temperature."""
        logq = logits.float().log_softmax(-1)
        ratio = (logq - logp).gather(1, tokens[:, None])[:, 0].exp()
        self._add(cause, setting, ratio, (logq.exp() * (logq - logp)).sum(1))

    def _truncations(self, p: Tensor, chosen: Tensor) -> None:
        ordered = p.sort(dim=1, descending=True).values
        mass = ordered.cumsum(1)
        above = (p * (p > chosen[:, None])).sum(1)
        self._add_cut("NK5", "the likeliest token", chosen >= ordered[:, 0], ordered[:, 0])
        limits = {f"top_k={k}": torch.full_like(chosen, k - 1, dtype=torch.long) for k in TOP_K if k < p.shape[1]}
        limits |= {f"top_p={share}": (mass < share).sum(1).clamp(max=p.shape[1] - 1) for share in TOP_P}
        limits |= {f"min_p={share}": (ordered >= share * ordered[:, :1]).sum(1) - 1 for share in MIN_P}
        for setting, last in limits.items():
            smallest, kept = (line.gather(1, last[:, None])[:, 0] for line in (ordered, mass))
            inside = above < share_of(setting) if setting.startswith("top_p") else chosen >= smallest
            self._add_cut("NK1", setting, inside, kept)

    def _others(self, logits: Tensor, ref_logits: Tensor, logp: Tensor, tokens: Tensor) -> None:
        for factor in TEMPERATURE:
            changed = self.temperature * factor
            self._add_other("NK2", f"temperature={changed:.4g}", logits / changed, logp, tokens)
        between = {
            "the reference": ref_logits,
            "weights between the reference and the policy": (logits + ref_logits) / 2,
        }
        for setting, other in between.items():
            self._add_other("NK13", setting, other / self.temperature, logp, tokens)

    def _penalties(self, logits: Tensor, logp: Tensor, tokens: Tensor, index: Tensor) -> None:
        seen = in_context(self.context.before(index)[0], logits.shape[1])
        for penalty in PENALTY:
            punished = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
            self._add_other("NK3", f"repetition_penalty={penalty}", punished / self.temperature, logp, tokens)

    def _bans(self, p: Tensor, tokens: Tensor, index: Tensor) -> None:
        repeats = closing(*self.context.before(index), p.shape[1])
        repeated = repeats.gather(1, tokens[:, None])[:, 0]
        self._add_cut("NK3", "no_repeat_ngram_size=3", ~repeated, 1 - (p * repeats).sum(1))
        if self.eos is None:
            return
        position = self.context.positions(index)
        for shortest in SHORTEST:
            banned = position < shortest
            left = 1 - p[:, self.eos] * banned
            setting = f"min_new_tokens={shortest}" if shortest < SHORTEST[-1] else "at any length"
            self._add_cut("NK4", setting, ~(banned & (tokens == self.eos)), left)
        if self.longest is not None:
            forced = position == self.longest - 1
            certain = (tokens == self.eos) / p[:, self.eos].clamp(min=1e-9)
            price = -p[:, self.eos].clamp(min=1e-9).log()
            setting = f"end-of-text at length {self.longest}"
            self._add("NK24", setting, torch.where(forced, certain, 1.0), torch.where(forced, price, 0.0))


def share_of(setting: str) -> float:
    """The number in `top_p=0.8`."""
    return float(setting.partition("=")[2])
