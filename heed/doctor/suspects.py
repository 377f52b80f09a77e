"""Which other sampler explains the drawn tokens better than the policy that was scored?

Each suspect is a distribution q made from the logits. Its gain is Σ log(q_ε(y) / π(y)), q_ε = 0.99·q + 0.01·π: the log
of a likelihood ratio, whose expectation e^gain is 1 for tokens drawn from π. So a gain over ln(10⁴) has a chance of at
most 10⁻⁴ in healthy rollouts, however often one looks (Ville's inequality). If q drew the tokens the gain is near
Σ KL(q‖π): the suspect of largest gain of which that holds is named, so that none is blamed for what it only resembles.

Where the sampler recorded log-probabilities of its own that are not π's, they say more than the tokens: the suspect is
named whose log q(y) are the recorded numbers. Then two settings at once are looked for (`Chains`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from heed.doctor.events import Context
from heed.doctor.samplers import (
    GREEDY,
    GRIDS,
    HALFWAY,
    MIN_P,
    NEVER,
    NGRAMS,
    PENALTY,
    PRESENCE,
    REFERENCE,
    SHORTEST,
    TEMPERATURE,
    TOP_K,
    TOP_P,
    Piece,
    Suspect,
    drawn_by,
    suspect,
)
from heed.doctor.statistics import in_float64
from heed.formulas.logprobs import log_softmax

CONVINCING = 9.2  # nats
LIKENESS = (0.5, 1.5)  # of the gain to Σ KL(q‖π)
_BLUR = 0.01
PLAIN = 1e-3  # nats at the mean token: a sampler this near to π reports π itself
EXACT, SAME, NEAR = 0.03, 0.25, 0.5  # of the sampler's distance to π that a suspect may leave
RIVAL = 0.5  # of the largest gain that a suspect of another cause must have
_NEVER = -20.0  # log q of a token that q cannot draw

Chain = tuple[Suspect, ...]
"""Settings that a sampler has at once; most often one."""


@dataclass(frozen=True)
class Explanation:
    """The settings that explain a sampler, and by how many nats; `exact` where they give its recorded numbers."""

    suspects: Chain
    gain: float
    exact: bool = False


@dataclass
class Ledger:
    """Every chain's gain and Σ KL(q‖π), in nats, over as many batches as are written into it.

    `misses` are Σ |log q(y) − recorded|, `distance` is Σ |log π(y) − recorded| over `tokens` tokens.
    """

    gains: dict[Chain, float] = field(default_factory=dict)
    divergences: dict[Chain, float] = field(default_factory=dict)
    misses: dict[Chain, float] = field(default_factory=dict)
    distance: float = 0.0
    tokens: int = 0

    def write(self, chain: Chain, gain: float, divergence: float, miss: float = 0.0) -> None:
        """Add one batch's."""
        for column, value in ((self.gains, gain), (self.divergences, divergence), (self.misses, miss)):
            column[chain] = column.get(chain, 0.0) + value

    @property
    def has_recorded(self) -> bool:
        """Whether the sampler's own numbers are other ones than the policy's."""
        return self.distance > PLAIN * self.tokens

    def best(self) -> Explanation | None:
        """The chain that gives the recorded numbers, else the one that explains the tokens best, if convincingly.

        Where the one of largest gain is not what it seems, weaker numbers of its cause are looked at, and other causes
        that explain half as much.
        """
        nearest = min(self.misses, key=lambda chain: self.misses[chain], default=None)
        if self.has_recorded and nearest is not None and self.misses[nearest] <= SAME * self.distance:
            return Explanation(nearest, self.gains[nearest], self.misses[nearest] <= EXACT * self.distance)
        ranked = sorted(self.gains, key=lambda chain: -self.gains[chain])
        for chain in ranked:
            same = [one.cause for one in chain] == [one.cause for one in ranked[0]]
            if (same or self.gains[chain] >= RIVAL * self.gains[ranked[0]]) and self._explains(chain):
                return Explanation(chain, self.gains[chain])
        return None

    def _explains(self, chain: Chain) -> bool:
        gain = self.gains[chain]
        if gain <= CONVINCING or (self.has_recorded and self.misses[chain] > NEAR * self.distance):
            return False
        low, high = (share * self.divergences[chain] for share in LIKENESS)
        return low <= gain <= high

    def together(self) -> list[Chain]:
        """What to try next, where no setting alone gives the numbers: those that come nearest with other numbers, and
        each of them with one setting of another name."""
        order = self.misses if self.has_recorded else {chain: -gain for chain, gain in self.gains.items()}
        first = sorted((chain[0] for chain in order if len(chain) == 1), key=lambda one: order[(one,)])[:3]
        grid = [(suspect(name, number),) for name, numbers in GRIDS.items() for number in numbers]
        others = [chain[0] for chain in dict.fromkeys([*grid, *self.gains]) if chain in self.gains]
        singles = [(one,) for near in first for one in finer(near)]
        pairs = [(near, other) for near in first for other in others if fit_together(near, other)]
        return list(dict.fromkeys([*singles, *pairs]))

    def settled(self, more: Ledger) -> Explanation | None:
        """The verdict after `more` was tried: two settings must explain what one does not, by far."""
        alone = Ledger({chain: gain for chain, gain in more.gains.items() if len(chain) == 1}, more.divergences,
                       more.misses, more.distance, more.tokens)  # fmt: skip
        alone.misses = {chain: more.misses[chain] for chain in alone.gains}
        one, both = alone.best() or self.best(), more.best()
        if both is None or len(both.suspects) == 1 or len({found.cause for found in both.suspects}) == 1:
            return one
        if one is None:
            return both
        if more.has_recorded:
            return both if more.misses[both.suspects] < more.misses.get(one.suspects, math.inf) / 4 else one
        needed = CONVINCING + math.log(len(more.gains))
        return both if both.gain > more.gains.get(one.suspects, -math.inf) + needed else one


