"""Does a 95 % interval hold the truth in 95 of 100 samples? Every kind of interval that heed reports, by simulation.

    python tests/coverage/intervals.py --repetitions 2000         # the table of docs/metrics.md; half an hour

A kind is a world whose truth is known and a function of heed that looks at one sample of it. With 2,000 repetitions the
share has a standard error of half a point. Resamples are fewer here than in a report: that changes nothing to speak of.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU, CHRF

from heed.evaluation import side_by_side
from heed.formulas import diversity, overlap, scored_rankings
from heed.formulas.best_of_n import best_of_n
from heed.formulas.frontier import tilted
from heed.formulas.length_control import length_controlled_win_rate
from heed.formulas.scored_rankings import (
    ScoredRankings,
    accuracy_and_nll,
    calibration,
    length_bias,
    pairs_of,
    share,
)
from heed.formulas.statistics import (
    Estimate,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_statistic,
    wilson,
    win_rate,
)
from heed.labeling.agreement import clustered_share
from heed.labeling.comparisons import Results, elo, mean_over_tasks
from heed.report.course import score_interval
from heed.training import text_metrics

RESAMPLES = 300
MANY = 400_000  # things in the sample that stands for a world whose truth has no formula
Generator = np.random.Generator


@dataclass(frozen=True)
class Kind:
    """`sample` looks at one sample; `truth` is what it estimates."""

    truth: Callable[[], float]
    sample: Callable[[Generator], Estimate]
    note: str = ""


# ── worlds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def shares(generator: Generator) -> Estimate:
    """The truth is drawn anew each time: at one share Wilson's coverage swings with the grid of n."""
    p = generator.uniform(0.05, 0.95)
    found = wilson(int(generator.binomial(128, p)), 128)
    return Estimate(p, found.low - p, found.high - p, 128)


def kl(generator: Generator, n: int) -> NDArray[np.float64]:
    """KL of responses: skewed, mean 1."""
    return generator.gamma(0.7, 1 / 0.7, n)


