from __future__ import annotations

import math

import pytest
from sacrebleu import corpus_bleu, corpus_chrf

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


def test_numbers_are_those_of_sacrebleu_itself():
    texts = ["a dog ran far away from here", "the cat sat on the mat today", "", "zzz"]
    references = ["a dog ran away from there", "the cat sat on a mat today", "something", "no"]
    assert bleu(texts, references).estimate == pytest.approx(corpus_bleu(texts, [references]).score)
    assert chrf(texts, references).estimate == pytest.approx(corpus_chrf(texts, [references]).score)


def test_interval_holds_the_estimate_and_is_the_same_twice():
    texts = ["the cat sat on the mat today", "a dog ran far away from here", "yes it is so", "no way"] * 20
    references = ["the cat sat on a mat today", "a dog ran away from there", "yes it was", "no way"] * 20
    found = chrf(texts, references)
    assert found.low < found.estimate < found.high
    assert found == chrf(texts, references)
    other = chrf(texts, references, seed=1)
    assert other.estimate == found.estimate and (other.low, other.high) != (found.low, found.high)


def test_bleu_is_the_geometric_mean_of_four_precisions():
    # "a b c d x" has 4 of 5 words, 3 of 4 pairs, 2 of 3 triples and 1 of 2 fours of its reference
    found = bleu(["a b c d x"], ["a b c d e"])
    assert found.estimate == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4))


def test_chrf_by_hand():
    # six characters, the last one wrong: 5 of 6 characters, 4 of 5 pairs … none of one six; precision is recall
    assert chrf(["abcdef"], ["abcdeg"]).estimate == pytest.approx(100 * (5 / 6 + 4 / 5 + 3 / 4 + 2 / 3 + 1 / 2 + 0) / 6)
    # the first half of its reference: precision 1, recall 6/12, 5/11 … 1/7; recall weighs twice (F2)
    recall = (6 / 12 + 5 / 11 + 4 / 10 + 3 / 9 + 2 / 8 + 1 / 7) / 6
    assert chrf(["abcdef"], ["abcdefghijkl"]).estimate == pytest.approx(100 * 5 * recall / (4 + recall))
