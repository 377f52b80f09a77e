"""Who drew these tokens? Gains by hand, and what the sampler's own numbers add."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from heed.doctor.events import Context
from heed.doctor.samplers import GREEDY, REFERENCE, Suspect, suspect
from heed.doctor.suspects import Chain, Chains, Explanation, Ledger, Suspects, affordable, finer

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


class TestTwoAtOnce:
    cold, punished = suspect("temperature", 0.7), suspect("repetition_penalty", 1.2)

    def ledger(self, gains: dict[Chain, float], misses: dict[Chain, float] | None = None) -> Ledger:
        none = dict.fromkeys(gains, 0.0)
        return Ledger(gains, dict(gains), misses or none, 100.0 if misses else 0.0, 1000)

    def test_what_is_tried_next(self) -> None:
        chains = self.ledger(
            {(self.cold,): 50.0, (self.punished,): 20.0, (Suspect("NK13", REFERENCE),): 5.0}
        ).together()
        assert (self.cold, self.punished) in chains and (self.punished, self.cold) in chains
        assert not any(REFERENCE in (one.setting for one in chain) for chain in chains if len(chain) > 1)
        assert all(len({one.name for one in chain}) == len(chain) for chain in chains)  # no two numbers of a setting
        singles = [chain[0] for chain in chains if len(chain) == 1]
        assert self.cold in singles and suspect("temperature", 0.7 * 0.96) in singles

    def test_numbers_beside_one(self) -> None:
        assert [one.number for one in finer(suspect("top_k", 5))] == [5, 3, 4, 5, 6, 7, 8]
        assert [one.number for one in finer(suspect("top_p", 0.98))] == [0.98, 0.9016, 0.9212, 0.9408, 0.9604, 0.9996]
        assert finer(Suspect("NK5", GREEDY)) == [Suspect("NK5", GREEDY)]

    def test_two_must_explain_what_one_does_not(self) -> None:
        alone, both = (self.cold,), (self.cold, self.punished)
        one = self.ledger({alone: 50.0})
        # three chains: ln 3 and the usual 9.2 nats more, so 60.3
        for gain, wanted in ((60.0, alone), (61.0, both)):
            more = self.ledger({alone: 50.0, both: gain, (self.punished, self.cold): 1.0})
            assert one.settled(more) == Explanation(wanted, 50.0 if wanted == alone else gain)

    def test_recorded_numbers_need_a_quarter_of_the_misfit(self) -> None:
        alone, both = (self.cold,), (self.cold, self.punished)
        for left, wanted in ((6.0, alone), (4.0, both)):
            more = self.ledger({alone: 50.0, both: 50.0}, {alone: 20.0, both: left})
            settled = self.ledger({alone: 50.0}, {alone: 20.0}).settled(more)
            assert settled is not None and settled.suspects == wanted

    def test_two_cuts_are_one_cause(self) -> None:
        cut, both = suspect("top_k", 5), (suspect("top_k", 5), suspect("top_p", 0.9))
        more = self.ledger({(cut,): 50.0, both: 90.0})
        assert self.ledger({(cut,): 50.0}).settled(more) == Explanation((cut,), 50.0)

    def test_where_no_single_one_does(self) -> None:
        both = (self.cold, self.punished)
        assert Ledger().settled(self.ledger({both: 30.0})) == Explanation(both, 30.0)
        assert Ledger().settled(Ledger()) is None


def test_chains_weigh_as_singles_do_until_enough_is_weighed() -> None:
    rows = torch.tensor([[1, 2, 0], [1, 1, 2]])
    context = Context.of(torch.full((2, 1), 3), torch.ones(2, 1).bool(), rows, torch.ones(2, 3).bool())
    logits, ledgers = P.log().repeat(6, 1), []
    chain = (suspect("temperature", 0.5),)
    for most, pieces in ((100, [slice(0, 6)]), (4, [slice(0, 6)]), (4, [slice(0, 3), slice(3, 6)])):
        chains = Chains(context, (EOS,), chains=[chain], most=most)
        for piece in pieces:
            chains(logits[piece], logits[piece], rows.flatten()[piece], torch.arange(6)[piece])
        ledgers.append(chains.ledger)
    assert [ledger.tokens for ledger in ledgers] == [6, 4, 4]
    assert ledgers[1].gains[chain] == pytest.approx(ledgers[2].gains[chain])
    singles = weighed(rows.tolist())
    assert ledgers[0].gains[chain] == pytest.approx(singles.gains[chain])
    assert ledgers[0].divergences[chain] == pytest.approx(singles.divergences[chain])


def test_what_may_be_weighed_is_bounded() -> None:
    assert affordable([()] * 100, 50_000) == 300
    assert affordable([()] * 1000, 250_000) == 128  # fewer would tell nothing