def finer(one: Suspect) -> list[Suspect]:
    """The suspect with itself and five numbers to each side, up to its neighbours in the grid."""
    numbers = GRIDS.get(one.name)
    if numbers is None or one.number <= 0:
        return [one]
    if one.name in ("top_k", "no_repeat_ngram_size", "min_new_tokens"):
        around = range(max(1, int(one.number * 0.7)), int(one.number * 1.4) + 2)
        step = max(1, len(around) // 10)
        return [one, *(suspect(one.name, number) for number in around[::step])]
    width = 0.02 if one.name in ("top_p", "repetition_penalty") else 0.04
    return [one, *(suspect(one.name, one.number * (1 + width * step)) for step in (-4, -3, -2, -1, 1, 2, 3, 4)
                   if one.name != "top_p" or one.number * (1 + width * step) < 1)]  # fmt: skip


def fit_together(one: Suspect, other: Suspect) -> bool:
    """Whether two settings may be at work at once: not two of a name, nor what leaves no choice, nor other weights."""
    alone = (GREEDY, REFERENCE, HALFWAY)
    return one.name != other.name and one.name not in alone and other.name not in alone


class Suspects:
    """An observer that weighs every suspect. Heavier than `Events`: for when something is wrong.

    A penalty acts on the logits before they are divided by the temperature. `recorded` are the sampler's own
    log-probabilities, one for each counted token; `longest` is the length at which responses were cut.
    """

    def __init__(
        self,
        context: Context,
        eos: tuple[int, ...],
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
        piece = self._begun(logits, ref_logits, tokens, index)
        logp = log_softmax(logits, self.temperature)
        p = logp.exp()
        self._truncations(p, p.gather(1, tokens[:, None])[:, 0])
        self._bans(p, tokens, piece)
        self._weigh([(one,) for one in self._general()], logp, tokens, piece)

    def _begun(self, logits: Tensor, ref_logits: Tensor, tokens: Tensor, index: Tensor) -> Piece:
        """The piece; how far the sampler's own numbers are from the policy's is written down."""
        self.ledger.tokens += len(tokens)
        if self.recorded is not None:
            chosen = log_softmax(logits, self.temperature).gather(1, tokens[:, None])[:, 0]
            self.off = self.recorded.to(chosen.device)[index.to(chosen.device)] - chosen
            self.ledger.distance += float(in_float64(self.off.abs()).sum())
        return Piece(logits, ref_logits, index, self.context, self.temperature, self.eos, self.longest)

    def _general(self) -> Iterable[Suspect]:
        """Suspects whose distribution has to be made over the whole vocabulary."""
        yield from (suspect("temperature", self.temperature * factor) for factor in TEMPERATURE)
        yield from (Suspect("NK13", setting) for setting in (REFERENCE, HALFWAY))
        yield from (suspect("repetition_penalty", penalty) for penalty in PENALTY)
        for name in ("presence_penalty", "frequency_penalty"):
            yield from (suspect(name, penalty) for penalty in PRESENCE)

    def _weigh(self, chains: Sequence[Chain], logp: Tensor, tokens: Tensor, piece: Piece) -> None:
        """Write each chain's gain and divergence down."""
        for chain in chains:
            logq = drawn_by(chain, piece)
            ratio = (logq - logp).gather(1, tokens[:, None])[:, 0].exp()
            q = logq.exp()
            self._add(chain, ratio, (q * (logq.clamp(min=-1e4) - logp)).sum(1))

    def _add(self, chain: Chain, ratio: Tensor, divergence: Tensor) -> None:
        """`ratio` is q(y) / π(y), `divergence` KL(q‖π) at each token."""
        gain = ((1 - _BLUR) * in_float64(ratio) + _BLUR).log().sum()
        miss = 0.0
        if self.off is not None:
            miss = float(in_float64((self.off - ratio.log().clamp(min=_NEVER)).abs()).sum())
        self.ledger.write(chain, float(gain), float(in_float64(divergence).sum()), miss)

    def _add_cut(self, one: Suspect, kept: Tensor, mass: Tensor) -> None:
        """q is π without some tokens: `kept` says whether y is left, `mass` is π's mass of what is left."""
        mass = mass.clamp(min=1e-6)
        self._add((one,), kept / mass, -mass.log())

    def _truncations(self, p: Tensor, chosen: Tensor) -> None:
        ordered = p.sort(dim=1, descending=True).values
        mass = ordered.cumsum(1)
        self._add_cut(Suspect("NK5", GREEDY), chosen >= ordered[:, 0], ordered[:, 0])
        limits: dict[tuple[str, float], Tensor] = {}
        limits |= {("top_k", k): torch.full_like(chosen, k - 1, dtype=torch.long) for k in TOP_K if k < p.shape[1]}
        limits |= {("top_p", share): (mass < share).sum(1).clamp(max=p.shape[1] - 1) for share in TOP_P}
        limits |= {("min_p", share): (ordered >= share * ordered[:, :1]).sum(1) - 1 for share in MIN_P}
        for (name, number), last in limits.items():
            smallest, kept = (line.gather(1, last[:, None])[:, 0] for line in (ordered, mass))
            self._add_cut(suspect(name, number), chosen >= smallest, kept)

    def _bans(self, p: Tensor, tokens: Tensor, piece: Piece) -> None:
        for size in NGRAMS:
            repeats = piece.repeats(size)
            repeated = repeats.gather(1, tokens[:, None])[:, 0]
            self._add_cut(suspect("no_repeat_ngram_size", size), ~repeated, 1 - (p * repeats).sum(1))
        if not self.eos:
            return
        ending, ended = p[:, piece.ends].sum(1), piece.ends[tokens]
        for shortest in (*SHORTEST, None):
            banned = torch.ones_like(ended) if shortest is None else piece.positions < shortest
            one = Suspect("NK4", NEVER) if shortest is None else suspect("min_new_tokens", shortest)
            self._add_cut(one, ~(banned & ended), 1 - ending * banned)
        if self.longest is not None:
            forced, rare = piece.positions == self.longest - 1, ending.clamp(min=1e-9)
            one = Suspect("NK24", f"end-of-text at length {self.longest}")
            zeros = torch.zeros_like(rare)
            self._add((one,), torch.where(forced, ended / rare, 1.0), torch.where(forced, -rare.log(), zeros))


class Chains(Suspects):
    """The same for a list of chains, each made over the whole vocabulary, until `most` tokens have been weighed."""

    def __init__(self, *arguments: object, chains: Sequence[Chain], most: int, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.chains, self.most = chains, most

    @torch.no_grad()
    def __call__(self, logits: Tensor, ref_logits: Tensor, tokens: Tensor, index: Tensor) -> None:
        left = max(0, self.most - self.ledger.tokens)
        logits, ref_logits, tokens, index = (part[:left] for part in (logits, ref_logits, tokens, index))
        if len(tokens):
            piece = self._begun(logits, ref_logits, tokens, index)
            self._weigh(self.chains, log_softmax(logits, self.temperature), tokens, piece)


WORK = 1_500_000_000
"""Numbers that `Chains` may compute: tokens · vocabulary · chains. Some twenty seconds on one core."""


def affordable(chains: Sequence[Chain], vocab: int) -> int:
    """Tokens that so many chains may be weighed over."""
    return max(128, WORK // (vocab * max(1, len(chains))))
