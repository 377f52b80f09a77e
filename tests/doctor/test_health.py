"""The bands of health on rows made up for them: each fires over its border, and not at it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from heed.doctor.findings import CAUSES
from heed.doctor.health import BANDS, COLLAPSE, Run, at_the_end, frozen, judge, off_policy, replay

RUN = Run(batch=64, longest=40)
Rows = list[dict[str, Any]]


def rows(first: int = 1, **columns: Sequence[float]) -> Rows:
    """Rows of the given columns; `a__b` is the metric a/b."""
    names = {name: name.replace("__", "/") for name in columns}
    length = max(len(values) for values in columns.values())
    return [
        {"step": first + i, **{names[name]: values[i] for name, values in columns.items() if i < len(values)}}
        for i in range(length)
    ]


def ids(made: Rows, run: Run = RUN) -> list[str]:
    return [found.id for found in judge(made, run)]


AT_AND_OVER = {
    # 2.0 → 1.0 is half; the last three count
    "H1": ("policy__entropy", [2.0] * 10 + [1.0] * 3, [2.0] * 10 + [0.99] * 3),
    "H2": ("policy__clip_fraction", [0.9, 0.3, 0.3, 0.3], [0.0, 0.3, 0.3, 0.31]),
    "H5": ("kl__exact", [30.0, 25.0], [0.0, 25.1]),
    "H8": ("policy__approx_kl", [0.05, 0.05, 0.05], [0.05, 0.05, 0.06]),
    # from 10 the way to 40 is half at 25
    "H4": ("length__mean", [10.0] * 5 + [25.0] * 5, [10.0] * 5 + [25.2] * 5),
    # a tenth, where four standard errors are less: 4·√(2·0.475·0.525/320) = 0.158
    "H7": ("length__eos_rate", [0.55] * 5 + [0.395] * 5, [0.55] * 5 + [0.385] * 5),
    "H3": ("value__explained_variance", [-1.0] * 9 + [0.0], [-1.0] * 9 + [-0.01]),
    "H9": ("length__mean", [20.0] * 5 + [10.0] * 3, [20.0] * 5 + [9.9] * 3),
    "H11": ("text__distinct_2", [0.4] * 5 + [0.2] * 3, [0.4] * 5 + [0.19] * 3),
    "H12": ("text__repeated_2", [0.1] * 5 + [0.25] * 3, [0.1] * 5 + [0.26] * 3),
}


@pytest.mark.parametrize(("name", "case"), AT_AND_OVER.items(), ids=AT_AND_OVER)
def test_a_band_fires_over_its_border_only(name: str, case: tuple[str, list[float], list[float]]) -> None:
    column, at, over = case
    assert ids(rows(**{column: at})) == []
    found = judge(rows(**{column: over}), RUN)
    assert [(one.id, one.severity) for one in found] == [(name, "warning")]
    assert found[0].hint and found[0].evidence


def test_a_score_that_nothing_ranked_had() -> None:
    """Four standard deviations of the first five steps' scores, whatever the reward model's unit."""
    spread, before = [0.5] * 5 + [9.0] * 8, [1.0] * 5 + [2.0] * 5
    assert ids(rows(score__mean=[*before, 3.0, 3.0, 3.0], score__sd=spread)) == []
    assert ids(rows(score__mean=[*before, 2.9, 3.0, 3.2], score__sd=spread)) == ["H14"]
    assert ids(rows(score__mean=[*before, 2.0, 2.0, 3.2], score__sd=spread)) == []  # one step is not enough
    held_out = rows(score__mean=[*before, 2.0, 2.0, 2.0], score__sd=spread)
    assert ids([*held_out[:-1], {**held_out[-1], "validation/score": 3.0}]) == []
    assert ids([*held_out[:-1], {**held_out[-1], "validation/score": 3.1}]) == ["H14"]
    assert ids([*held_out[:-2], {**held_out[-2], "validation/score": 3.1}, held_out[-1]]) == []  # another step's
    assert ids(rows(score__mean=[1.0] * 4 + [9.0] * 3, score__sd=spread)) == []


def test_a_band_needs_enough_rows() -> None:
    assert ids(rows(policy__clip_fraction=[0.9, 0.9])) == []
    assert ids(rows(policy__entropy=[2.0, 2.0, 0.1, 0.1, 0.1])) == []
    assert ids(rows(length__mean=[10.0] * 4 + [40.0] * 5)) == []


def test_entropy_may_halve_slowly_but_not_go() -> None:
    """2 % a step is 67 % in twenty steps and 32 % in sixty: it is neither halved in the window nor gone."""
    assert ids(rows(policy__entropy=[2 * 0.98**i for i in range(60)])) == []
    assert ids(rows(policy__entropy=[2 * 0.98**i for i in range(90)])) == ["H10"]  # 17 %
    assert ids(rows(policy__entropy=[2 * 0.95**i for i in range(40)])) == ["H1", "H10"]


def test_eos_rate_is_judged_by_what_the_batch_can_tell() -> None:
    """From 0.9 to 0.78: eight responses a step tell nothing, a thousand do."""
    made = rows(length__eos_rate=[0.9] * 5 + [0.78] * 5)
    assert ids(made, Run(batch=8, longest=40)) == []
    assert ids(made, Run(batch=1000, longest=40)) == ["H7"]


def test_long_answers_that_were_long_before_are_healthy() -> None:
    assert ids(rows(length__mean=[36.0] * 5 + [39.5] * 5)) == []


def test_explained_variance_may_be_low_while_it_rises() -> None:
    assert ids(rows(value__explained_variance=[-1.0] * 9)) == []
    assert ids(rows(value__explained_variance=[-1.0] * 10)) == ["H3"]  # at each of ten steps
    assert ids(rows(value__explained_variance=[-1.0] * 9 + [0.01] + [-1.0] * 8)) == []  # once it was not
    assert ids(rows(value__explained_variance=[-1.0] * 50 + [0.0] * 10)) == []
    late = [0.5] + [-0.2] * 9  # a mean of −0.13, after the fiftieth step
    assert ids(rows(value__explained_variance=[-1.0] * 50 + late)) == ["H3"]
    assert ids(rows(value__explained_variance=[-1.0] * 49 + late)) == []
    assert ids(rows(value__explained_variance=[-1.0] * 50 + [0.5] * 5 + [-0.2] * 5)) == []


def evaluated(values: Sequence[float], scores: Sequence[float]) -> Rows:
    """Every fifth row has a held-out score."""
    made = rows(score__mean=scores)
    for value, row in zip(values, made[4::5], strict=True):
        row["validation/score"] = value
    return made


def test_a_falling_held_out_score_beside_a_rising_one() -> None:
    rising = [0.1 * i for i in range(15)]
    assert ids(evaluated([1.0, 0.9, 0.74], rising)) == ["H6"]
    assert ids(evaluated([1.0, 0.9, 0.75], rising)) == []  # by a quarter and no more
    assert ids(evaluated([1.0, 0.8, 0.85], rising)) == []  # not twice in a row
    assert ids(evaluated([1.0, 0.6, 0.7], rising)) == ["H13"]  # far below at two evaluations
    assert ids(evaluated([1.0, 0.74, 0.75], rising)) == []  # a quarter, and no more
    assert ids(evaluated([0.5, 1.0, 0.6, 0.7], [0.1 * i for i in range(20)])) == ["H13"]  # the best is not the first
    assert ids(evaluated([1.0, 0.9, 0.7], rising[::-1])) == []  # both fall: that is not over-optimisation
    assert ids([*evaluated([1.0, 0.9, 0.7], rising), {"step": 16, "score/mean": 2.0}]) == []  # told once, when measured


def test_reward_paid_by_negative_kl() -> None:
    """Mean −1.5 of three rows with errors 0.5: the mean's error is 0.5/√3 = 0.29, four of them 1.15."""
    told = {"reward__kl_share": [0.6] * 3, "kl__k1_se": [0.5] * 3}
    assert ids(rows(kl__k1=[-1.5] * 3, **told)) == ["NK22"]
    assert ids(rows(kl__k1=[-1.1] * 3, **told)) == []
    assert ids(rows(kl__k1=[-1.5] * 3, **{**told, "reward__kl_share": [0.5] * 3})) == []
    assert ids(rows(kl__k1=[1.5] * 3, **told)) == []


