"""Prompts → responses with log-probabilities, values and scores, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace

import pytest
import torch
from torch.testing import assert_close

from heed.batches import PromptBatch, Responses
from heed.rl.rollout import Rollout, rollout_metrics
from heed.rows import threads
from heed.stages.ppo import Prepared

Collected = Callable[..., tuple[Prepared, Rollout]]


def test_threads_draw_and_score_the_same_rollout(collected: Collected, monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches of three, and rows where their questions are."""
    found = []
    for count in (1, 2):
        monkeypatch.setattr(threads, "cores", lambda count=count: count)
        prepared, rollout = collected(sampling={"max_new_tokens": 6, "batch": 3})
        found.append(rollout)
        read = zip(rollout.prompts.tokens, rollout.prompts.mask, rollout.questions, strict=True)
        assert all(tokens[mask].tolist() == question.tokens for tokens, mask, question in read)
    one, two = found
    drawn = prepared.roles.policy.generate(one.prompts, 6, 1.0, torch.Generator().manual_seed(0), size=3)
    assert torch.equal(drawn.tokens, one.responses.tokens) and torch.equal(drawn.tokens, two.responses.tokens)
    for name in ("values", "scores"):
        assert_close(getattr(two, name), getattr(one, name), atol=1e-5, rtol=1e-6)
    for field in fields(one.scored):
        assert_close(getattr(two.scored, field.name), getattr(one.scored, field.name), atol=1e-4, rtol=1e-6)


def test_rollout_scores_are_those_of_the_whole_text(collected: Collected) -> None:
    """Score and value by the reward model alone, one unpadded row at a time."""
    prepared, rollout = collected()
    reward = prepared.roles.reward
    for i, question in enumerate(rollout.questions):
        drawn = rollout.responses.tokens[i][rollout.mask[i]].tolist()
        for row, found in ((question.tokens + drawn, rollout.scores[i]), (question.tokens, rollout.values[i, 0])):
            tokens = torch.tensor([row])
            with torch.no_grad(), reward.active():
                expected = reward.scores(tokens, torch.ones_like(tokens, dtype=torch.bool))[0]
            assert_close(found, expected, atol=1e-5, rtol=1e-5)
        assert bool(rollout.finished[i]) == (drawn[-1] == 0)
        assert rollout.paid[i] == rollout.scores[i] - (0.0 if rollout.finished[i] else 1.0)


def test_metrics_by_hand(collected: Collected) -> None:
    """Two responses of 2 and 1 tokens; padding holds nonsense where a formula must mask it."""
    _, rollout = collected()
    mask = torch.tensor([[True, True], [True, False]])
    zero = torch.zeros(2, 2)
    scored = replace(
        rollout.scored, logprobs=torch.tensor([[-1.0, -2.0], [-0.5, 0.0]]),
        ref_logprobs=torch.tensor([[-1.5, -1.5], [-1.5, 0.0]]), entropy=torch.tensor([[1.0, 2.0], [3.0, 0.0]]),
        exact_kl=torch.tensor([[0.2, 0.1], [0.3, 0.0]]), kl_variance=torch.tensor([[0.5, 0.25], [0.25, 0.0]]),
        surprisal_variance=torch.tensor([[1.0, 2.0], [1.0, 0.0]]), ref_ratio_variance=zero,
    )  # fmt: skip
    made = replace(
        rollout, responses=Responses(torch.tensor([[5, 6], [0, 1]]), mask, torch.tensor([[-1.0, -2.5], [-0.5, 0.0]])),
        prompts=PromptBatch(torch.tensor([[4], [4]]), torch.ones(2, 1, dtype=torch.bool)), scored=scored,
        scores=torch.tensor([1.0, 3.0]), paid=torch.tensor([0.0, 3.0]), finished=torch.tensor([False, True]),
    )  # fmt: skip
    found = rollout_metrics(made, torch.tensor([[0.0, 1.0], [4.0, 0.0]]), kl_coef=0.1)
    # k1 per response: (0.5 − 0.5, 1.0) = (0, 1); exact: (0.3, 0.3)
    assert found["kl/k1"] == pytest.approx(0.5) and found["kl/exact"] == pytest.approx(0.3)
    assert found["kl/k1_se"] == pytest.approx(0.5)  # sd √0.5 over √2
    assert found["kl/z_validity"] == pytest.approx((1.0 - 0.6) / 1.0)
    # −log p − H: (0, 0, −2.5)
    assert found["kl/z_surprisal"] == pytest.approx(-2.5 / 2)
    assert found["score/mean"] == 2 and found["reward/mean"] == 2.5
    assert found["reward/kl_share"] == pytest.approx(0.05 / (0.05 + 1.5))
    assert found["rescore/max"] == pytest.approx(0.5) and found["rescore/mean"] == pytest.approx(0.5 / 3)
    assert found["length/mean"] == 1.5 and found["length/eos_rate"] == 0.5
    assert found["policy/entropy"] == 2
