"""Which model people prefer: Bradley–Terry strengths with ties, win matrix, ratings and flags of the models page.

Every interval is over tasks: the comparisons of one task, and its labelers, hang together.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from heed.formulas.statistics import Estimate, outer_quantiles, resampled_indices
from heed.labeling.agreement import Judgement, clustered_share

Array = NDArray[np.float64]

ELO = 400 / math.log(10)
"""Points on the Elo scale for one unit of log-odds: 400 points are odds of ten to one."""
PRIOR = 0.5
"""Imaginary wins, and as many losses, of each model against an average one: who never lost stays finite."""
RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Model:
    """One model's row: strength on the Elo scale (the mean of all is 1000), mean rating, share of flagged responses.

    `responses` counts judged responses. `acceptable`: share of the answers in which not all responses were refused.
    """

    name: str
    responses: int
    elo: Estimate
    likert: Estimate
    flags: Mapping[str, Estimate]
    acceptable: Estimate


@dataclass(frozen=True, slots=True)
class Wins:
    """How often `model` was preferred to `other`, ties as half; `n` counts tasks."""

    model: str
    other: str
    wins: Estimate


@dataclass(frozen=True, slots=True)
class Models:
    """All figures of the models page, the strongest model first."""

    models: tuple[Model, ...]
    matrix: tuple[Wins, ...]


@dataclass(frozen=True, slots=True)
class Results:
    """Comparisons of different models, by task: `wins[t, i, j]` of i over j, `ties[t, i, j]` = `ties[t, j, i]`."""

    wins: Array
    ties: Array


def models(judgements: Sequence[Judgement], seed: int = 0, resamples: int = RESAMPLES) -> Models:
    """Every figure of the models page. Responses of gold questions and of unnamed models are nobody's."""
    own = [judgement for judgement in judgements if not judgement.gold and any(judgement.models)]
    names = sorted({model for judgement in own for model in judgement.models if model})
    results = count(own, names)
    strengths = elo(results, seed, resamples)
    rows = [_model(name, strengths[i], own, seed, resamples) for i, name in enumerate(names)]
    matrix = [
        Wins(names[i], names[j], win_share(results, i, j))
        for i in range(len(names))
        for j in range(len(names))
        if i != j
    ]
    return Models(tuple(sorted(rows, key=lambda row: -row.elo.estimate)), tuple(matrix))


def outcomes(judgement: Judgement) -> Iterator[tuple[str, str, bool]]:
    """(better, worse, tie) for every two responses of different models. "Both are bad" without an order is a tie."""
    names, ranks = judgement.models, judgement.ranks
    if not ranks and judgement.none_acceptable and len(names) == 2:
        ranks = (1, 1)
    for i, j in combinations(range(len(ranks)), 2):
        if names[i] != names[j] and names[i] and names[j]:
            better, worse = (i, j) if ranks[i] <= ranks[j] else (j, i)
            yield names[better], names[worse], ranks[i] == ranks[j]


def count(judgements: Sequence[Judgement], names: Sequence[str]) -> Results:
    """Wins and ties between the named models in each task, as arrays `[tasks, models, models]`."""
    tasks = {task: t for t, task in enumerate(dict.fromkeys(judgement.task for judgement in judgements))}
    index = {name: i for i, name in enumerate(names)}
    wins, ties = np.zeros((2, len(tasks), len(names), len(names)))
    for judgement in judgements:
        for better, worse, tie in outcomes(judgement):
            t, i, j = tasks[judgement.task], index[better], index[worse]
            if tie:
                ties[t, i, j] += 1
                ties[t, j, i] += 1
            else:
                wins[t, i, j] += 1
    return Results(wins, ties)


def win_share(results: Results, i: int, j: int) -> Estimate:
    """How often model i was preferred to model j, ties as half."""
    wins, losses, ties = results.wins[:, i, j], results.wins[:, j, i], results.ties[:, i, j]
    return clustered_share(wins + ties / 2, wins + losses + ties)


def elo(results: Results, seed: int, resamples: int = RESAMPLES) -> list[Estimate]:
    """Strengths on the Elo scale with bootstrap intervals over tasks; NaN for a model that was compared with none."""
    tasks, size = results.wins.shape[:2]
    met = (results.wins + results.wins.transpose(0, 2, 1) + results.ties).sum(axis=2) > 0
    compared = np.flatnonzero(met.any(axis=0))
    found = [Estimate(math.nan, math.nan, math.nan, 0)] * size
    if len(compared):
        weights = resample_weights(tasks, seed, resamples)
        among = (part[:, compared][:, :, compared] for part in (results.wins, results.ties))
        wins, ties = (np.tensordot(weights, part, axes=1) for part in among)
        strengths, _ = bradley_terry(wins, ties)
        points = 1000 + ELO * (strengths - strengths.mean(axis=1, keepdims=True))
        low, high = outer_quantiles(points[1:], tasks)
        for place, i in enumerate(compared):
            found[i] = Estimate(float(points[0, place]), float(low[place]), float(high[place]), int(met[:, i].sum()))
    return found


