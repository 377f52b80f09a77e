from __future__ import annotations

import math

import pytest

from heed.formulas.overlap import bleu, chrf


def test_bleu_by_hand():
    # one sentence of 5 words against 6: 5/5 unigrams, 4/4, 3/3, 2/2 match; brevity penalty e^(1 − 6/5)
    found = bleu(["the cat sat on the"], ["the cat sat on the mat"])
    assert found.estimate == pytest.approx(100 * math.exp(1 - 6 / 5))
    assert found.n == 1


def test_equal_texts_and_no_texts():
    texts = ["the cat sat on the mat", "a dog ran far away"] * 5
    assert bleu(texts, texts).estimate == pytest.approx(100)
    assert chrf(texts, texts).low == pytest.approx(100)
    assert bleu([""] * 10, texts).estimate == 0.0
    assert chrf([""] * 10, texts).high == 0.0


def test_which_side_is_the_reference_matters():
    # precision: every word of a short text may be right, but not the other way round
    short, long = ["the cat sat on the"], ["the cat sat on the mat and then it slept all day"]
    assert bleu(long, short).estimate != pytest.approx(bleu(short, long).estimate, rel=0.1)


def test_interval_holds_the_estimate_and_is_the_same_twice():
    texts = ["the cat sat on the mat today", "a dog ran far away from here", "yes it is so", "no way"] * 20
    references = ["the cat sat on a mat today", "a dog ran away from there", "yes it was", "no way"] * 20
    found = chrf(texts, references)
    assert found.low < found.estimate < found.high
    assert found == chrf(texts, references)
