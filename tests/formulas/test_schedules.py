"""Learning-rate factors and averaged weights."""

from __future__ import annotations

import math

import pytest
import torch

from heed.formulas.schedules import cosine, ema, linear, ppo_warmup, warmup


def test_cosine_by_hand() -> None:
    assert cosine(0.0, floor=0.1) == 1
    assert cosine(0.25, floor=0.1) == pytest.approx(0.868198, abs=5e-7)  # .1 + .9 · ½ (1 + √½)
    assert cosine(0.25, floor=0.1) == pytest.approx(0.1 + 0.45 * (1 + math.sqrt(0.5)))
    assert cosine(0.5, floor=0.1) == pytest.approx(0.55)
    assert cosine(1.0, floor=0.1) == pytest.approx(0.1)
    assert cosine(1.0, floor=0.0) == pytest.approx(0.0)


def test_linear_by_hand() -> None:
    assert [linear(x, floor=0.2) for x in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1.0, 0.8, 0.6, 0.2])


def test_warmup_by_hand() -> None:
    assert [warmup(step, 3) for step in range(5)] == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0])
    assert warmup(0, 0) == 1


def test_ppo_warmup_by_hand() -> None:
    assert [ppo_warmup(step, 10) for step in (0, 1, 5, 10, 11, 500)] == pytest.approx([0.1, 0.19, 0.55, 1.0, 1.0, 1.0])
    assert ppo_warmup(0, 0) == 1


def test_ema_by_hand() -> None:
    found = ema(torch.tensor([1.0, -2.0]), torch.tensor([0.0, 8.0]), decay=0.75)
    assert found.tolist() == [0.75, 0.5]


def test_ema_of_a_constant_is_the_constant_and_forgets_half_in_86_updates() -> None:
    constant = torch.tensor([3.7], dtype=torch.float64)
    assert ema(constant, constant, 0.992).item() == pytest.approx(3.7)
    average, zero = torch.ones(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for _ in range(86):
        average = ema(average, zero, 0.992)
    assert average.item() == pytest.approx(0.992**86)
    assert math.log(0.5) / math.log(0.992) == pytest.approx(86.3, abs=0.05)
    assert average.item() > 0.5 > ema(average, zero, 0.992).item()
