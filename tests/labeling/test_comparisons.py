"""Bradley–Terry with ties, win matrix, ratings and flags by model."""

from __future__ import annotations

import math

import choix
import numpy as np
import pytest
from numpy.typing import NDArray

from heed.labeling.agreement import Judgement
from heed.labeling.comparisons import (
    ELO,
    PRIOR,
    Results,
    bradley_terry,
    count,
    elo,
    mean_over_tasks,
    models,
    outcomes,
    win_share,
)

Array = NDArray[np.float64]


def fitted(wins: list[list[float]], ties: list[list[float]], prior: float = PRIOR) -> tuple[Array, float]:
    strengths, log_nu = bradley_terry(np.array([wins], dtype=float), np.array([ties], dtype=float), prior)
    return strengths[0], float(log_nu[0])


def test_two_models_by_hand() -> None:
    """30 wins, 10 losses, no ties, almost no prior: odds of 3, so θ1 − θ2 = log 3, and ν = 0."""
    strengths, log_nu = fitted([[0, 30], [10, 0]], [[0, 0], [0, 0]], prior=1e-7)
    assert strengths[0] - strengths[1] == pytest.approx(math.log(3), abs=1e-6)
    assert log_nu == -math.inf


def test_ties_by_hand() -> None:
    """40 wins, 10 losses, 50 ties are fitted exactly: e^gap = 4, and ν = 50 / √(40 · 10) = 2.5."""
    strengths, log_nu = fitted([[0, 40], [10, 0]], [[0, 50], [50, 0]], prior=1e-7)
    assert strengths[0] - strengths[1] == pytest.approx(math.log(4), abs=1e-6)
    assert math.exp(log_nu) == pytest.approx(2.5, abs=1e-6)