def bradley_terry(wins: Array, ties: Array, prior: float = PRIOR) -> tuple[Array, Array]:
    """Strengths θ `[sets, models]` and log ν `[sets]` of Davidson's model with ties, for many data sets at once.

        P(i beats j) = e^θi / Z    P(tie) = ν e^((θi + θj)/2) / Z    Z = e^θi + e^θj + ν e^((θi + θj)/2)

    Maximum likelihood (Davidson 1970; without a tie ν = 0 and the model is Bradley and Terry's) by Newton's method:
    the likelihood is an exponential family's, so it has one maximum. `wins` and `ties` are `[sets, models, models]`,
    `ties` symmetric. Each model also has `prior` wins and losses against an imaginary one of strength 0.
    """
    sets, size = wins.shape[:2]
    wins, ties = (np.pad(part, ((0, 0), (0, 1), (0, 1))) for part in (wins, ties))
    wins[:, :size, size] = wins[:, size, :size] = prior
    played, has_ties = wins + wins.transpose(0, 2, 1) + ties, ties.any(axis=(1, 2))
    strengths, log_nu = np.zeros((sets, size + 1)), np.where(has_ties, 0.0, -np.inf)
    for _ in range(100):
        tie, expected = _probabilities(strengths, log_nu)
        score = np.zeros((sets, size + 1))
        score[:, :size] = (wins + ties / 2 - played * expected).sum(axis=2)[:, :size]
        score[:, size] = (ties - played * tie).sum(axis=(1, 2)) / 2
        information = _information(played, tie, expected)
        information[~has_ties, size, size] = 1
        step = np.linalg.solve(information, score[:, :, None])[:, :, 0].clip(-2, 2)
        strengths[:, :size] += step[:, :size]
        log_nu += step[:, size]
        if np.abs(step).max() < 1e-9:
            break
    return strengths[:, :size], log_nu


def _probabilities(strengths: Array, log_nu: Array) -> tuple[Array, Array]:
    """P(tie) and the expected share P(i beats j) + ½ P(tie), each `[sets, models, models]`."""
    gap = strengths[:, :, None] - strengths[:, None, :]
    win, loss = np.exp(gap / 2), np.exp(-gap / 2)
    nu = np.exp(log_nu)[:, None, None]
    total = win + loss + nu
    return nu / total, (win + nu / 2) / total


def _information(played: Array, tie: Array, expected: Array) -> Array:
    """Fisher information of (θ of the real models, log ν): the covariance of (wins + ½ ties, ties) added over pairs."""
    size = played.shape[1] - 1
    variance = played * (expected * (1 - expected) - tie / 4)
    information = np.zeros((len(played), size + 1, size + 1))
    information[:, :size, :size] = -variance[:, :size, :size]
    diagonal = np.arange(size)
    information[:, diagonal, diagonal] = variance.sum(axis=2)[:, :size]
    with_nu = (played * tie * (1 / 2 - expected)).sum(axis=2)[:, :size]
    information[:, :size, size] = information[:, size, :size] = with_nu
    information[:, size, size] = (played * tie * (1 - tie)).sum(axis=(1, 2)) / 2
    return information


def resample_weights(tasks: int, seed: int, resamples: int) -> Array:
    """How often each task counts, `[1 + resamples, tasks]`: once in the first row, in the others as drawn."""
    drawn = [np.bincount(indices, minlength=tasks) for indices in resampled_indices(tasks, seed, resamples)]
    return np.array([np.ones(tasks), *drawn], dtype=np.float64)


def mean_over_tasks(totals: Array, counts: Array, seed: int, resamples: int = RESAMPLES) -> Estimate:
    """Σ totals / Σ counts with a bootstrap interval over tasks; NaN without a count."""
    totals, counts = totals[counts > 0], counts[counts > 0]
    if not len(counts):
        return Estimate(math.nan, math.nan, math.nan, 0)
    weights = resample_weights(len(counts), seed, resamples)
    means = (weights @ totals) / (weights @ counts)
    low, high = outer_quantiles(means[1:], len(counts))
    return Estimate(float(means[0]), float(low), float(high), len(counts))


def _model(name: str, strength: Estimate, judgements: Sequence[Judgement], seed: int, resamples: int) -> Model:
    """What was said about one model's responses alone."""
    about = [(j, [k for k, model in enumerate(j.models) if model == name]) for j in judgements if name in j.models]
    tasks = {task: t for t, task in enumerate(dict.fromkeys(judgement.task for judgement, _ in about))}
    rating, rated, flagged, answers, acceptable = np.zeros((5, len(tasks)))
    raised: dict[str, Array] = {}
    for judgement, places in about:
        t = tasks[judgement.task]
        given = [judgement.ratings[k] for k in places] if judgement.ratings else []
        rating[t] += sum(value for value in given if value is not None)
        rated[t] += sum(value is not None for value in given)
        answers[t] += 1
        acceptable[t] += not judgement.none_acceptable
        for k in places if judgement.flags else ():
            flagged[t] += 1
            for flag in judgement.flags[k]:
                raised.setdefault(flag, np.zeros(len(tasks)))[t] += 1
    return Model(
        name=name,
        responses=sum(len(places) for _, places in about),
        elo=strength,
        likert=mean_over_tasks(rating, rated, seed, resamples),
        flags={flag: clustered_share(times, flagged) for flag, times in sorted(raised.items())},
        acceptable=clustered_share(acceptable, answers),
    )
