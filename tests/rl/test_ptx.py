"""Pretraining text in the policy's gradient."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.testing import assert_close

from heed.rl.ptx import Ptx
from heed.rl.rollout import Rollout
from heed.rows import threads
from heed.rows.threads import RowThreads
from heed.stages.ppo import Prepared


@pytest.mark.parametrize("count", [1, 2])
def test_ptx_gradient_is_added_with_its_coefficient(
    collected: Callable[..., tuple[Prepared, Rollout]], monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    """g = g_ppo + coef · g_ptx, the second by autograd on the token mean of −log p over the text."""
    monkeypatch.setattr(threads, "cores", lambda: count)
    text = torch.randint(2, 200, (3, 9), generator=torch.Generator().manual_seed(0))
    policy = collected()[0].roles.policy
    rows_in_threads = RowThreads.for_model(policy.trunk.model)
    ptx = Ptx(
        policy, text, coef=0.7, ratio=3 / 8, microbatch=3, generator=torch.Generator().manual_seed(5),
        threads=rows_in_threads,
    )  # fmt: skip
    drawn = torch.randint(3, (3,), generator=torch.Generator().manual_seed(5))
    with policy.trainable() as parameters, policy.active():
        ptx.backward(8)
        found = [p.grad.clone() for p in parameters.values()]
        for p in parameters.values():
            p.grad = None
        trunk, batch = policy.trunk, text[drawn]
        hidden = trunk.hidden(batch, torch.ones_like(batch, dtype=torch.bool))[:, :-1].reshape(-1, trunk.width)
        (0.7 * torch.nn.functional.cross_entropy(trunk.logits(hidden), batch[:, 1:].reshape(-1))).backward()
        for got, parameter in zip(found, parameters.values(), strict=True):
            assert_close(got, parameter.grad, atol=1e-5, rtol=1e-4)
