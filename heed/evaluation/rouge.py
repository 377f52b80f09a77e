"""ROUGE by Google's library, the one that papers report; `pip install 'heed[eval]'`."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence

from heed.errors import ConfigError
from heed.formulas.statistics import Estimate, bootstrap_mean

KINDS = ("rouge1", "rouge2", "rougeL")


def require_rouge() -> None:
    """Raises ConfigError where the library is not installed."""
    if importlib.util.find_spec("rouge_score") is None:
        raise ConfigError("rouge", "rouge-score is not installed", "pip install 'heed[eval]', or leave it out")


def rouge(texts: Sequence[str], references: Sequence[str], seed: int = 0) -> dict[str, Estimate]:
    """Mean F1 (0 to 1) of shared words, shared word pairs and longest common subsequence, words stemmed; one reference
    a text, bootstrapped over texts."""
    scorer = importlib.import_module("rouge_score.rouge_scorer").RougeScorer(KINDS, use_stemmer=True)
    scored = [scorer.score(reference, text) for text, reference in zip(texts, references, strict=True)]
    return {kind: bootstrap_mean([found[kind].fmeasure for found in scored], seed) for kind in KINDS}
