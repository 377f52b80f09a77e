"""What somebody should look at on the quality page, in sentences."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from heed.labeling.agreement import PAPER_AGREEMENT, Labeler, Quality
from heed.labeling.questions import FLAGS

LONGER_WINS = 0.6
"""Share of pairs from which on the longer response wins strikingly often."""
GOLD_EXPECTED = 0.75
"""Share of gold pairs that a labeler should order rightly: the soft cut of the paper's screening (appendix B.1)."""
ENOUGH_ANSWERS = 10
"""Answers before somebody's speed is remarked upon."""

CHANCE_ALPHA = 0.1
"""Krippendorff's α of a flag below which its meaning is not shared."""
ENOUGH_FOR_FLAGS = 40
"""Answers before a flag is remarked upon."""


def remarks(found: Quality) -> list[str]:
    """What somebody should look at, in sentences."""
    told = []
    if not found.agreement.n:
        told.append("Nobody has ranked what somebody else ranked, so agreement is unknown: raise the overlap.")
    elif found.agreement.high < PAPER_AGREEMENT:
        told.append(
            f"Labelers agree on {found.agreement.estimate:.0%} of untied pairs, clearly less than the paper's "
            f"{PAPER_AGREEMENT:.1%}: talk about tasks on which they differ and sharpen the guidelines."
        )
    for slot, share in enumerate(found.slots):
        if share.n and not share.low <= 0.5 <= share.high:
            often = "more" if share.low > 0.5 else "less"
            told.append(f"Card {chr(ord('A') + slot)} wins {share.estimate:.0%} of its pairs, {often} than chance.")
    if found.longer.low > LONGER_WINS:
        told.append(f"The longer response wins {found.longer.estimate:.0%} of pairs: is it length that people judge?")
    if found.answers >= ENOUGH_FOR_FLAGS:
        told += [
            f"About “{FLAGS.get(flag, flag)}” labelers agree hardly more than by chance (α {alpha:.2f}): the "
            "guidelines should say when it applies."
            for flag, alpha in found.alpha_flags.items()
            if alpha < CHANCE_ALPHA
        ]
    usual = [row.seconds for row in found.labelers if row.seconds is not None]
    return told + [said for row in found.labelers for said in _of_labeler(row, statistics.median(usual or [0]))]


def _of_labeler(row: Labeler, usual_seconds: float) -> Iterator[str]:
    if row.gold.n and row.gold.high < GOLD_EXPECTED:
        yield f"{row.name} orders {row.gold.estimate:.0%} of gold pairs rightly."
    if row.seconds is not None and row.answers >= ENOUGH_ANSWERS and row.seconds < usual_seconds / 4:
        yield f"{row.name} takes {row.seconds:.0f} s for a task, less than a quarter of what is usual."
