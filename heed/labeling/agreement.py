"""How far people agree, with each other, with gold questions and with themselves: the figures of the quality page.

Pairs of one task are not independent, tasks are: every interval here is over tasks.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import krippendorff
import numpy as np
from numpy.typing import ArrayLike, NDArray

from heed.formulas.statistics import Estimate, agreeing_pairs, cohen_kappa, wilson

PAPER_AGREEMENT = 0.726
"""InstructGPT's training labelers among each other (section 3.4; ± 1.5 %); its held-out labelers reach 77.3 %."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """One labeler's answer to one task. Entry k of every tuple is about the task's response k, wherever it was shown.

    `ranks`: 1 is best, equal ranks are ties, empty where only ratings were asked. `slots`: place on the screen from 0.
    `lengths`: characters. `ratings`: Likert 1 to 7, None where not given. `gold`: the ranks that a gold question
    expects, empty for any other task. `none_acceptable`: the labeler said that no response would do.
    """

    task: str
    labeler: str
    ranks: tuple[int, ...] = ()
    slots: tuple[int, ...] = ()
    lengths: tuple[int, ...] = ()
    models: tuple[str, ...] = ()
    ratings: tuple[int | None, ...] = ()
    flags: tuple[frozenset[str], ...] = ()
    seconds: float | None = None
    gold: tuple[int, ...] = ()
    none_acceptable: bool = False


Together = Sequence[tuple[Judgement, Judgement]]
"""Two labelers' rankings of one task, the labelers in alphabetical order."""


@dataclass(frozen=True, slots=True)
class Labeler:
    """One labeler's row on the quality page; `agreement` is with everybody else who did the same tasks."""

    name: str
    answers: int
    seconds: float | None
    agreement: Estimate
    gold: Estimate
    ties: Estimate


@dataclass(frozen=True, slots=True)
class TwoLabelers:
    """Two labelers on the tasks that both did: agreement on untied pairs, and Cohen's κ on better / tie / worse."""

    names: tuple[str, str]
    tasks: int
    agreement: Estimate
    kappa: float


@dataclass(frozen=True, slots=True)
class Quality:
    """All figures of the quality page. `slots[s]`: share of untied pairs won by what was shown in place s."""

    answers: int
    tasks: int
    agreement: Estimate
    untied_pairs: int
    alpha_ranks: float
    alpha_ratings: float
    alpha_flags: Mapping[str, float]
    slots: tuple[Estimate, ...]
    longer: Estimate
    labelers: tuple[Labeler, ...]
    pairs: tuple[TwoLabelers, ...]


def quality(judgements: Sequence[Judgement]) -> Quality:
    """Every figure of the quality page. Gold questions count for the accuracy on them alone."""
    plain = [judgement for judgement in judgements if not judgement.gold]
    together = shared(plain)
    return Quality(
        answers=len(plain),
        tasks=len({judgement.task for judgement in plain}),
        agreement=agreement(together),
        untied_pairs=sum(agreeing_pairs(a.ranks, b.ranks)[1] for a, b in together),
        alpha_ranks=ranks_alpha(plain),
        alpha_ratings=ratings_alpha(plain),
        alpha_flags=flags_alpha(plain),
        slots=position_bias(plain),
        longer=length_bias(plain),
        labelers=labelers(judgements, together),
        pairs=labeler_against_labeler(together),
    )


