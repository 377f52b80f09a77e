"""Word overlap with reference answers: corpus BLEU and chrF by sacrebleu, with intervals."""

from __future__ import annotations

import json
from collections.abc import Sequence

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.metrics.base import Metric

from heed.formulas.statistics import Estimate

RESAMPLES = 1000


def bleu(texts: Sequence[str], references: Sequence[str]) -> Estimate:
    """Corpus BLEU of 0 to 100, one reference a text (sacrebleu `tok:13a|smooth:exp`), bootstrapped over texts."""
    return _corpus_score(BLEU(), texts, references)


def chrf(texts: Sequence[str], references: Sequence[str]) -> Estimate:
    """Corpus chrF2 of 0 to 100, one reference a text: overlap of characters, kinder to short texts than BLEU."""
    return _corpus_score(CHRF(), texts, references)


def _corpus_score(metric: Metric, texts: Sequence[str], references: Sequence[str]) -> Estimate:
    """sacrebleu's own bootstrap (its seed is 12345, or `SACREBLEU_SEED`) gives the mean and half-width of 95 %."""
    score = metric.corpus_score(list(texts), [list(references)], n_bootstrap=RESAMPLES)
    said = json.loads(score.format(width=6, signature=str(metric.get_signature()), is_json=True))
    middle, half = said.get("confidence_mean", score.score), said.get("confidence_var", 0.0)  # not told where all are 0
    return Estimate(score.score, max(0.0, middle - half), min(100.0, middle + half), len(texts))
