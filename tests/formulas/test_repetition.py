"""Distinct and repeated n-grams by hand; padding and order change nothing."""

from __future__ import annotations

import pytest
import torch

from heed.formulas.repetition import distinct_ngrams, repeated_ngrams

# 2-grams: 1 2, 2 1, 1 2 | 1 2, 2 3 | none.  Of five, three are distinct: 1 2, 2 1, 2 3
TOKENS = torch.tensor([[1, 2, 1, 2], [1, 2, 3, 1], [2, 1, 2, 1]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 0, 0, 0]]).bool()


def test_distinct_by_hand() -> None:
    assert float(distinct_ngrams(TOKENS, MASK, 2)) == pytest.approx(3 / 5)
    assert float(distinct_ngrams(TOKENS, MASK, 1)) == pytest.approx(3 / 8)
    assert float(distinct_ngrams(TOKENS, MASK, 3)) == pytest.approx(1)  # 1 2 1, 2 1 2, 1 2 3


def test_repeated_by_hand() -> None:
    # the first response repeats one of its three 2-grams, the second none of its two; the third has none
    assert float(repeated_ngrams(TOKENS, MASK, 2)) == pytest.approx((1 / 3 + 0) / 2)
    assert float(repeated_ngrams(TOKENS, MASK, 1)) == pytest.approx((2 / 4 + 0 / 3 + 0 / 1) / 3)
    rrrrr = torch.full((1, 5), 7)
    assert float(repeated_ngrams(rrrrr, torch.ones_like(rrrrr).bool(), 2)) == pytest.approx(3 / 4)


def test_answers_that_are_alike_repeat_each_other_and_not_themselves() -> None:
    alike = torch.tensor([[4, 5, 6, 7]]).repeat(10, 1)
    everything = torch.ones_like(alike).bool()
    assert float(distinct_ngrams(alike, everything, 2)) == pytest.approx(3 / 30)
    assert float(repeated_ngrams(alike, everything, 2)) == 0


def test_padding_and_the_order_of_responses_change_nothing() -> None:
    for formula in (distinct_ngrams, repeated_ngrams):
        wanted = formula(TOKENS, MASK, 2)
        assert torch.equal(formula(TOKENS.masked_fill(~MASK, 99), MASK, 2), wanted)
        assert torch.equal(formula(TOKENS.flip(0), MASK.flip(0), 2), wanted)


def test_without_ngrams() -> None:
    one = torch.ones(3, 1, dtype=torch.long)
    for tokens, mask in ((one, one.bool()), (TOKENS, torch.zeros_like(MASK))):
        assert float(distinct_ngrams(tokens, mask, 2)) == 1
        assert float(repeated_ngrams(tokens, mask, 2)) == 0