def clustered_share(successes: ArrayLike, trials: ArrayLike) -> Estimate:
    """Σ successes / Σ trials and its interval, when the trials of one entry (a task) depend on each other.

    Wilson's interval at the effective number of trials: the variance between tasks says how many independent
    trials would scatter as much, never fewer than Kish's (Σ trials)² / Σ trials² (all trials of a task alike) and
    never more than there are. `n` counts the tasks that have a trial.
    """
    s, n = np.asarray(successes, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    s, n = s[n > 0], n[n > 0]
    if not len(n):
        return wilson(0, 0)
    total, tasks = float(n.sum()), len(n)
    share, fewest = float(s.sum()) / total, total**2 / float((n**2).sum())
    effective = fewest
    if tasks > 1 and 0 < share < 1:
        variance = tasks / (tasks - 1) * float(((s - share * n) ** 2).sum()) / total**2
        effective = min(total, max(fewest, share * (1 - share) / variance)) if variance else total
    size = max(1, math.floor(effective))
    found = wilson(share * size, size)
    return Estimate(share, found.low, found.high, tasks)


def shared(judgements: Iterable[Judgement]) -> Together:
    """Every two labelers' rankings of one task."""
    by_task = defaultdict(list)
    for judgement in judgements:
        if judgement.ranks:
            by_task[judgement.task].append(judgement)
    in_order = (sorted(same, key=lambda judgement: judgement.labeler) for same in by_task.values())
    return [pair for same in in_order for pair in combinations(same, 2)]


def agreement(together: Together) -> Estimate:
    """Share of the pairs that both labelers order strictly on which they agree, the paper's statistic."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for a, b in together:
        agreeing, untied = agreeing_pairs(a.ranks, b.ranks)
        counts[a.task][0] += agreeing
        counts[a.task][1] += untied
    return _share_of(counts)


def kappa(together: Together) -> float:
    """Cohen's κ of two labelers on better / tie / worse, over all pairs of the tasks that both did; NaN without any."""
    first = [order for a, _ in together for order in _orders(a.ranks)]
    second = [order for _, b in together for order in _orders(b.ranks)]
    return cohen_kappa(first, second) if first else math.nan


def labeler_against_labeler(together: Together) -> tuple[TwoLabelers, ...]:
    """Every two labelers who did a task both, in alphabetical order."""
    by_names = defaultdict(list)
    for a, b in together:
        by_names[a.labeler, b.labeler].append((a, b))
    return tuple(
        TwoLabelers(names, len(both), agreement(both), kappa(both)) for names, both in sorted(by_names.items())
    )


def labelers(judgements: Iterable[Judgement], together: Together) -> tuple[Labeler, ...]:
    """A row for each labeler: how much, how fast, how much like the others, how right on gold questions."""
    by_name = defaultdict(list)
    for judgement in judgements:
        by_name[judgement.labeler].append(judgement)
    rows = []
    for name, own in sorted(by_name.items()):
        seconds = [judgement.seconds for judgement in own if judgement.seconds is not None]
        speed = statistics.median(seconds) if seconds else None
        with_others = [pair for pair in together if name in (pair[0].labeler, pair[1].labeler)]
        rows.append(Labeler(name, len(own), speed, agreement(with_others), gold_accuracy(own), tie_share(own)))
    return tuple(rows)


def gold_accuracy(judgements: Iterable[Judgement]) -> Estimate:
    """Share of the pairs that gold questions order strictly that are ordered so; a tie there is half right."""
    counts: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for judgement in judgements:
        if judgement.gold and judgement.ranks:
            for given, gold in zip(_orders(judgement.ranks), _orders(judgement.gold), strict=True):
                counts[judgement.task][0] += abs(gold) * (1 + given * gold) / 2
                counts[judgement.task][1] += abs(gold)
    return _share_of(counts)


def tie_share(judgements: Iterable[Judgement]) -> Estimate:
    """Share of pairs that are ties."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for judgement in judgements:
        orders = _orders(judgement.ranks)
        counts[judgement.task][0] += orders.count(0)
        counts[judgement.task][1] += len(orders)
    return _share_of(counts)


def position_bias(judgements: Iterable[Judgement]) -> tuple[Estimate, ...]:
    """Share of untied pairs won by what was shown in each place of the screen. The order is random: 50 % is no bias."""
    places: dict[int, dict[str, list[int]]] = defaultdict(lambda: defaultdict(lambda: [0, 0]))
    for judgement in judgements:
        for better, worse in untied(judgement.ranks if judgement.slots else ()):
            for response in (better, worse):
                count = places[judgement.slots[response]][judgement.task]
                count[0] += response == better
                count[1] += 1
    return tuple(_share_of(places[slot]) for slot in range(max(places, default=-1) + 1))


def length_bias(judgements: Iterable[Judgement]) -> Estimate:
    """Share of untied pairs of unlike length that the longer response won. No fixed value is right; the trend tells."""
    counts: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for judgement in judgements:
        for better, worse in untied(judgement.ranks if judgement.lengths else ()):
            gap = judgement.lengths[better] - judgement.lengths[worse]
            counts[judgement.task][0] += gap > 0
            counts[judgement.task][1] += gap != 0
    return _share_of(counts)


def ranks_alpha(judgements: Iterable[Judgement]) -> float:
    """Krippendorff's α, ordinal, over ranks."""
    return alpha([(j.task, k, rank) for j in judgements for k, rank in enumerate(j.ranks)], "ordinal")


def ratings_alpha(judgements: Iterable[Judgement]) -> float:
    """Krippendorff's α, ordinal, over Likert ratings."""
    rated = ((j.task, k, rating) for j in judgements for k, rating in enumerate(j.ratings))
    return alpha([(task, k, rating) for task, k, rating in rated if rating is not None], "ordinal")


def flags_alpha(judgements: Sequence[Judgement]) -> dict[str, float]:
    """Krippendorff's α, nominal, for each flag that anybody raised."""
    flagged = [(j.task, k, flags) for j in judgements for k, flags in enumerate(j.flags)]
    raised = sorted({flag for _, _, flags in flagged for flag in flags})
    return {flag: alpha([(task, k, int(flag in flags)) for task, k, flags in flagged], "nominal") for flag in raised}


def alpha(values: Sequence[tuple[str, int, int]], level: Literal["nominal", "ordinal"]) -> float:
    """Krippendorff's α of (task, response, value) triples, one for each labeler who gave a value.

    NaN where nothing can be said: no response has two values, or all values are equal.
    """
    domain = sorted({value for _, _, value in values})
    units = {unit: row for row, unit in enumerate(dict.fromkeys((task, k) for task, k, _ in values))}
    counts = np.zeros((len(units), len(domain)), dtype=np.int64)
    for task, k, value in values:
        counts[units[task, k], domain.index(value)] += 1
    pairable = counts[counts.sum(axis=1) > 1]
    if (pairable.sum(axis=0) > 0).sum() < 2:
        return math.nan
    return float(krippendorff.alpha(value_counts=pairable, value_domain=domain, level_of_measurement=level))


def untied(ranks: Sequence[int]) -> Iterator[tuple[int, int]]:
    """(better, worse) for every two responses with a strict order."""
    for i, j in combinations(range(len(ranks)), 2):
        if ranks[i] != ranks[j]:
            yield (i, j) if ranks[i] < ranks[j] else (j, i)


def _orders(ranks: Sequence[int]) -> list[int]:
    """For every two responses i < j: 1 when i is better, −1 when j is, 0 for a tie."""
    order: NDArray[np.int64] = np.sign(np.subtract.outer(ranks, ranks))
    return [int(-x) for x in order[np.triu_indices(len(ranks), k=1)]]


def _share_of(counts: Mapping[str, Sequence[float]]) -> Estimate:
    """The share of `[successes, trials]` by task."""
    return clustered_share([count[0] for count in counts.values()], [count[1] for count in counts.values()])
