"""Agreement, biases and the interval of a share whose trials come in clusters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from heed.formulas.statistics import wilson
from heed.labeling.agreement import (
    Judgement,
    agreement,
    alpha,
    clustered_share,
    flags_alpha,
    gold_accuracy,
    kappa,
    labeler_against_labeler,
    length_bias,
    position_bias,
    quality,
    ranks_alpha,
    ratings_alpha,
    shared,
    tie_share,
    untied,
)
from heed.labeling.remarks import remarks


def test_clustered_share_of_single_trials_is_wilson() -> None:
    assert clustered_share([1] * 13 + [0] * 27, [1] * 40) == wilson(13, 40)


def test_clustered_share_by_hand() -> None:
    # 9 of 16: residuals 4 − 9/4, 3 − 9/4, 2 − 9/4, 0 − 9/4; their squares add up to 8.75
    variance = 4 / 3 * 8.75 / 16**2
    effective = math.floor((9 / 16) * (7 / 16) / variance)
    assert effective == 5
    found, expected = clustered_share([4, 3, 2, 0], [4, 4, 4, 4]), wilson(9 / 16 * 5, 5)
    assert (found.estimate, found.n) == (9 / 16, 4)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_clustered_share_counts_tasks_where_trials_all_agree() -> None:
    """Three tasks of six right pairs say as much as three right trials, not as eighteen."""
    found = clustered_share([6, 6, 6], [6, 6, 6])
    assert (found.estimate, found.low, found.high) == (1.0, wilson(3, 3).low, 1.0)
    alike = clustered_share([6, 6, 0, 0], [6, 6, 6, 6])  # each task speaks with one voice: 4 trials, not 24
    assert alike.low == pytest.approx(wilson(2, 4).low)


def test_clustered_share_leaves_out_tasks_without_a_trial() -> None:
    assert clustered_share([1, 0, 0], [1, 0, 1]) == clustered_share([1, 0], [1, 1])
    nothing = clustered_share([0], [0])
    assert math.isnan(nothing.estimate) and (nothing.low, nothing.high, nothing.n) == (0.0, 1.0, 0)


@pytest.mark.parametrize("share", [0.6, 0.73, 0.9])
@pytest.mark.parametrize("tasks", [30, 200])
def test_interval_covers_the_truth_where_pairs_of_a_task_hang_together(share: float, tasks: int) -> None:
    """1,500 data sets, six pairs a task, tasks of unlike difficulty: 91 to 98 % of intervals hold the true share.

    An interval over pairs as if they were independent covers less than 85 %, so this test can fail.
    """
    generator = np.random.default_rng(5)
    difficulty = generator.beta(share * 1.5, (1 - share) * 1.5, size=(1500, tasks))  # correlation 1/2.5 within a task
    successes = generator.binomial(6, difficulty)
    clustered, naive = 0, 0
    for row in successes:
        found, plain = clustered_share(row, np.full(tasks, 6)), wilson(int(row.sum()), 6 * tasks)
        clustered += found.low <= share <= found.high
        naive += plain.low <= share <= plain.high
    assert 0.91 <= clustered / 1500 <= 0.98
    assert naive / 1500 < 0.85


ANNA = Judgement("t1", "anna", ranks=(1, 2, 3))
BORIS = Judgement("t1", "boris", ranks=(1, 3, 2))
CHEN = Judgement("t1", "chen", ranks=(2, 1, 2))


def test_agreement_by_hand() -> None:
    # anna–boris: 01 and 02 alike, 12 not: 2 of 3. anna–chen: chen ties 0 and 2; 01 no, 12 yes: 1 of 2.
    # boris–chen: 01 no, 12 no: chen prefers 1 to 2, boris does not: 0 of 2.
    together = list(shared([CHEN, ANNA, BORIS]))
    assert [(a.labeler, b.labeler) for a, b in together] == [("anna", "boris"), ("anna", "chen"), ("boris", "chen")]
    assert agreement(together).estimate == 3 / 7
    found = quality([CHEN, ANNA, BORIS])
    assert (found.answers, found.tasks, found.untied_pairs, found.agreement.n) == (3, 1, 7, 1)


def test_nobody_is_compared_across_tasks_or_without_ranks() -> None:
    assert not list(
        shared([ANNA, Judgement("t2", "boris", ranks=(1, 2, 3)), Judgement("t1", "dora", ratings=(4, 4, 1))])
    )
    assert math.isnan(quality([]).agreement.estimate)


def test_two_labelers_get_their_tasks_agreement_and_kappa() -> None:
    more = [Judgement("t2", "anna", ranks=(1, 1)), Judgement("t2", "boris", ranks=(1, 1))]
    rows = labeler_against_labeler(list(shared([ANNA, BORIS, *more])))
    assert [(row.names, row.tasks) for row in rows] == [(("anna", "boris"), 2)]
    assert rows[0].agreement.estimate == 2 / 3
    # pairs 01 02 12 of t1 and 01 of t2: anna + + + 0, boris + + − 0; alike 3/4, by chance 3/4·2/4 + 1/4·1/4 = 7/16
    assert rows[0].kappa == pytest.approx((3 / 4 - 7 / 16) / (1 - 7 / 16))


def test_kappa_of_nobody_is_unknown() -> None:
    assert math.isnan(kappa([]))


OBSERVERS = ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .", "1 2 3 3 2 4 4 1 2 5 1 ."]
"""Twelve units, four observers (Krippendorff 2011, C): nominal α = 0.743, ordinal α = 0.815."""


def test_alpha_is_krippendorffs_in_his_published_example() -> None:
    values = [("t", k, int(v)) for row in OBSERVERS for k, v in enumerate(row.split()) if v != "."]
    assert alpha(values, "nominal") == pytest.approx(0.743, abs=5e-4)
    assert alpha(values, "ordinal") == pytest.approx(0.815, abs=5e-4)


def test_alpha_of_ratings_and_ranks_is_ordinal() -> None:
    rated = [tuple(None if v == "." else int(v) for v in row.split()) for row in OBSERVERS]
    assert ratings_alpha([Judgement("t", str(i), ratings=row) for i, row in enumerate(rated)]) == pytest.approx(
        0.815, abs=5e-4
    )
    each = [Judgement(f"t{k}", str(i), ranks=(row[k],)) for i, row in enumerate(rated) for k in range(12) if row[k]]
    assert ranks_alpha(each) == pytest.approx(0.815, abs=5e-4)


def test_alpha_by_hand() -> None:
    # four responses, anna and boris: 11 00 10 00. Coincidences: 11→2, 00→4, 10 and 01→1 each; n1 = 3, n0 = 5, n = 8
    # α = 1 − (n − 1) · o01 / (n0 n1) with o01 = 1
    yes, no = frozenset({"opinion"}), frozenset[str]()
    both = [Judgement("t", "anna", flags=(yes, no, yes, no)), Judgement("t", "boris", flags=(yes, no, no, no))]
    assert flags_alpha(both) == {"opinion": pytest.approx(1 - 7 * 1 / (5 * 3))}


def test_alpha_is_unknown_where_nothing_can_be_said() -> None:
    assert math.isnan(ranks_alpha([ANNA]))
    assert math.isnan(ratings_alpha([Judgement("t", "anna", ratings=(4, 4)), Judgement("t", "boris", ratings=(4, 4))]))
    assert math.isnan(
        ratings_alpha([Judgement("t", "anna", ratings=(4, None)), Judgement("t", "boris", ratings=(None, 2))])
    )


def test_alpha_pairs_labelers_of_the_same_response_only() -> None:
    same = [Judgement("t", "anna", ratings=(7, 1)), Judgement("t", "boris", ratings=(7, 1))]
    apart = [Judgement("t", "anna", ratings=(7, 1)), Judgement("u", "boris", ratings=(7, 1))]
    assert ratings_alpha(same) == 1.0
    assert math.isnan(ratings_alpha(apart))


def test_gold_counts_the_pairs_that_gold_orders() -> None:
    # gold 1 2 2: pairs 01 and 02 count, 12 does not. Given 1 3 1: 01 right, 02 a tie, half right.
    found = gold_accuracy([Judgement("t", "anna", ranks=(1, 3, 1), gold=(1, 2, 2)), ANNA])
    assert (found.estimate, found.n) == (1.5 / 2, 1)


def test_ties() -> None:
    assert tie_share([Judgement("t", "anna", ranks=(1, 1, 2)), Judgement("u", "anna", ranks=(1, 2))]).estimate == 1 / 4


def test_untied_names_the_better_first() -> None:
    assert list(untied((2, 1, 2, 3))) == [(1, 0), (0, 3), (1, 2), (1, 3), (2, 3)]


def test_position_bias_by_hand() -> None:
    # response 0 stood in place 2, 1 in place 0, 2 in place 1, and 1 > 0 > 2: place 0 won 2 of 2, place 2 1 of 2
    found = position_bias([Judgement("t", "anna", ranks=(2, 1, 3), slots=(2, 0, 1))])
    assert [share.estimate for share in found] == [1.0, 0.0, 0.5]
    assert position_bias([ANNA]) == ()


def test_length_bias_by_hand() -> None:
    # 0 > 1 (10 against 30: shorter), 0 > 2 (10 against 10: does not count), 1 > 2 (30 against 10: longer)
    found = length_bias([Judgement("t", "anna", ranks=(1, 2, 3), lengths=(10, 30, 10))])
    assert (found.estimate, found.n) == (1 / 2, 1)


def test_a_labeler_who_always_takes_the_first_place_shows() -> None:
    """300 tasks of four in random order: a fair labeler's places stay near 50 %, a lazy one's first place wins all."""
    generator = np.random.default_rng(2)
    orders = [tuple(int(x) for x in generator.permutation(4)) for _ in range(300)]
    lazy = [Judgement(str(i), "lazy", ranks=tuple(x + 1 for x in slots), slots=slots) for i, slots in enumerate(orders)]
    fair = [Judgement(str(i), "fair", ranks=(1, 2, 3, 4), slots=slots) for i, slots in enumerate(orders)]
    assert [share.estimate for share in position_bias(lazy)] == [1.0, 2 / 3, 1 / 3, 0.0]
    # a fair place wins 0, 1, 2 or 3 of 3 alike: variance 5/36 a task; four standard errors
    assert all(abs(share.estimate - 0.5) < 4 * math.sqrt(5 / 36 / 300) for share in position_bias(fair))


def test_each_labelers_row() -> None:
    rows = quality(
        [
            Judgement("t1", "anna", ranks=(1, 2), seconds=10.0, gold=(1, 2)),
            Judgement("t2", "anna", ranks=(1, 2), seconds=50.0),
            Judgement("t3", "anna", ranks=(1, 1), seconds=20.0),
            Judgement("t2", "boris", ranks=(2, 1)),
        ]
    ).labelers
    anna, boris = rows
    assert (anna.name, anna.answers, anna.seconds, anna.gold.estimate) == ("anna", 3, 20.0, 1.0)
    assert (anna.agreement.estimate, anna.ties.estimate) == (0.0, 1 / 3)
    assert (boris.name, boris.answers, boris.seconds) == ("boris", 1, None)
    assert math.isnan(boris.gold.estimate)


def test_gold_questions_are_kept_apart() -> None:
    gold = [Judgement("g", name, ranks=(2, 1), gold=(1, 2), lengths=(1, 9), slots=(0, 1)) for name in ("anna", "boris")]
    found = quality([*gold, Judgement("t", "anna", ranks=(1, 2)), Judgement("t", "boris", ranks=(2, 1))])
    assert (found.answers, found.tasks, found.agreement.estimate, found.untied_pairs) == (2, 1, 0.0, 1)
    assert found.slots == () and math.isnan(found.longer.estimate)
    assert [(row.answers, row.gold.estimate) for row in found.labelers] == [(2, 0.0), (2, 0.0)]


def test_remarks_name_what_is_wrong_and_nothing_else() -> None:
    judgements = []
    for i in range(60):
        slots = (0, 1) if i % 2 else (1, 0)
        judgements += [
            Judgement(f"t{i}", "slow", ranks=(1, 2), slots=slots, lengths=(5, 5), seconds=60.0),
            Judgement(f"t{i}", "fair", ranks=(1, 2), slots=slots, lengths=(5, 5), seconds=50.0),
        ]
    assert remarks(quality(judgements)) == []
    hasty = [
        Judgement(f"t{i}", "hasty", ranks=(1, 2) if i % 2 else (2, 1), slots=(0, 1) if i % 2 else (1, 0), seconds=2.0)
        for i in range(60)
    ]
    wrong = [Judgement(f"g{i}", "hasty", ranks=(2, 1), gold=(1, 2), seconds=2.0) for i in range(20)]
    longer = [Judgement(f"l{i}", "fair", ranks=(1, 2), lengths=(9, 5), seconds=50.0) for i in range(60)]
    told = "\n".join(remarks(quality([*judgements, *hasty, *wrong, *longer])))
    # each card wins half of the careful ones' 120 pairs, and card A all of the hasty one's 60: 120 of 180
    for words in (
        "Card A wins 67%",
        "Card B wins 33%",
        "longer response wins 100%",
        "hasty orders 0%",
        "hasty takes 2 s",
    ):
        assert words in told
    assert "slow" not in told and "fair" not in told
    at_odds = [Judgement(f"x{i}", name, ranks=ranks) for i in range(60) for name, ranks in
               (("one", (1, 2)), ("two", (1, 2) if i % 2 else (2, 1)))]  # fmt: skip
    assert "agree on 50%" in remarks(quality(at_odds))[0]


def test_a_flag_whose_meaning_nobody_shares_is_remarked_upon() -> None:
    """Both flag every fourth of the first response as false, never the same one; as opinion they flag the same."""
    told = []
    for i in range(40):
        for k, name in enumerate(("one", "two")):
            first = {"hallucination"} if i % 4 == k else set()
            flags = (frozenset(first | ({"opinion"} if i % 3 else set())), frozenset[str]())
            told.append(Judgement(f"t{i}", name, ranks=(1, 2) if i % 2 else (2, 1), flags=flags))
    (said,) = [line for line in remarks(quality(told)) if "by chance" in line]
    assert "“Hallucination”" in said
    assert not any("by chance" in line for line in remarks(quality(told[:30]))), "too few answers to say so"


def test_remark_that_nothing_can_be_said() -> None:
    assert "agreement is unknown" in remarks(quality([ANNA]))[0]