def test_price_lowered_on_negative_kl() -> None:
    errors = {"kl__k1_se": [0.2, 0.2]}
    assert ids(rows(kl__coef=[0.1, 0.09], kl__k1=[-1.0, -1.0], **errors)) == ["NK23"]
    assert ids(rows(kl__coef=[0.1, 0.1], kl__k1=[-1.0, -1.0], **errors)) == []
    assert ids(rows(kl__coef=[0.1, 0.09], kl__k1=[-0.7, -1.0], **errors)) == []  # the step before decides
    assert frozen(0.1).id == "NK23" and "0.1" in frozen(0.1).message


def test_ratio_at_the_border() -> None:
    assert off_policy(1e-3, 1e-3) == []
    assert [found.id for found in off_policy(1.1e-3, 1e-3)] == ["T11"]


def healthy(generator: np.random.Generator, steps: int) -> Rows:
    """A run that goes as it should: KL up to 6, entropy down by a third, 64 responses a step, all with their noise."""
    made: Rows = []
    for step in range(1, steps + 1):
        way = 1 - np.exp(-step / 40)
        kl, eos = 6 * way, 0.85 + 0.1 * way
        se = 0.3 * way + 0.01
        made.append({
            "step": step, "score/mean": way + 0.12 * generator.normal(), "kl/exact": kl, "kl/coef": 0.05,
            "kl/k1": kl + se * generator.normal(), "kl/k1_se": se, "reward/kl_share": generator.uniform(),
            "policy/entropy": 2.5 * (1 - way / 3) + 0.08 * generator.normal(),
            "policy/clip_fraction": 0.08 * generator.uniform(0, 2), "policy/approx_kl": 0.01 * generator.uniform(0, 2),
            "value/explained_variance": 0.6 * way + 0.1 * generator.normal(),
            "length/mean": 20 + 4 * way + 1.2 * generator.normal(),
            "length/eos_rate": generator.binomial(64, eos) / 64,
            "text/distinct_2": 0.5 * (1 - way / 4) + 0.02 * generator.normal(),
            "text/repeated_2": 0.04 + 0.04 * way + 0.01 * generator.normal(),
        })  # fmt: skip
        if step % 20 == 0:
            made[-1]["validation/score"] = 0.8 * way + 0.09 * generator.normal()
    return made


