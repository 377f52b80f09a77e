"""Test statistics of a rollout: is what was drawn a sample of what was scored?

Each class is a sum over tokens that can be added to another rollout's, and gives a `z` that is standard normal for
tokens drawn from the policy that was scored, or None: not tested. Variances are conditional, from the whole
vocabulary; a sample's own variance is wrong exactly where a rare token has not been drawn yet.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any, Protocol, Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heed.formulas.masked import masked_sum

ENOUGH_EVENTS = 25.0
"""Variance of a count from which its z is read off the normal distribution; below, its tail is exact."""
ENOUGH_CHOICES = 100.0
"""Expected tokens other than the likeliest that a martingale needs: a peaked policy's sum is a few rare jumps."""
KS_LIMIT = 2.5
"""√n·KS that counts as z = 4; passed by chance with probability 2·exp(−2·2.5²) = 7e-6."""
WARN = 4.0
_ROUND = 256
_SMALLEST_TAIL = 1e-15


def martingale_z(
    deviations: Float[Tensor, "batch response"],
    variances: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
) -> float | None:
    """z = Σ D / √Σ Var: standard normal if tokens were drawn from the policy that was scored.

    `deviations` have expectation 0 given the text before them; `variances` are exact, over the whole vocabulary, and
    not the sample's own. None (not tested) where there is nothing to vary, as before the first update.
    """
    mask = mask.cpu()
    variance = float(masked_sum(in_float64(variances), mask))
    return float(masked_sum(in_float64(deviations), mask)) / math.sqrt(variance) if variance > 1e-6 else None


def in_float64(values: Tensor) -> Tensor:
    """In float64, on the processor: not every accelerator has it."""
    return values.cpu().double()


class Sum(Protocol):
    """What a rollout contributes to one test."""

    def __add__(self, other: Self) -> Self: ...

    @property
    def z(self) -> float | None:
        """Deviation in standard units; None = not tested."""
        ...

    @property
    def is_whole(self) -> bool:
        """Whether the sum has enough in it to be judged and begun anew."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Numbers and tensors from which `load_sum` makes the same sum."""
        ...


@dataclass(frozen=True)
class Martingale:
    """Deviations with expectation 0 given the text before them: z = Σ D / √Σ Var.

    `choices` is the expected number of tokens other than the likeliest. With a `ceiling` on single deviations z is
    Bernstein's, Σ D / √(Σ Var + ceiling·ΣD/3), and only positive sums are judged: below, one rare token may weigh all.
    """

    deviation: float = 0.0
    variance: float = 0.0
    choices: float = 0.0
    ceiling: float | None = None

    @classmethod
    def of(cls, deviations: Tensor, variances: Tensor, choices: float, ceiling: float | None = None) -> Martingale:
        """The sum of flat `[tokens]` lines."""
        return cls(float(in_float64(deviations).sum()), float(in_float64(variances).sum()), choices, ceiling)

    def __add__(self, other: Martingale) -> Martingale:
        return Martingale(
            self.deviation + other.deviation, self.variance + other.variance, self.choices + other.choices, self.ceiling
        )

    @property
    def z(self) -> float | None:
        if not self.is_whole or not math.isfinite(self.variance):
            return None
        if self.ceiling is None:
            return self.deviation / math.sqrt(self.variance)
        if self.deviation <= 0:
            return None
        return self.deviation / math.sqrt(self.variance + self.ceiling * self.deviation / 3)

    @property
    def is_whole(self) -> bool:
        return self.choices >= ENOUGH_CHOICES and self.variance > 1e-6

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "martingale", **vars(self)}


