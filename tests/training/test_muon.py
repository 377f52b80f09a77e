from __future__ import annotations

import pytest
import torch
from torch.nn import Parameter
from torch.testing import assert_close

from heed.training.muon import Muon, orthogonal


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(6, 6), (4, 9), (9, 4)])
def test_every_direction_comes_out_alike_and_keeps_its_sign(shape: tuple[int, int]) -> None:
    matrix = random(*shape)
    left, singular, right = torch.linalg.svd(matrix, full_matrices=False)
    aligned = left.T @ orthogonal(matrix) @ right.T
    assert singular.max() > 2 * singular.min()
    assert_close(aligned - torch.diag(aligned.diag()), torch.zeros_like(aligned), atol=1e-4, rtol=0)
    assert aligned.diag().min() > 0.65 and aligned.diag().max() < 1.25


def test_a_wide_matrix_and_its_transpose_are_the_same_case() -> None:
    assert_close(orthogonal(random(9, 4)), orthogonal(random(9, 4).T).T)


def test_no_gradient_at_all_is_no_step_and_not_nan() -> None:
    assert torch.equal(orthogonal(torch.zeros(3, 5)), torch.zeros(3, 5))


def test_first_step_by_hand() -> None:
    """One entry: orthogonal(x) is near ±1, here the quintic's own value; decay comes first and sees the old weight."""
    weight = Parameter(torch.tensor([[2.0]]))
    weight.grad = torch.tensor([[-3.0]])
    optimizer = Muon([weight], lr=0.5, weight_decay=0.1)
    optimizer.step()
    unit = 1.0
    for _ in range(5):
        unit = 3.4445 * unit - 4.775 * unit**3 + 2.0315 * unit**5
    assert weight.item() == pytest.approx(2 * (1 - 0.05) + 0.5 * 0.2 * unit, rel=1e-5)


def test_it_follows_torchs_own_which_rounds_to_bfloat16() -> None:
    ours, theirs = Parameter(random(8, 20)), Parameter(random(8, 20))
    optimizers = (
        Muon([ours], lr=0.02, weight_decay=0.1),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
    )
    for step in range(5):
        for weight, optimizer in zip((ours, theirs), optimizers, strict=True):
            weight.grad = random(8, 20, seed=step + 1)
            optimizer.step()
    moved = (ours - random(8, 20)).norm()
    assert (ours - theirs).norm() < 0.02 * moved
    assert moved > 0.1


def test_a_matrix_without_gradient_stays() -> None:
    weight = Parameter(random(3, 3))
    Muon([weight], lr=1.0, weight_decay=0.5).step()
    assert torch.equal(weight, random(3, 3))
