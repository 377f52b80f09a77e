from __future__ import annotations

import pytest

from heed.formulas.diversity import distinct, groups_of, self_bleu


def test_groups_are_whole_and_of_one_size():
    texts = [str(i) for i in range(25)]
    assert [len(group) for group in groups_of(texts)] == [10, 10]
    assert groups_of(texts)[1][0] == "10"
    assert [len(group) for group in groups_of(texts[:9])] == [4, 4]
    assert [len(group) for group in groups_of(texts[:20])] == [10, 10]
    assert [list(group) for group in groups_of(texts[:7], size=3)] == [["0", "1", "2"], ["3", "4", "5"]]
    assert groups_of(texts[:3]) == []


def test_distinct_by_hand():
    # groups of two: of "a b a" and "a b" 2 of 5 words and 2 of 3 pairs (ab, ba, ab) differ; of the others all do
    texts = ["a b a", "a b", "c d", "e f"]
    one, two = distinct(texts, 1), distinct(texts, 2)
    assert one.estimate == pytest.approx((2 / 5 + 4 / 4) / 2)
    assert two.estimate == pytest.approx((2 / 3 + 2 / 2) / 2)
    assert (one.n, two.n) == (2, 2)
    assert (one.low, one.high) == pytest.approx((2 / 5, 1.0))
    assert distinct(["a", "b", "c", "d"], 2).estimate == 1.0  # no pairs at all


def test_the_number_of_texts_does_not_move_it():
    few, many = ([f"the answer is {i % 7}" for i in range(count)] for count in (40, 400))
    assert distinct(few, 2).estimate == pytest.approx(distinct(many, 2).estimate, abs=0.02)


def test_self_bleu_by_hand():
    same, strange = ["the cat sat on the mat"] * 20, [" ".join(f"w{i}x{j}" for j in range(6)) for i in range(20)]
    assert self_bleu(same).estimate == pytest.approx(100.0)
    assert self_bleu(strange).estimate < 10
    mixed = self_bleu(same[:10] + strange[:10])
    assert mixed.estimate == pytest.approx((100 + self_bleu(strange).estimate) / 2, abs=1.0)
    assert mixed.n == 2
    # a text is not its own reference
    assert self_bleu(["a b c d e", "v w x y z"] * 2).estimate < 10


def test_self_bleu_of_texts_that_have_no_4_grams():
    assert self_bleu(["yes it is"] * 4).estimate == pytest.approx(100.0)  # one, two and three words together all match
    # "a b" with "a c" as its only reference: 1 of 2 words; 0 of 1 pairs is smoothed to a half
    assert self_bleu(["a b", "a c"] * 2).estimate == pytest.approx(100 * (1 / 2 * 1 / 2) ** (1 / 2))


def test_the_seed_reaches_the_interval():
    texts = [f"{'x ' * (i % 7 * (i // 10))}{i}" for i in range(120)]
    for measure in (lambda seed: distinct(texts, 1, seed), lambda seed: self_bleu(texts, seed)):
        assert measure(0) == measure(0)
        assert (measure(0).low, measure(0).high) != (measure(1).low, measure(1).high)
