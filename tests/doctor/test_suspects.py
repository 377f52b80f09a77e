"""Who drew these tokens? Gains by hand, and what the sampler's own numbers add."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from heed.doctor.events import Context
from heed.doctor.samplers import Suspect
from heed.doctor.suspects import Chain, Explanation, Ledger, Suspects

EOS = 0
P = torch.tensor([0.1, 0.5, 0.3, 0.1])


def weighed(tokens: list[list[int]], recorded: list[float] | None = None, longest: int | None = None) -> Ledger:
    """Rows of responses from one distribution, `P`, after a prompt of one token."""
    rows = torch.tensor(tokens)
    prompts = torch.full((len(rows), 1), 3)
    everything = torch.ones_like(rows, dtype=torch.bool)
    context = Context.of(prompts, torch.ones_like(prompts, dtype=torch.bool), rows, everything)
    logits = P.log().repeat(rows.numel(), 1)
    own = None if recorded is None else torch.tensor(recorded)
    suspects = Suspects(context, (EOS,), recorded=own, longest=longest)
    suspects(logits, logits, rows.flatten(), torch.arange(rows.numel()))
    return suspects.ledger


def blurred(ratio: float) -> float:
    return math.log(0.99 * ratio + 0.01)


def of(line: dict[Chain, float], setting: str) -> float:
    return next(value for (suspect,), value in line.items() if suspect.setting == setting)


def test_gain_and_divergence_of_a_cut_by_hand() -> None:
    ledger = weighed([[1, 2, 0]])  # the two likeliest hold 0.8; the third token is not among them
    assert of(ledger.gains, "top_k=2") == pytest.approx(2 * blurred(1 / 0.8) + blurred(0), rel=1e-4)
    assert of(ledger.divergences, "top_k=2") == pytest.approx(-3 * math.log(0.8), rel=1e-4)
    assert of(ledger.gains, "min_p=0.1") == pytest.approx(0, abs=1e-5)  # all are above 0.05
    assert (ledger.distance, ledger.tokens) == (0, 3)


def test_gain_of_a_temperature_by_hand() -> None:
    q = P**2 / (P**2).sum()
    ledger = weighed([[1, 3]])
    wanted = blurred(float(q[1] / P[1])) + blurred(float(q[3] / P[3]))
    assert of(ledger.gains, "temperature=0.5") == pytest.approx(wanted, rel=1e-4)
    assert of(ledger.divergences, "temperature=0.5") == pytest.approx(2 * float((q * (q / P).log()).sum()), rel=1e-4)


def test_a_forced_end_by_hand() -> None:
    ledger = weighed([[1, 2, 0], [1, 1, 2], [2, 1, 0]], longest=3)  # the second row was not forced
    setting = "end-of-text at length 3"
    assert of(ledger.gains, setting) == pytest.approx(2 * blurred(10) + blurred(0), rel=1e-4)
    assert of(ledger.divergences, setting) == pytest.approx(3 * math.log(10), rel=1e-4)
    assert not any(suspect.cause == "NK24" for (suspect,) in weighed([[1, 2, 0]]).gains)


def line(p: Tensor, tokens: list[int]) -> list[float]:
    return [float(p[token].log()) for token in tokens]


def test_recorded_numbers_of_a_cut_name_it_at_once() -> None:
    tokens = [1, 1, 2, 1]
    ledger = weighed([tokens], line(torch.tensor([0, 0.625, 0.375, 0]), tokens))
    assert ledger.tokens == 4
    assert ledger.distance == pytest.approx(-4 * math.log(0.8), rel=1e-4)
    assert of(ledger.misses, "top_k=2") == pytest.approx(0, abs=1e-5)
    assert of(ledger.gains, "top_k=2") < 1  # the tokens alone would prove nothing
    best = ledger.best()
    assert best is not None
    assert best.exact
    assert best.suspects[0].setting in ("top_k=2", "top_p=0.8", "top_p=0.7", "top_p=0.6", "min_p=0.2")
    assert best.suspects[0].cause == "NK1"


def test_recorded_numbers_that_cannot_be_the_suspects_count_against_it() -> None:
    ledger = weighed([[1, 0]], line(P, [1, 0]))
    assert of(ledger.misses, "top_k=2") == pytest.approx(-math.log(0.8) + 20, rel=1e-3)  # it never draws the second
    assert ledger.best() is None


class TestBest:
    good, fair = (Suspect("NK1", "top_k=5"),), (Suspect("NK2", "temperature=0.7"),)

    def ledger(self, **columns: object) -> Ledger:
        gains, divergences = {self.good: 30.0, self.fair: 20.0}, {self.good: 30.0, self.fair: 20.0}
        return Ledger(**{"gains": gains, "divergences": divergences, "misses": {}, **columns})  # type: ignore[arg-type]

    def test_the_largest_gain(self) -> None:
        assert self.ledger().best() == Explanation(self.good, 30.0)

    def test_a_gain_must_convince_and_be_what_it_should(self) -> None:
        assert self.ledger(gains={self.good: 9.0}, divergences={self.good: 9.0}).best() is None
        assert self.ledger(gains={self.good: 9.3}, divergences={self.good: 9.0}).best() == Explanation(self.good, 9.3)
        for odd in (61.0, 12.0):
            assert self.ledger(divergences={self.good: odd, self.fair: 41.0}).best() is None

    def test_past_the_first_misfit(self) -> None:
        """Twelve tokens at least: 16 explains the most and is contradicted, 8 is what can be said."""
        longer, shorter = (Suspect("NK4", "min_new_tokens=16"),), (Suspect("NK4", "min_new_tokens=8"),)
        gains, divergences = (
            {longer: 40.0, shorter: 12.0, self.fair: 19.0},
            {longer: 95.0, shorter: 12.5, self.fair: 19.0},
        )
        assert Ledger(gains, divergences).best() == Explanation(shorter, 12.0)
        del gains[shorter]  # another cause needs half of the largest gain
        assert Ledger(gains, divergences).best() is None
        assert Ledger({**gains, self.fair: 20.0}, divergences).best() == Explanation(self.fair, 20.0)

    def test_the_sampler_itself_is_believed(self) -> None:
        misses = {self.good: 60.0, self.fair: 24.0}
        assert self.ledger(misses=misses, distance=100.0, tokens=1000).best() == Explanation(self.fair, 20.0)
        # neither gives the numbers nor comes near: no one is named
        misses = {self.good: 60.0, self.fair: 51.0}
        assert self.ledger(misses=misses, distance=100.0, tokens=1000).best() is None
        # it comes near
        assert self.ledger(misses={self.good: 49.0}, distance=100.0, tokens=1000).best() == Explanation(self.good, 30.0)

    def test_a_sampler_that_reports_the_policy_itself_tells_nothing(self) -> None:
        misses = {self.good: 60.0, self.fair: 0.1}
        assert self.ledger(misses=misses, distance=0.9, tokens=1000).best() == Explanation(self.good, 30.0)
