"""How close the answers of several models come to reference answers, and by how much one model is closer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from heed.formulas.overlap import bleu, chrf
from heed.formulas.statistics import Estimate, bootstrap_statistic


def overlap_figures(
    answers: Mapping[str, Sequence[str]], references: Sequence[str], better: str, baseline: str, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Corpus BLEU and chrF (0 to 100) of each model's answers, and `difference`: `better` minus `baseline`."""
    found = {}
    for name, score, metric in (("bleu", bleu, BLEU()), ("chrf", chrf, CHRF())):
        figures = {model: score(texts, references) for model, texts in answers.items()}
        figures["difference"] = paired_difference(metric, answers[better], answers[baseline], references, seed)
        found[name] = {model: figure.as_dict() for model, figure in figures.items()}
    return found


def paired_difference(
    metric: Metric, texts: Sequence[str], others: Sequence[str], references: Sequence[str], seed: int
) -> Estimate:
    """score(texts) − score(others) over the corpus, with a bootstrap interval.

    Each resample draws the same prompts for both sides: how hard a prompt is cancels, as a comparison of two separate
    intervals would not let it.
    """
    ours, theirs = (_statistics(metric, side, references) for side in (texts, others))

    def difference(prompts: NDArray[np.int64]) -> float:
        return _score(metric, ours[prompts]) - _score(metric, theirs[prompts])

    return bootstrap_statistic(difference, len(references), seed)


def _statistics(metric: Metric, texts: Sequence[str], references: Sequence[str]) -> NDArray[np.int64]:
    """What sacrebleu counts in each text; a corpus's score is a function of the sum."""
    return np.array(metric._extract_corpus_statistics(list(texts), [list(references)]))


def _score(metric: Metric, statistics: NDArray[np.int64]) -> float:
    return float(metric._compute_score_from_stats(statistics.sum(axis=0).tolist()).score)