def test_a_healthy_run_has_at_most_one_warning_in_two_hundred_rollouts() -> None:
    """20 runs of 200 steps, seeds 0 to 19."""
    told = [len(replay(healthy(np.random.default_rng(seed), 200), RUN)) for seed in range(20)]
    assert sum(told) <= 20


def test_replay_names_the_step() -> None:
    told = replay(rows(first=3, kl__exact=[1.0, 26.0, 2.0, 27.0]), RUN)
    assert [(step, found.id) for step, found in told] == [(4, "H5"), (6, "H5")]


def test_what_a_run_ends_with_is_no_warning() -> None:
    ended = rows(length__mean=[20.0] * 20 + [6.0] * 10, policy__clip_fraction=[0.5] * 30)
    assert at_the_end(ended, RUN) == ["H9"]  # the clip is how it was trained, not what it became
    assert at_the_end(rows(length__mean=[20.0] * 20 + [6.0] * 10 + [20.0] * 8), RUN) == []  # it came back
    assert at_the_end(rows(length__mean=[20.0] * 30), RUN) == []
    assert set(COLLAPSE) <= set(BANDS)


def test_collapses_of_twelve_steps_are_told() -> None:
    """Length 22.7 → 7.4, no explained variance at any step, answers such as `rrrrrrr`."""
    steps = range(12)
    made = rows(
        length__mean=[22.7 - 15.3 * step / 11 for step in steps], value__explained_variance=[-0.3] * 12,
        text__repeated_2=[0.02 + 0.7 * step / 11 for step in steps], kl__exact=[5.8] * 12,
    )  # fmt: skip
    assert ids(made) == ["H3", "H9", "H12"]
    assert at_the_end(made, RUN) == ["H9", "H12"]


def test_every_band_has_a_hint() -> None:
    assert all(hint or name in CAUSES for name, (_, hint) in BANDS.items())
