"""Spoilt answers, and what a reward model's scores of them say."""

from __future__ import annotations

import pytest

from heed.doctor.probes import FEWEST_LENGTHS, LOWEST, length_bias, separation, spoilt, wins
from heed.formulas.statistics import wilson


def test_answers_are_spoilt_in_four_ways() -> None:
    made = spoilt(["a b c d e f", "word", "x y z", "word"], seed=0)
    assert sorted((made["shuffled"][0] or "").split()) == list("abcdef") and made["shuffled"][0] != "a b c d e f"
    assert made["shuffled"][1] is None  # one word has one order
    assert made["empty"] == ["", "", "", ""]
    assert made["repeated"][1] == "word word"
    assert made["other"] == ["x y z", None, "a b c d e f", None]  # the same answer is no wrong one


def test_wins_by_hand() -> None:
    shares = wins([1.0, 2.0, 3.0, 0.0], {"empty": [0.0, 2.0, 4.0, None]})
    assert shares["empty"] == wilson(1.5, 3)


def test_separation_at_the_limit() -> None:
    """89 of 128: low end 0.6106; 87 of 128: low end 0.5945."""
    assert wilson(89, 128).low > LOWEST > wilson(87, 128).low
    assert separation({"empty": wilson(89, 128)}) == []
    found = separation({"empty": wilson(87, 128), "other": wilson(120, 128)})
    assert [(one.id, one.severity) for one in found] == [("RM16", "warning")]
    assert "an empty answer" in found[0].message and "another prompt" not in found[0].message
    assert found[0].evidence["empty"]["n"] == 128


def test_too_few_comparisons_are_not_judged() -> None:
    assert separation({"shuffled": wilson(3, 15)}) == []


@pytest.mark.parametrize(("sign", "rho"), [(1, "+1.00"), (-1, "-1.00")])
def test_scores_that_follow_length(sign: int, rho: str) -> None:
    lengths = list(range(FEWEST_LENGTHS))
    found = length_bias([float(sign * length**3) for length in lengths], lengths)
    assert [one.id for one in found] == ["RM13"] and rho in found[0].message
    assert length_bias([1.0] * FEWEST_LENGTHS, lengths) == []  # constant scores follow nothing
    assert length_bias([float(sign * one) for one in lengths[:-1]], lengths[:-1]) == []  # one answer too few
