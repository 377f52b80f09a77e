from __future__ import annotations

import itertools

import pytest
import torch
from torch.testing import assert_close

from heed.formulas.best_of_n import best_of_n, best_of_n_weights
from heed.formulas.kl import best_of_n_kl


def test_by_hand():
    # sorted 1, 2, 5: of the three pairs two have 5 as their best and one has 2
    scores = torch.tensor([[5.0, 1.0, 2.0]])
    assert_close(best_of_n(scores, 1), torch.tensor([8 / 3], dtype=torch.float64))
    assert_close(best_of_n(scores, 2), torch.tensor([(5 + 5 + 2) / 3], dtype=torch.float64))
    assert_close(best_of_n(scores, 3), torch.tensor([5.0], dtype=torch.float64))


@pytest.mark.parametrize("n", range(1, 8))
def test_is_the_mean_over_all_subsets(n):
    scores, worth = torch.randn(2, 1, 7, generator=torch.Generator().manual_seed(n), dtype=torch.float64)
    subsets = list(itertools.combinations(range(7), n))
    best = [max(subset, key=lambda i: scores[0, i].item()) for subset in subsets]
    assert_close(best_of_n(scores, n)[0], scores[0, best].mean())
    assert_close(best_of_n(scores, n, worth)[0], worth[0, best].mean())
    assert best_of_n_weights(7, n).sum().item() == pytest.approx(1)


def test_the_proxy_chooses_and_the_judge_pays():
    scores, worth = torch.tensor([[0.0, 1.0]]), torch.tensor([[10.0, -3.0]])
    assert best_of_n(scores, 2, worth).item() == -3.0  # a twin that maximises `worth` gives 10


@pytest.mark.parametrize(("n", "nats"), [(2, 0.1931), (4, 0.6363), (8, 1.2044), (16, 1.8351), (64, 3.1745)])
def test_kl_of_best_of_n(n, nats):
    assert best_of_n_kl(n) == pytest.approx(nats, abs=5e-5)


def test_kl_is_a_bound_when_scores_tie():
    # best of 2 by score from (.5, .3, .2) with scores 0, 1, 2: P(best is k) = F(k)² − F(k−1)²
    ref, best = torch.tensor([0.5, 0.3, 0.2]), torch.tensor([0.25, 0.39, 0.36])
    exact = (best * (best / ref).log()).sum().item()
    assert exact == pytest.approx(0.140638, abs=1e-6)
    assert exact <= best_of_n_kl(2)