def test_a_model_that_never_lost_stays_finite() -> None:
    """8 wins, no loss. The prior is ½ win and ½ loss of each against strength 0; by symmetry the strengths are ±x, with

    8 (1 − p(2x)) + ½ (1 − p(x)) − ½ p(x) = 0,  p(x) = 1 / (1 + e^−x).
    """

    def p(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    (x, minus_x), _ = fitted([[0, 8], [0, 0]], [[0, 0], [0, 0]])
    assert minus_x == pytest.approx(-x)
    assert 8 * (1 - p(2 * x)) + 0.5 * (1 - p(x)) - 0.5 * p(x) == pytest.approx(0, abs=1e-8)
    assert 1 < x < 3


def test_nothing_but_ties_stays_finite() -> None:
    strengths, log_nu = fitted([[0, 0], [0, 0]], [[0, 12], [12, 0]])
    assert strengths == pytest.approx([0, 0], abs=1e-9)
    # the 12 ties and the two models' prior (1 win and 1 loss in all each way): 12 (1 − t) = 2 t with t = ν / (2 + ν)
    t = math.exp(log_nu) / (2 + math.exp(log_nu))
    assert 12 * (1 - t) == pytest.approx(2 * t, abs=1e-8)


def test_untied_case_is_choix() -> None:
    """The library has no prior of this kind, so the imaginary model is an item of its own; all counts are doubled."""
    wins = np.random.default_rng(3).integers(0, 9, size=(5, 5)) * (1 - np.eye(5, dtype=int))
    pairs = [(i, j) for i in range(5) for j in range(5) for _ in range(2 * int(wins[i, j]))]
    imaginary = [pair for i in range(5) for pair in ((i, 5), (5, i))]  # ½ win and ½ loss, doubled
    theirs = choix.opt_pairwise(6, pairs + imaginary, alpha=0, tol=1e-10)
    ours, _ = fitted(wins.tolist(), np.zeros((5, 5)).tolist())
    assert ours == pytest.approx(theirs[:5] - theirs[5], abs=1e-5)
    assert np.ptp(ours) > 0.3


def test_many_sets_are_fitted_as_each_alone() -> None:
    generator = np.random.default_rng(8)
    wins = generator.integers(0, 20, size=(7, 4, 4)) * (1.0 - np.eye(4))
    ties = np.array([np.triu(part, 1) + np.triu(part, 1).T for part in generator.integers(0, 5, size=(7, 4, 4))]) * 1.0
    ties[3] = 0  # one set without ties among sets with ties
    together, log_nu = bradley_terry(wins, ties)
    assert log_nu[3] == -math.inf and np.isfinite(np.delete(log_nu, 3)).all()
    for i in range(7):
        alone, nu = bradley_terry(wins[i : i + 1], ties[i : i + 1])
        assert together[i] == pytest.approx(alone[0], abs=1e-7) and (
            log_nu[i] == nu[0] or abs(log_nu[i] - nu[0]) < 1e-7
        )


def played(truth: Array, tasks: int, generator: np.random.Generator) -> Results:
    """Every two models once a task; Davidson's model with ν = 0.6."""
    wins, ties = np.zeros((2, tasks, len(truth), len(truth)))
    for i in range(len(truth)):
        for j in range(i):
            a, b = math.exp(truth[i]), math.exp(truth[j])
            tie = 0.6 * math.sqrt(a * b)
            drawn = generator.choice(3, size=tasks, p=np.array([a, b, tie]) / (a + b + tie))
            wins[:, i, j], wins[:, j, i] = drawn == 0, drawn == 1
            ties[:, i, j] = ties[:, j, i] = drawn == 2
    return Results(wins, ties)


def test_intervals_cover_the_true_strengths() -> None:
    """200 data sets of 60 tasks: 91 to 98 % of the 600 bootstrap intervals hold the truth; half as wide ones do not."""
    truth = np.array([0.5, 0.0, -0.5])
    generator = np.random.default_rng(1)
    held, by_half = 0, 0
    for _ in range(200):
        for found, theta in zip(elo(played(truth, 60, generator), seed=0, resamples=200), truth, strict=True):
            points = 1000 + ELO * theta
            held += found.low <= points <= found.high
            by_half += abs(points - (found.low + found.high) / 2) <= (found.high - found.low) / 4
    assert 0.91 <= held / 600 <= 0.98
    assert by_half / 600 < 0.8


def test_elo_scale_says_ten_to_one_with_400_points_around_1000() -> None:
    wins = np.zeros((1, 2, 2))
    wins[0, 0, 1], wins[0, 1, 0] = 100_000, 10_000
    first, second = elo(Results(wins, np.zeros((1, 2, 2))), seed=0, resamples=10)
    assert first.estimate - second.estimate == pytest.approx(400, abs=0.1)
    assert first.estimate + second.estimate == pytest.approx(2000)
    assert (first.n, second.n) == (1, 1)


def test_a_model_that_met_none_has_no_strength() -> None:
    wins = np.zeros((1, 3, 3))
    wins[0, 0, 2] = 1
    found = elo(Results(wins, np.zeros((1, 3, 3))), seed=0, resamples=10)
    assert [math.isnan(model.estimate) for model in found] == [False, True, False]
    assert found[1].n == 0


def test_outcomes_by_hand() -> None:
    mixed = Judgement("t", "anna", ranks=(2, 1, 2, 3), models=("a", "b", "b", "a"))
    # 0 and 3, and 1 and 2, are of one model; 0 loses to 1, ties with 2; 1 beats 3; 2 beats 3
    assert sorted(outcomes(mixed)) == [("a", "b", True), ("b", "a", False), ("b", "a", False), ("b", "a", False)]
    assert list(outcomes(Judgement("t", "anna", models=("a", "b"), none_acceptable=True))) == [("a", "b", True)]
    assert not list(outcomes(Judgement("t", "anna", models=("a", "b", "c"), none_acceptable=True)))
    assert not list(outcomes(Judgement("t", "anna", models=("a", ""), ranks=(1, 2))))


def test_win_matrix_by_hand() -> None:
    results = count(
        [
            Judgement("t1", "anna", ranks=(1, 2), models=("a", "b")),
            Judgement("t1", "boris", ranks=(1, 1), models=("a", "b")),
            Judgement("t2", "anna", ranks=(1, 2), models=("b", "a")),
        ],
        ["a", "b"],
    )
    assert results.wins[:, 0, 1].tolist() == [1, 0] and results.wins[:, 1, 0].tolist() == [0, 1]
    share = win_share(results, 0, 1)
    assert (share.estimate, share.n) == (1.5 / 3, 2)
    assert win_share(results, 1, 0).estimate == 1.5 / 3


def test_mean_is_weighted_by_what_each_task_holds() -> None:
    found = mean_over_tasks(np.array([14.0, 1.0, 0.0]), np.array([2.0, 1.0, 0.0]), seed=0, resamples=400)
    assert (found.estimate, found.low, found.high, found.n) == (
        5.0,
        1.0,
        7.0,
        2,
    )  # draws: both, the first or the last twice
    assert math.isnan(mean_over_tasks(np.zeros(1), np.zeros(1), seed=0).estimate)


def test_every_figure_of_a_model() -> None:
    yes, no = frozenset({"hallucination"}), frozenset[str]()
    found = models(
        [
            Judgement("t1", "anna", ranks=(1, 2), models=("new", "old"), ratings=(7, 2), flags=(no, yes)),
            Judgement("t1", "boris", ranks=(1, 2), models=("new", "old"), ratings=(5, None), flags=(yes, yes)),
            Judgement("t2", "anna", ranks=(2, 1), models=("old", "new"), ratings=(4, 6), none_acceptable=True),
            Judgement("gold", "anna", ranks=(1, 2), models=("old", "new"), gold=(1, 2)),
        ],
        resamples=50,
    )
    new, old = found.models
    assert (new.name, new.responses, new.likert.estimate) == ("new", 3, 6.0)
    assert (old.name, old.responses, old.likert.estimate) == ("old", 3, 3.0)
    assert new.elo.estimate > 1000 > old.elo.estimate
    assert (new.flags["hallucination"].estimate, old.flags["hallucination"].estimate) == (1 / 2, 1.0)
    assert new.acceptable.estimate == 2 / 3
    assert {(row.model, row.other): row.wins.estimate for row in found.matrix} == {
        ("new", "old"): 1.0,
        ("old", "new"): 0.0,
    }


def test_nobody_compared_anything() -> None:
    assert models([]).models == () and models([]).matrix == ()
