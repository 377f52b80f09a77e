"""How much of what was written had been written before: n-grams of responses, in token ids."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def distinct_ngrams(
    tokens: Int[Tensor, "batch response"], mask: Bool[Tensor, "batch response"], n: int
) -> Float[Tensor, ""]:
    """Distinct n-grams of all responses over their n-grams (Li et al. 2016, arXiv 1510.03055: distinct-n).

    1 where no n-gram stands twice; it falls as answers become alike, or repeat themselves. It depends on how many
    responses there are. 1 where there is no n-gram at all.
    """
    grams, _ = _ngrams(tokens, mask, n)
    return torch.tensor(len(torch.unique(grams, dim=0)) / len(grams) if len(grams) else 1.0)


def repeated_ngrams(
    tokens: Int[Tensor, "batch response"], mask: Bool[Tensor, "batch response"], n: int
) -> Float[Tensor, ""]:
    """Share of a response's n-grams that stand earlier in it, mean over the responses that have n-grams.

    0 where no response repeats itself, however alike they are; `r r r r r` has three of four 2-grams repeated.
    """
    grams, rows = _ngrams(tokens, mask, n)
    if not len(grams):
        return torch.tensor(0.0)
    own = torch.unique(torch.cat([rows[:, None], grams], 1), dim=0)[:, 0]  # a row for each n-gram of a response
    distinct, all_of_them = (count.bincount(minlength=len(tokens)).float() for count in (own, rows))
    there = all_of_them > 0
    return (1 - distinct[there] / all_of_them[there]).mean()


def _ngrams(tokens: Tensor, mask: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """`[n-grams, n]` of the counted tokens, on the processor, and the response of each."""
    tokens, mask = tokens.cpu(), mask.cpu()
    if tokens.shape[1] < n:
        return tokens.new_zeros(0, n), tokens.new_zeros(0)
    whole = mask.unfold(1, n, 1).all(-1)
    return tokens.unfold(1, n, 1)[whole], whole.nonzero()[:, 0]
