"""Word overlap with reference answers: corpus BLEU and chrF by sacrebleu, with intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sacrebleu.metrics import BLEU, CHRF

from heed.formulas.statistics import Estimate, bootstrap_statistic

RESAMPLES = 1000


def bleu(texts: Sequence[str], references: Sequence[str], seed: int = 0) -> Estimate:
    """Corpus BLEU of 0 to 100, one reference a text (sacrebleu `tok:13a|smooth:exp`), bootstrapped over texts."""
    metric = BLEU()
    return corpus_score(metric, counts_of(metric, texts, references), seed)


def chrf(texts: Sequence[str], references: Sequence[str], seed: int = 0) -> Estimate:
    """Corpus chrF2 of 0 to 100, one reference a text: overlap of characters, kinder to short texts than BLEU."""
    metric = CHRF()
    return corpus_score(metric, counts_of(metric, texts, references), seed)


def counts_of(metric: BLEU | CHRF, texts: Sequence[str], references: Sequence[str]) -> NDArray[np.int64]:
    """What sacrebleu counts in each text, `[texts, counts]`: a corpus's score is a function of the sum."""
    return np.array(metric._extract_corpus_statistics(list(texts), [list(references)]))


def corpus_score(metric: BLEU | CHRF, counts: NDArray[np.int64], seed: int) -> Estimate:
    """The score of all texts from their counts, bootstrapped over texts: sacrebleu's own fails on chrF where a
    resample matches nothing."""

    def score(indices: NDArray[np.int64]) -> float:
        return float(metric._compute_score_from_stats(counts[indices].sum(axis=0).tolist()).score)

    return bootstrap_statistic(score, len(counts), seed, RESAMPLES)
