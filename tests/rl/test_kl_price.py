"""The controller of the price of KL: 32 episodes of 1,000, an error clipped to a fifth, is ± 0.64 %."""

from __future__ import annotations

import pytest

from heed.rl.kl_price import KLPrice


def test_the_coefficient_stays_without_a_target() -> None:
    price = KLPrice(0.05, 0.0, 10_000, batch=32)
    price.follow(20.0, is_valid=True)
    assert price.coef == 0.05


@pytest.mark.parametrize(("kl", "factor"), [(20.0, 1.0064), (0.0, 0.9936), (6.6, 1.0032)])
def test_the_coefficient_follows_the_target(kl: float, factor: float) -> None:
    price = KLPrice(0.05, 6.0, 1000.0, batch=32)
    price.follow(kl, is_valid=True)
    assert price.coef == pytest.approx(0.05 * factor)


@pytest.mark.parametrize(("kl", "is_valid"), [(0.0, False), (None, True)])
def test_a_kl_that_is_wrong_or_not_there_moves_nothing(kl: float | None, is_valid: bool) -> None:
    price = KLPrice(0.05, 6.0, 1000.0, batch=32)
    price.follow(kl, is_valid)
    assert price.coef == 0.05
