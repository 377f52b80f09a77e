"""Sums of the doctor: exact tails by hand, and what happens where there is too little to say."""

from __future__ import annotations

import math

import pytest
import torch

from heed.doctor.statistics import Absences, Count, Martingale, Uniform, martingale_z

YES, NO = torch.tensor([True]), torch.tensor([False])


def count(probabilities: list[float], observed: int) -> Count:
    happened = torch.arange(len(probabilities)) < observed
    return Count.of(torch.tensor(probabilities, dtype=torch.double), happened)


class TestCount:
    def test_tails_by_hand(self) -> None:
        # two coins of .1 and .3:  P(0) = .9·.7 = .63   P(1) = .1·.7 + .9·.3 = .34   P(2) = .03
        below, above = count([0.1, 0.3], 1).tails
        assert below == pytest.approx(0.97)
        assert above == pytest.approx(0.37)
        assert count([0.1, 0.3], 2).tails == pytest.approx((1.0, 0.03))

    def test_tail_of_many_rare_events_is_exact(self) -> None:
        # 400 tokens of probability .05: none at all has probability .95^400 = 1.2e-9, a z of −5.97
        found = count([0.05] * 400, 0)
        assert found.tails[0] == pytest.approx(0.95**400, rel=1e-4)
        assert found.z == pytest.approx(-5.965, abs=0.01)

    def test_near_certain_events_count_too(self) -> None:
        # of 1,000 tokens with probability .999 each, 990 happened: nine more failures than the one expected
        found = count([0.999] * 1000, 990)
        assert found.variance < 1.1
        assert found.z is not None
        assert -6 < found.z < -4.5

    def test_rollouts_add_up_to_the_count_of_both(self) -> None:
        both, together = count([0.1, 0.2], 1) + count([0.3, 0.05], 2), count([0.1, 0.2, 0.3, 0.05], 3)
        assert both.tails == pytest.approx(together.tails)
        assert both.z == pytest.approx(together.z)

    def test_from_25_events_on_it_is_the_normal_z(self) -> None:
        found = count([0.5] * 100, 40)  # (40 − 50) / √25
        assert found.is_whole
        assert found.z == pytest.approx(-2.0)
        assert (found + count([0.5] * 100, 60)).z == 0

    def test_what_cannot_vary_is_not_tested(self) -> None:
        assert count([0.0, 1.0], 1).z is None


class TestMartingale:
    def test_z_by_hand(self) -> None:
        sums = Martingale.of(torch.tensor([1.0, 2.0, -1.0]), torch.tensor([0.5, 0.25, 0.25]), choices=200)
        assert sums.z == pytest.approx(2.0)  # 2 / √1
        assert (sums + sums).z == pytest.approx(4 / math.sqrt(2))

    @pytest.mark.parametrize(("variance", "choices"), [(0.0, 1e4), (1.0, 99.0), (math.inf, 1e4)])
    def test_too_little_is_not_tested(self, variance: float, choices: float) -> None:
        assert Martingale(3.0, variance, choices).z is None

    def test_a_ceiling_judges_one_side_by_bernstein(self) -> None:
        assert Martingale(6.0, 2.0, 200, ceiling=1.0).z == pytest.approx(6 / math.sqrt(2 + 6 / 3))
        assert Martingale(-50.0, 2.0, 200, ceiling=1.0).z is None

    def test_masked_form(self) -> None:
        mask = torch.tensor([[True, True, False]])
        z = martingale_z(torch.tensor([[1.0, 2.0, 1e6]]), torch.tensor([[2.0, 2.0, math.nan]]), mask)
        assert z == pytest.approx(1.5)
        assert martingale_z(torch.zeros(1, 3), torch.zeros(1, 3), mask) is None


class TestUniform:
    def test_distance_by_hand(self) -> None:
        # the largest step between sample and diagonal is at 0.4: F = 1 against 0.4
        assert Uniform(torch.tensor([0.2, 0.4])).distance == pytest.approx(math.sqrt(2) * 0.6)

    def test_limit_stands_at_four(self) -> None:
        values = torch.arange(400) / 400 * 0.875 + 0.125  # nothing below 0.125: √400 · 0.125 = 2.5
        assert Uniform(values).z == pytest.approx(4.0, abs=0.01)
        assert Uniform(values[:49]).z is None


class TestAbsences:
    def test_a_token_that_never_comes(self) -> None:
        absences = Absences(torch.tensor([30.0, 13.0, 11.0, 40.0]), torch.tensor([False, False, False, True]))
        assert absences.tokens == [0]  # 13 is under 12 + ln 3; 40 was drawn
        later = absences + Absences(torch.tensor([0.0, 1.0, 0.0, 0.0]), torch.tensor([True, False, False, False]))
        assert later.tokens == [1]  # 14 > 12 + ln 3 = 13.1, and the first has come since
        assert later.z == pytest.approx(-math.sqrt(28))
