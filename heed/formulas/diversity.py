"""How much the answers of one model are alike: distinct words and word pairs, and BLEU of each answer against others.

Both depend on how many texts are looked at, and a bootstrap over texts would draw some twice, as if they were alike.
So texts are taken in groups of a fixed size, and the intervals run over groups, which are independent.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean

from sacrebleu.metrics import BLEU

from heed.formulas.statistics import Estimate, bootstrap_mean

GROUP = 10  # texts that are compared with each other


def groups_of(texts: Sequence[str], size: int = GROUP) -> list[Sequence[str]]:
    """Consecutive groups of `size` texts; of fewer than two groups, halves. What is left over is not looked at."""
    size = min(size, len(texts) // 2)
    return [texts[start : start + size] for start in range(0, len(texts) - size + 1, size)] if size > 1 else []


def distinct(texts: Sequence[str], n: int, seed: int = 0) -> Estimate:
    """Distinct n-grams of words over all n-grams of a group, mean over groups (Li et al. 2016, arXiv 1510.03055).

    1 where no n-gram stands twice among the ten answers of a group; it falls as answers become alike. A group without
    n-grams counts as 1.
    """
    return bootstrap_mean([_distinct(group, n) for group in groups_of(texts)], seed)


def self_bleu(texts: Sequence[str], seed: int = 0) -> Estimate:
    """BLEU of 0 to 100 of an answer with the others of its group as references, mean over groups (Zhu et al. 2018,
    arXiv 1802.01886). 100 where all are the same; high values mean little variety."""
    metric = BLEU(effective_order=True)
    return bootstrap_mean([_among(group, metric) for group in groups_of(texts)], seed)


def _distinct(group: Sequence[str], n: int) -> float:
    words = [text.split() for text in group]
    grams = [tuple(text[start : start + n]) for text in words for start in range(len(text) - n + 1)]
    return len(set(grams)) / len(grams) if grams else 1.0


def _among(group: Sequence[str], metric: BLEU) -> float:
    others = ([*group[:i], *group[i + 1 :]] for i in range(len(group)))
    return mean(float(metric.sentence_score(text, rest).score) for text, rest in zip(group, others, strict=True))