@dataclass(frozen=True)
class Count:
    """How often an event happened, and the distribution of that count: a Poisson–binomial of given probabilities.

    `wave` is the count's characteristic function at 2πl/256, a product over tokens, so that counts of independent
    rollouts add by multiplying; None where the variance is large enough for the normal distribution anyway.
    """

    observed: int
    expected: float
    variance: float
    wave: np.ndarray | None

    @classmethod
    def of(cls, probabilities: Float[Tensor, " tokens"], happened: Bool[Tensor, " tokens"]) -> Count:
        """The count over flat `[tokens]` lines."""
        p = in_float64(probabilities).clamp(0, 1).numpy()
        variance = float((p * (1 - p)).sum())
        wave = _characteristic(p) if variance < ENOUGH_EVENTS else None
        return cls(int(happened.sum()), float(p.sum()), variance, wave)

    def __add__(self, other: Count) -> Count:
        wave = self.wave * other.wave if self.wave is not None and other.wave is not None else None
        return Count(
            self.observed + other.observed, self.expected + other.expected, self.variance + other.variance, wave
        )

    @cached_property
    def z(self) -> float | None:
        if self.variance < 1e-9:
            return None
        if self.is_whole or self.wave is None:
            return (self.observed - self.expected) / math.sqrt(self.variance)
        below, above = self.tails
        tail = max(_SMALLEST_TAIL, min(below, above, 0.5))
        return NormalDist().inv_cdf(tail) * (1 if below < above else -1)

    @property
    def is_whole(self) -> bool:
        return self.variance >= ENOUGH_EVENTS

    @property
    def tails(self) -> tuple[float, float]:
        """P(X ≤ observed) and P(X ≥ observed), exact. The standard deviation is below 5, so 256 counts hold it all."""
        assert self.wave is not None
        masses = np.fft.irfft(self.wave.conj(), _ROUND).clip(min=0)
        counts = round(self.expected) - _ROUND // 2 + np.arange(_ROUND)
        masses = masses[counts % _ROUND]
        return float(masses[counts <= self.observed].sum()), float(masses[counts >= self.observed].sum())

    def state_dict(self) -> dict[str, Any]:
        wave = None if self.wave is None else torch.view_as_real(torch.from_numpy(self.wave.copy()))
        numbers = {"observed": self.observed, "expected": self.expected, "variance": self.variance}
        return {"kind": "count", **numbers, "wave": wave}


def _characteristic(p: np.ndarray) -> np.ndarray:
    """Π_t (1 − p_t + p_t·e^{iω}) at ω = 2πl/256, l = 0 … 128."""
    turns = np.exp(2j * np.pi * np.arange(_ROUND // 2 + 1) / _ROUND) - 1
    wave = np.ones(len(turns), dtype=complex)
    for start in range(0, len(p), 1024):
        wave *= np.prod(1 + p[start : start + 1024, None] * turns, axis=0)
    return wave


@dataclass(frozen=True)
class Uniform:
    """Numbers that should be uniform on [0, 1]: z = √n·KS · 4/2.5, so that the limit 2.5 stands where z = 4 does."""

    values: Float[Tensor, " tokens"]

    def __add__(self, other: Uniform) -> Uniform:
        return Uniform(torch.cat([self.values, other.values]))

    @property
    def z(self) -> float | None:
        return self.distance * WARN / KS_LIMIT if self.is_whole else None

    @property
    def distance(self) -> float:
        """√n · max |empirical − uniform distribution function|."""
        ordered, n = in_float64(self.values).sort().values, len(self.values)
        steps = torch.arange(n, dtype=torch.double) / n
        return math.sqrt(n) * float(torch.maximum(ordered - steps, steps + 1 / n - ordered).max())

    @property
    def is_whole(self) -> bool:
        return len(self.values) >= 50

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "uniform", "values": self.values}


@dataclass(frozen=True)
class Absences:
    """Tokens that were never drawn: the chance of that is e^−missed, missed = Σ_t −log(1 − π_t(v)).

    A token is absent when missed exceeds 12 plus the logarithm of how many tokens are that likely.
    """

    missed: Float[Tensor, " vocab"]
    drawn: Bool[Tensor, " vocab"]

    def __add__(self, other: Absences) -> Absences:
        return Absences(self.missed + other.missed, self.drawn | other.drawn)

    @property
    def tokens(self) -> list[int]:
        """Ids of the absent tokens, the most expected first."""
        expected = int((self.missed > 12).sum())
        if expected == 0:
            return []
        absent = (self.missed > 12 + math.log(expected)) & ~self.drawn
        ids = absent.nonzero()[:, 0]
        return [int(i) for i in ids[self.missed[ids].argsort(descending=True)]]

    @property
    def z(self) -> float | None:
        """−∞-like evidence is given as the normal equivalent of e^−missed: about −√(2·missed)."""
        absent = self.tokens
        return -math.sqrt(2 * float(self.missed[absent[0]])) if absent else 0.0

    @property
    def is_whole(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"kind": "absences", "missed": self.missed, "drawn": self.drawn}


KINDS: dict[str, type[Sum]] = {"martingale": Martingale, "count": Count, "uniform": Uniform, "absences": Absences}


def load_sum(state: Mapping[str, Any]) -> Sum:
    """The sum that a `state_dict` describes."""
    fields = {name: value for name, value in state.items() if name != "kind"}
    if fields.get("wave") is not None:
        fields["wave"] = torch.view_as_complex(fields["wave"].contiguous()).numpy()
    return KINDS[state["kind"]](**fields)
