"""How well a reward model's scores agree with people's rankings, and what else the scores follow.

Every figure comes with its 95 % interval and n. Prompts are the independent things: a prompt weighs the same whatever
its K and however many people ranked it, and intervals run over prompts. Probabilities come from raw scores, the unit
of the loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import logsigmoid

from heed.formulas.preference import best_temperature, expected_calibration_error, mean_per_prompt, ranking_accuracy
from heed.formulas.statistics import Estimate, bootstrap_mean, bootstrap_statistic, spearman, wilson

RESAMPLES = 300  # of the figures that are costly to compute; the others have 2000
MATCHED = 0.1  # two responses are of matched length when they differ by at most this share of the longer
BINS = 10


@dataclass(frozen=True)
class ScoredRankings:
    """The responses of many rankings in one line, with raw scores. `segments[i]` numbers the ranking, from 0."""

    scores: Float[Tensor, " responses"]
    ranks: Int[Tensor, " responses"]
    segments: Int[Tensor, " responses"]
    lengths: Int[Tensor, " responses"]  # tokens of the response
    sources: Sequence[str]  # of each ranking
    prompts: Int[Tensor, " rankings"]  # the number of its prompt: rankings by several people of the same have the same

    def of_source(self, source: str) -> ScoredRankings:
        """The rankings of one source."""
        kept = [i for i, name in enumerate(self.sources) if name == source]
        number = torch.full((len(self.sources),), -1)
        number[kept] = torch.arange(len(kept))
        segments = number[self.segments]
        rows = segments >= 0
        return ScoredRankings(
            self.scores[rows], self.ranks[rows], segments[rows], self.lengths[rows], [source] * len(kept),
            self.prompts[kept],
        )  # fmt: skip


@dataclass(frozen=True)
class Pairs:
    """Every strictly ordered pair of responses to one prompt."""

    correct: Float[Tensor, " pairs"]  # 1, or ½ for equal scores, or 0
    margins: Float[Tensor, " pairs"]  # score of the better less score of the worse
    longer: Float[Tensor, " pairs"]  # 1 where the better response is the longer, ½ for equal lengths
    matched: Bool[Tensor, " pairs"]  # the two are about equally long
    gaps: Int[Tensor, " pairs"]  # how many ranks apart
    prompts: Int[Tensor, " pairs"]


def numbered(things: Iterable[Hashable]) -> Int[Tensor, " things"]:
    """The number of each thing, from 0 in the order of their first appearance: equal things have the same."""
    numbers: dict[Hashable, int] = {}
    return torch.tensor([numbers.setdefault(thing, len(numbers)) for thing in things])


def pairs_of(rankings: ScoredRankings) -> Pairs:
    """The comparisons that rankings hold; ties are dropped."""
    correct, better, worse = ranking_accuracy(rankings.scores, rankings.ranks, rankings.segments)
    longer, _, _ = ranking_accuracy(rankings.lengths.float(), rankings.ranks, rankings.segments)
    a, b = rankings.lengths[better], rankings.lengths[worse]
    matched = (a - b).abs() <= MATCHED * torch.maximum(a, b)
    margins, prompts = rankings.scores[better] - rankings.scores[worse], rankings.prompts[rankings.segments[better]]
    gaps = rankings.ranks[worse] - rankings.ranks[better]
    return Pairs(correct, margins, longer, matched, gaps, prompts)


def accuracy_and_nll(pairs: Pairs, seed: int) -> dict[str, dict[str, Any]]:
    """`accuracy` (Wilson) and `nll` in nats a comparison (bootstrap); a scorer that knows nothing has ½ and ln 2."""
    nll = mean_per_prompt(-logsigmoid(pairs.margins.double()), pairs.prompts)
    return {
        "accuracy": share(pairs.correct, pairs.prompts).as_dict(),
        "nll": bootstrap_mean(nll.numpy(), seed).as_dict() if len(nll) else wilson(0, 0).as_dict(),
    }


def share(outcomes: Float[Tensor, " pairs"], prompts: Int[Tensor, " pairs"]) -> Estimate:
    """Mean over prompts of the mean outcome of a prompt's pairs, with Wilson's interval over prompts.

    A prompt's mean of several pairs scatters less than a single yes or no, so the interval is that of as many trials as
    would scatter as the prompts do: at least one a prompt, at most one a pair. `n` counts prompts.
    """
    per_prompt = mean_per_prompt(outcomes.double(), prompts)
    n, mean = len(per_prompt), float(per_prompt.mean()) if len(per_prompt) else math.nan
    if n < 2:
        return wilson(mean, n) if n else wilson(0, 0)
    error = float(per_prompt.var()) / n
    trials = max(n, math.floor(min(len(outcomes), mean * (1 - mean) / error))) if error else n
    found = wilson(mean * trials, trials)
    return Estimate(mean, found.low, found.high, n)


def reward_report(rankings: ScoredRankings, seed: int) -> dict[str, Any]:
    """What `report.json` of a reward model says: agreement overall and by source, calibration, biases, spread."""
    pairs = pairs_of(rankings)
    by_source = {}
    for source in sorted(set(rankings.sources)):
        of_source = pairs_of(rankings.of_source(source))
        if len(of_source.correct):
            by_source[source or "unnamed"] = accuracy_and_nll(of_source, seed)
    accuracies = [figures["accuracy"]["estimate"] for figures in by_source.values()]
    return {
        **accuracy_and_nll(pairs, seed),
        "by_source": by_source,
        "by_gap": {
            str(gap): share(pairs.correct[pairs.gaps == gap], pairs.prompts[pairs.gaps == gap]).as_dict()
            for gap in sorted(set(pairs.gaps.tolist()))
        },
        "macro_accuracy": sum(accuracies) / len(accuracies) if accuracies else None,
        "calibration": calibration(pairs, seed),
        "length_bias": length_bias(rankings, pairs, seed),
        "scores": {"mean": float(rankings.scores.mean()), "sd": float(rankings.scores.std(correction=0))},
        "counts": {
            "prompts": len(set(rankings.prompts.tolist())),
            "rankings": len(rankings.sources),
            "comparisons": len(pairs.correct),
            "tied_scores": int((pairs.margins == 0).sum()),
        },
    }


def calibration(pairs: Pairs, seed: int) -> dict[str, Any]:
    """Is σ(margin) the share of people who agree? ECE of the preferred response's probability, the temperature that
    would minimise the loss (above 1: too sure), and the table behind them."""
    outcomes = pairs.correct.double()
    probabilities = torch.sigmoid(pairs.margins.double().abs())
    margins = pairs.margins.double()

    def calibration_error(rows: Tensor) -> float:
        return float(expected_calibration_error(probabilities[rows], outcomes[rows], BINS))

    return {
        "ece": over_prompts(calibration_error, pairs.prompts, seed, raised=True).as_dict(),
        "temperature": over_prompts(lambda rows: best_temperature(margins[rows]), pairs.prompts, seed).as_dict(),
        "reliability": reliability(probabilities, outcomes),
    }


def reliability(
    probabilities: Float[Tensor, " pairs"], outcomes: Float[Tensor, " pairs"]
) -> list[dict[str, float | int]]:
    """A row for each bin of predicted probability that is not empty: its mean, the share that came true, n."""
    index = (probabilities * BINS).long().clamp(max=BINS - 1)
    return [
        {
            "predicted": float(probabilities[index == bin].mean()),
            "observed": float(outcomes[index == bin].mean()),
            "n": int((index == bin).sum()),
        }
        for bin in range(BINS)
        if (index == bin).any()
    ]


def length_bias(rankings: ScoredRankings, pairs: Pairs, seed: int) -> dict[str, Any]:
    """Does the score follow length? `longer_wins` is the accuracy of always preferring the longer response."""
    scores, lengths = rankings.scores.numpy(), rankings.lengths.numpy()

    def correlation(rows: Tensor) -> float:
        return spearman(scores[rows.numpy()], lengths[rows.numpy()])

    return {
        "spearman": over_prompts(correlation, rankings.prompts[rankings.segments], seed).as_dict(),
        "longer_wins": share(pairs.longer, pairs.prompts).as_dict(),
        "accuracy_at_matched_length": share(pairs.correct[pairs.matched], pairs.prompts[pairs.matched]).as_dict(),
    }


def over_prompts(
    statistic: Callable[[Tensor], float], prompts: Int[Tensor, " rows"], seed: int, raised: bool = False
) -> Estimate:
    """A statistic of rows (pairs or responses), bootstrapped over the prompts that the rows belong to; `raised` where
    noise can only raise it."""
    groups = [rows for rows in torch.split(prompts.argsort(stable=True), prompts.bincount().tolist()) if len(rows)]
    if not groups:
        return Estimate(math.nan, math.nan, math.nan, 0)

    def of_groups(indices: NDArray[np.int64]) -> float:
        return statistic(torch.cat([groups[i] for i in indices]))

    return bootstrap_statistic(of_groups, len(groups), seed, RESAMPLES, raised)


def headline(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of a `reward_report` that are worth a table, beside what a coin and the longer answer would get."""
    by_source = report["by_source"] if len(report["by_source"]) > 1 else {}
    return {
        "accuracy": report["accuracy"],
        "nll (a coin: 0.6931)": report["nll"],
        "accuracy of the longer answer": report["length_bias"]["longer_wins"],
        "accuracy at matched length": report["length_bias"]["accuracy_at_matched_length"],
        "rank correlation of score and length": report["length_bias"]["spearman"],
        "calibration error": report["calibration"]["ece"],
        **{f"accuracy: {source}": found["accuracy"] for source, found in by_source.items()},
    }
