"""Masked sums, means, variances and whitening."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heed.formulas.masked import (
    masked_mean,
    masked_sum,
    masked_variance,
    masked_whiten,
)

MASK = torch.tensor([[True, True, False], [True, False, False]])


def padded(nonsense: float) -> Tensor:
    """1, 2 and 6 count: sum 9, mean 3, squared deviations 4 + 1 + 9 = 14."""
    rows = [[1.0, 2.0, nonsense], [6.0, nonsense, nonsense]]
    return torch.tensor(rows, dtype=torch.float64, requires_grad=True)


def gradient(x: Tensor, y: Tensor) -> Tensor:
    (result,) = torch.autograd.grad(y, x)
    return result


def row(*numbers: float) -> Tensor:
    return torch.tensor([numbers], dtype=torch.float64)


def test_sum_mean_and_variance_by_hand(nonsense: float) -> None:
    x = padded(nonsense)
    assert masked_sum(x, MASK).item() == 9
    assert masked_mean(x, MASK).item() == 3
    assert masked_variance(x, MASK).item() == pytest.approx(14 / 3)
    assert masked_variance(x, MASK, unbiased=True).item() == pytest.approx(14 / 2)


def test_gradients_by_hand_and_none_in_padding(nonsense: float) -> None:
    x = padded(nonsense)
    ones = torch.tensor([[1.0, 1.0, 0.0], [1.0, 0.0, 0.0]], dtype=torch.float64)
    deviations = torch.tensor([[-2.0, -1.0, 0.0], [3.0, 0.0, 0.0]], dtype=torch.float64)
    assert_close(gradient(x, masked_sum(x, MASK)), ones)
    assert_close(gradient(x, masked_mean(x, MASK)), ones / 3)
    assert_close(gradient(x, masked_variance(x, MASK)), 2 * deviations / 3)  # dσ²/dx = 2 (x − μ) / n


def test_whiten_by_hand(nonsense: float) -> None:
    x = row(1, 2, 3, 4, nonsense)
    mask = torch.tensor([[True, True, True, True, False]])
    deviations = row(-1.5, -0.5, 0.5, 1.5, 0)  # σ² = 5/4, with Bessel 5/3
    biased, bessel = deviations / math.sqrt(5 / 4), deviations / math.sqrt(5 / 3)
    assert biased[0, 0].item() == pytest.approx(-1.341641, abs=1e-6)
    assert bessel[0, 0].item() == pytest.approx(-1.161895, abs=1e-6)
    assert_close(masked_whiten(x, mask), biased, atol=1e-7, rtol=0)
    assert_close(masked_whiten(x, mask, unbiased=True), bessel, atol=1e-7, rtol=0)
    mean_of_counted = row(2.5, 2.5, 2.5, 2.5, 0)
    assert_close(masked_whiten(x, mask, shift_mean=False), biased + mean_of_counted, atol=1e-7, rtol=0)


def test_whiten_without_shift_gives_the_numbers_of_the_n_details() -> None:
    x = row(*(1.2 + 0.1 * i for i in range(9)))
    published = row(0.0508, 0.4381, 0.8254, 1.2127, 1.6, 1.9873, 2.3746, 2.7619, 3.1492)
    assert_close(masked_whiten(x, torch.ones_like(x).bool(), shift_mean=False), published, atol=5e-5, rtol=0)


def test_whiten_has_mean_0_and_variance_1_and_forgets_shift_and_scale() -> None:
    x = torch.randn(4, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.arange(7) < torch.tensor([[7], [3], [1], [5]])
    whitened = masked_whiten(x, mask)
    counted = whitened[mask]
    assert counted.mean().item() == pytest.approx(0, abs=1e-9)
    assert counted.square().mean().item() == pytest.approx(1, abs=1e-6)
    assert_close(masked_whiten(30 * x + 7, mask), whitened, atol=1e-6, rtol=0)
    assert whitened[~mask].abs().max() == 0


def test_whiten_of_equal_numbers_is_zero_and_its_epsilon_is_1e_8() -> None:
    mask = torch.tensor([[True, True]])
    assert masked_whiten(row(3, 3), mask).tolist() == [[0, 0]]
    # σ² = 1e-8 too, so the denominator is √(2e-8)
    assert_close(masked_whiten(row(-1e-4, 1e-4), mask), row(-1, 1) / math.sqrt(2))


def test_a_mean_of_nothing_is_not_a_number() -> None:
    assert math.isnan(masked_mean(row(1, 2), torch.tensor([[False, False]])).item())


def test_a_mean_over_microbatches_divides_by_the_global_count(nonsense: float) -> None:
    """Rows [1] and [2, 2, 2]: 7/4. A mean of means would be 3/2."""
    losses = torch.tensor([[1.0, nonsense, nonsense], [2.0, 2.0, 2.0]])
    mask = torch.tensor([[True, False, False], [True, True, True]])
    by_microbatch = [masked_sum(losses[i : i + 1], mask[i : i + 1]) for i in range(2)]
    assert sum(by_microbatch) / mask.sum() == masked_mean(losses, mask) == 1.75