def paired_scores(generator: Generator, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Prompts differ by more than models do."""
    prompts = generator.normal(0, 3, n)
    return prompts + generator.normal(0.3, 1, n), prompts + generator.normal(0, 1, n)


def graded_scores(generator: Generator, n: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Scores in steps of one, so that many are equal."""
    a, b = paired_scores(generator, n)
    return np.round(a), np.round(b)


def lengths(generator: Generator, n: int) -> tuple[NDArray[np.float64], ...]:
    """A judge that likes length, and a model that writes longer answers."""
    a, b = generator.gamma(5, 24, n).round(), generator.gamma(5, 20, n).round()
    return 0.2 + 0.01 * (a - b) + generator.logistic(0, 1, n), np.zeros(n), a, b


def length_controlled(generator: Generator, n: int, resamples: int = RESAMPLES) -> Estimate:
    return length_controlled_win_rate(*lengths(generator, n), seed=seed(generator), resamples=resamples)


def scored(generator: Generator, n: int, k: int = 4, scale: float = 1.0) -> ScoredRankings:
    """A reward model that is right in part, and length that helps a little; one person ranks k responses a prompt. It
    is too sure of itself; with its scores divided by `CALM` it is as sure as it is right."""
    worth = generator.normal(0, generator.gamma(2, 0.5, (n, 1)), (n, k))
    length = generator.integers(5, 60, (n, k))
    scores = 1.3 * worth + 0.01 * length + generator.normal(0, 1, (n, k))
    ranks = (-(worth + generator.gumbel(size=(n, k)))).argsort(axis=1).argsort(axis=1)
    flat = [torch.tensor(part.reshape(-1)) for part in (scores, ranks, length)]
    return ScoredRankings(
        flat[0].float() / scale, flat[1], torch.arange(n).repeat_interleave(k), flat[2], ["all"] * n, torch.arange(n)
    )  # fmt: skip


CALM = 2.585
Look = Callable[[ScoredRankings, int], Estimate | dict[str, Any]]


def accuracy(rankings: ScoredRankings, _: int) -> Estimate:
    pairs = pairs_of(rankings)
    return share(pairs.correct, pairs.prompts)


def nll(rankings: ScoredRankings, _: int) -> Any:
    return accuracy_and_nll(pairs_of(rankings), 0)["nll"]


def follows_length(rankings: ScoredRankings, seed: int) -> Any:
    return length_bias(rankings, pairs_of(rankings), seed)["spearman"]


CALIBRATED: dict[tuple[int, float], dict[str, Any]] = {}
"""Of each sample, for the two kinds that look at the same ones."""


def calibrated(rankings: ScoredRankings, seed: int) -> dict[str, Any]:
    sample = seed, float(rankings.scores.sum())
    if sample not in CALIBRATED:
        CALIBRATED[sample] = calibration(pairs_of(rankings), seed)
    return CALIBRATED[sample]


def temperature(rankings: ScoredRankings, seed: int) -> Any:
    return calibrated(rankings, seed)["temperature"]


def calibration_error(rankings: ScoredRankings, seed: int) -> Any:
    return calibrated(rankings, seed)["ece"]


def quickly(resamples: int, look: Callable[[], Any]) -> Any:
    """Look with fewer resamples than a report has."""
    before = scored_rankings.RESAMPLES, overlap.RESAMPLES
    scored_rankings.RESAMPLES = overlap.RESAMPLES = resamples
    try:
        return look()
    finally:
        scored_rankings.RESAMPLES, overlap.RESAMPLES = before


def as_estimate(found: Estimate | dict[str, Any]) -> Estimate:
    return found if isinstance(found, Estimate) else Estimate(**found)


def reward_figure(look: Look, k: int = 4, n: int = 120, resamples: int = 200, scale: float = 1.0) -> Kind:
    """Of a reward model; the truth is that of so many prompts that their own error does not count."""

    @cache
    def truth() -> float:
        found = quickly(1, lambda: look(scored(np.random.default_rng(1), 40_000, k, scale), 0))
        return as_estimate(found).estimate

    def sample(generator: Generator) -> Estimate:
        return as_estimate(quickly(resamples, lambda: look(scored(generator, n, k, scale), seed(generator))))

    return Kind(truth, sample)


def agreements(generator: Generator, n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of a task that two people order alike: tasks differ in how clear they are, and in how many pairs."""
    pairs = generator.integers(1, 16, n)
    return generator.binomial(pairs, generator.beta(4, 1.5, n)), pairs


def wins_among_models(generator: Generator, tasks: int) -> Results:
    """Four models; each task compares two to four of them, by one person whose likings hold for the whole task."""
    wins, ties = np.zeros((2, tasks, 4, 4))
    for t in range(tasks):
        worth = STRENGTHS + generator.gumbel(size=4)
        there = generator.permutation(4)[: generator.integers(2, 5)]
        for i in there:
            for j in there:
                wins[t, i, j] = worth[i] > worth[j]
    return Results(wins, ties)


STRENGTHS = np.array([0.6, 0.2, 0.0, -0.8])
WORDS = [f"w{i}" for i in range(60)]


def texts(generator: Generator, n: int) -> tuple[list[str], list[str]]:
    """Answers that keep some of the reference's words, more in some prompts than in others."""
    references, answers = [], []
    for keep, size in zip(generator.beta(3, 1.5, n), generator.integers(6, 25, n), strict=True):
        reference = generator.choice(WORDS, size)
        answer = np.where(generator.random(size) < keep, reference, generator.choice(WORDS, size))
        references.append(" ".join(reference))
        answers.append(" ".join(answer))
    return answers, references


@cache
def counted(metric: type[BLEU | CHRF]) -> NDArray[np.int64]:
    """A world of 20,000 texts with their counts, from which samples are drawn: its own score is the truth, and no text
    is counted twice."""
    return overlap.counts_of(metric(), *texts(np.random.default_rng(1), 20_000))


def overlap_figure(metric: type[BLEU | CHRF]) -> Kind:
    def sample(generator: Generator) -> Estimate:
        drawn = counted(metric)[generator.integers(20_000, size=120)]
        found: Estimate = quickly(RESAMPLES, lambda: overlap.corpus_score(metric(), drawn, seed(generator)))
        return found

    return Kind(lambda: quickly(1, lambda: overlap.corpus_score(metric(), counted(metric), 0)).estimate, sample)


@cache
def answers_of_two() -> tuple[list[str], list[str], list[str]]:
    """A world of prompts: answers of one model, of another that is like it but worse, and references."""
    generator = np.random.default_rng(1)
    answers, references = texts(generator, 20_000)
    worse = [
        " ".join(np.where(generator.random(len(words)) < 0.8, words, generator.choice(WORDS, len(words))))
        for words in map(str.split, answers)
    ]
    return answers, worse, references


def overlap_difference(generator: Generator, n: int = 120) -> Estimate:
    drawn = generator.integers(20_000, size=n)
    ours, theirs, references = ([side[i] for i in drawn] for side in answers_of_two())
    found: Estimate = text_metrics.paired_difference(BLEU(), ours, theirs, references, seed(generator))
    return found


def overlap_difference_truth() -> float:
    ours, theirs, references = answers_of_two()
    return overlap_of(ours, references) - overlap_of(theirs, references)


def overlap_of(answers: list[str], references: list[str]) -> float:
    return float(BLEU().corpus_score(answers, [references]).score)


@cache
def groups() -> list[list[str]]:
    """A world of a thousand groups of ten answers."""
    world = texts(np.random.default_rng(1), 10_000)[0]
    return [world[start : start + diversity.GROUP] for start in range(0, len(world), diversity.GROUP)]


def alike(look: Callable[..., Estimate]) -> Kind:
    """How much answers are alike: a sample is twenty groups of the world, and no group is looked at twice."""
    among = cache(lambda group: diversity_among(list(group), BLEU(effective_order=True)))

    def seen(some: list[list[str]], seed: int = 0) -> Estimate:
        diversity._among = lambda group, metric: among(tuple(group))
        try:
            return look([text for group in some for text in group], seed=seed)
        finally:
            diversity._among = diversity_among

    return Kind(
        cache(lambda: seen(groups()).estimate),
        lambda g: seen([groups()[i] for i in g.integers(len(groups()), size=20)], seed(g)),
    )


diversity_among = diversity._among


def nats_per_token(generator: Generator, n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Losses of demonstrations: short ones cost more a token."""
    tokens = generator.integers(3, 60, n)
    return tokens * generator.gamma(4, 0.25, n) + 3.0, tokens


def per_token(generator: Generator) -> Estimate:
    nats, tokens = nats_per_token(generator, 120)
    return bootstrap_statistic(
        lambda rows: float(nats[rows].sum() / tokens[rows].sum()), len(nats), seed(generator), RESAMPLES
    )


def rise_per_token(generator: Generator) -> Estimate:
    """Demonstrations under another model, to which a token costs 0.05 more in the mean, in some of them much more."""
    tokens = generator.integers(3, 60, 120)
    more = tokens * generator.gamma(0.5, 0.1, len(tokens))
    return side_by_side.per_token(torch.tensor(more), torch.tensor(tokens), seed(generator))


def rollout(generator: Generator) -> Estimate:
    """The shade of a page's chart: it is drawn from a step's mean and standard deviation alone."""
    scores = generator.gamma(2, 1, 64)

    class Run:
        settings = {"batch": 64}  # noqa: RUF012 - as a run's are

    row = {"score/mean": float(scores.mean()), "score/sd": float(scores.std())}
    low, high = score_interval(row, Run()) or (0.0, 0.0)  # type: ignore[arg-type]
    return Estimate(row["score/mean"], low, high, 64)


def candidates(generator: Generator, n: int, samples: int = 64) -> NDArray[np.float64]:
    """Scores of responses to each prompt; prompts differ."""
    return generator.normal(generator.normal(0, 1, (n, 1)), 1, (n, samples))


def best_of_eight(generator: Generator) -> Estimate:
    scores = torch.tensor(candidates(generator, 128))
    return bootstrap_mean(best_of_n(scores, 8).numpy(), seed(generator), RESAMPLES)


def seed(generator: Generator) -> int:
    return int(generator.integers(1 << 31))


def mean_of(draw: Callable[[Generator, int], NDArray[np.float64]], n: int, truth: float) -> Kind:
    return Kind(lambda: truth, lambda g: bootstrap_mean(draw(g, n), seed(g), RESAMPLES))


def normal(generator: Generator, n: int) -> NDArray[np.float64]:
    return generator.normal(1, 2, n)


MAXIMUM_OF_8 = 1.4236  # mean of the highest of eight standard normal numbers

KINDS: dict[str, Kind] = {
    "Wilson, n = 128": Kind(lambda: 0.0, shares, "over shares from 0.05 to 0.95"),
    "Wilson, share 0.98, n = 600": Kind(lambda: 0.98, lambda g: wilson(int(g.binomial(600, 0.98)), 600)),
    "mean, n = 128": mean_of(normal, 128, 1.0),
    "mean, n = 16": mean_of(normal, 16, 1.0),
    "mean, n = 8": mean_of(normal, 8, 1.0),
    "mean of a skewed figure (KL), n = 128": mean_of(kl, 128, 1.0),
    "paired difference, n = 128": Kind(
        lambda: 0.3, lambda g: bootstrap_difference(*paired_scores(g, 128), seed(g), RESAMPLES)
    ),
    "win rate with ties, n = 128": Kind(
        lambda: win_rate(*graded_scores(np.random.default_rng(1), MANY), resamples=1).estimate,
        lambda g: win_rate(*graded_scores(g, 128), seed(g), RESAMPLES),
    ),
    "length-controlled win rate, n = 128": Kind(
        lambda: length_controlled(np.random.default_rng(1), MANY, 1).estimate, lambda g: length_controlled(g, 128, 200)
    ),
    "reward accuracy, 120 prompts of 4": reward_figure(accuracy),
    "reward accuracy, 120 pairs": reward_figure(accuracy, k=2),
    "reward nll, 120 prompts of 4": reward_figure(nll),
    "reward: rank correlation with length": reward_figure(follows_length),
    "reward: temperature": reward_figure(temperature),
    "reward: calibration error": reward_figure(calibration_error),
    "reward: calibration error where it is small": reward_figure(calibration_error, scale=CALM),
    "share by task, 60 tasks": Kind(lambda: 4 / 5.5, lambda g: clustered_share(*agreements(g, 60))),
    "share by task, 12 tasks": Kind(lambda: 4 / 5.5, lambda g: clustered_share(*agreements(g, 12))),
    "mean rating by task, 60 tasks": Kind(
        lambda: 4 / 5.5,
        lambda g: mean_over_tasks(*(part.astype(float) for part in agreements(g, 60)), seed(g), RESAMPLES),
    ),
    "Bradley–Terry, best of 4 models, 100 tasks": Kind(
        lambda: elo(wins_among_models(np.random.default_rng(1), 40_000), 0, 2)[0].estimate,
        lambda g: elo(wins_among_models(g, 100), seed(g), RESAMPLES)[0],
    ),
    "BLEU, 120 texts": overlap_figure(BLEU),
    "chrF, 120 texts": overlap_figure(CHRF),
    "difference of BLEU, 120 prompts": Kind(cache(overlap_difference_truth), overlap_difference),
    "distinct word pairs, 200 texts": alike(partial(diversity.distinct, n=2)),
    "self-BLEU, 200 texts": alike(diversity.self_bleu),
    "nats per token, 120 demonstrations": Kind(
        lambda: float(np.divide(*(part.sum() for part in nats_per_token(np.random.default_rng(1), MANY)))), per_token
    ),
    "rise of nats per token, 120 demonstrations": Kind(lambda: 0.05, rise_per_token),
    "shade of a chart: a rollout of 64": Kind(lambda: 2.0, rollout),
    "best of 8 from 64 samples, 128 prompts": Kind(lambda: MAXIMUM_OF_8, best_of_eight),
    "ceiling at β = 1, 128 prompts of 256": Kind(
        lambda: 1.0, lambda g: bootstrap_mean(tilted(candidates(g, 128, 256), 1.0).worth, seed(g), RESAMPLES)
    ),
}


def coverage(name: str, repetitions: int, start: int = 0) -> float:
    """The share of samples whose interval holds the truth."""
    kind = KINDS[name]
    truth = kind.truth()
    held = 0
    for repetition in range(start, start + repetitions):
        found = kind.sample(np.random.default_rng((7, repetition)))
        held += found.low <= truth <= found.high
    return held / repetitions


def main() -> int:
    """The table; 1 where a kind is outside 93 to 97 %."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repetitions", type=int, default=2000)
    parser.add_argument("--only", nargs="*", default=[""], help="parts of the names of kinds")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    bad = 0
    print("| interval | coverage, % |\n|---|---|")
    for name, kind in KINDS.items():
        if not any(part in name for part in chosen.only):
            continue
        began = time.perf_counter()
        share = coverage(name, chosen.repetitions)
        error = 100 * math.sqrt(share * (1 - share) / chosen.repetitions)
        bad += not 0.93 <= share <= 0.97
        note = f"; {kind.note}" if kind.note else ""
        print(f"| {name}{note} | {100 * share:.1f} ± {error:.1f} |", flush=True)
        print(f"{name}: {time.perf_counter() - began:.0f} s", file=sys.stderr, flush=True)
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
