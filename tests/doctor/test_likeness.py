"""Rounding: as far off as a lower precision, and in the same places."""

from __future__ import annotations

import pytest
import torch

from heed.doctor.likeness import rounded

CHANCE = torch.Generator().manual_seed(0)
ROUNDING = 0.01 * torch.randn(400, generator=CHANCE)
OTHER = 0.01 * torch.randn(400, generator=CHANCE)


def test_rounding_with_the_noise_of_other_kernels() -> None:
    found = rounded(ROUNDING + 0.7 * OTHER, {"float16": ROUNDING / 8, "bfloat16": ROUNDING})
    assert found is not None
    assert (found.id, found.severity, found.evidence["toggle"]) == ("NK16", "warning", "bfloat16")


def test_as_far_off_in_other_places_is_not_rounding() -> None:
    assert rounded(OTHER, {"bfloat16": ROUNDING}) is None


@pytest.mark.parametrize(("scale", "is_rounding"), [(0.3, False), (0.4, True), (2.9, True), (3.1, False)])
def test_much_farther_off_is_not_rounding(scale: float, is_rounding: bool) -> None:
    assert (rounded(scale * ROUNDING, {"bfloat16": ROUNDING}) is not None) == is_rounding


def test_a_few_tokens_prove_no_rounding() -> None:
    assert rounded(ROUNDING[:15], {"bfloat16": ROUNDING[:15]}) is None  # √15 is under 4
    assert rounded(ROUNDING[:17], {"bfloat16": ROUNDING[:17]}) is not None
