"""What the best of n samples is worth, without drawing n samples again for every n."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def best_of_n_weights(samples: int, n: int) -> Float[Tensor, " samples"]:
    """Weight of the i-th lowest (i = 1 … samples) in the mean, over all subsets of size n, of the subset's highest.

        w_i = C(i − 1, n − 1) / C(samples, n)

    The weights of i < n are 0: the highest of n has n − 1 below it.
    """
    total = math.comb(samples, n)
    return torch.tensor([math.comb(i, n - 1) / total for i in range(samples)], dtype=torch.float64)


def best_of_n(
    scores: Float[Tensor, "prompts samples"], n: int, worth: Float[Tensor, "prompts samples"] | None = None
) -> Float[Tensor, " prompts"]:
    """Expected score of the best-scored of n responses, prompt by prompt: unbiased from any number of samples ≥ n.

        E max_n = Σ_i s_(i) · C(i − 1, n − 1) / C(samples, n)

    With `worth` the best by `scores` is chosen and its `worth` is what counts: a proxy chooses, another judge pays.
    """
    ordered, order = scores.double().sort(dim=1, stable=True)
    paid = ordered if worth is None else worth.double().gather(1, order)
    return paid @ best_of_n_weights(scores.shape[1], n).to(paid.device)
