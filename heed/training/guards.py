"""Numbers that must not reach a weight or a unit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from torch import Tensor

from heed.errors import RunError


def require_finite(value: float, name: str) -> float:
    """`value`, unless it is NaN or infinite: then RunError, before it reaches a weight."""
    if not math.isfinite(value):
        raise RunError(
            "this step", f"{name} is {value}", "lower `optimizer.learning_rate`, or look at the batch's text"
        )
    return value


def decoded(tokenizer: Any, rows: Iterable[Iterable[int]]) -> list[dict[str, str]]:
    """Rows of tokens as `{"text"}`, special tokens written out, for a file that people look into."""
    return [{"text": tokenizer.decode([int(token) for token in row])} for row in rows]


def require_spread(scores: Tensor, name: str) -> Tensor:
    """`scores`, unless all are equal, or one is not finite: they could not be brought to standard deviation 1."""
    if not bool(scores.isfinite().all()):
        raise RunError("normalisation", f"{name}: not every score is finite", "look at the reward model's weights")
    if float(scores.std(correction=0)) == 0:
        told = f"{name} for all {len(scores)} answers: {float(scores[0]):.4g}"
        raise RunError("normalisation", told, "raise `sampling.max_new_tokens` or `normalise_prompts`")
    return scores
