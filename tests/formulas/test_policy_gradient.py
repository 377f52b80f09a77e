"""PPO's expected gradient, every response enumerated, against the exact gradient of score − β·KL.

The world: three tokens (0 ends the text), at most two of them, a table of logits per prefix, scores without pattern.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heed.formulas.advantages import gae, shaped_rewards
from heed.formulas.logprobs import token_logprobs
from heed.formulas.ppo import clipped_policy_loss

# tokens, the prefix (state) before each, and how many count; state 0 is empty, 1 and 2 are after those tokens
RESPONSES = [([0, 0], [0, 0], 1)] + [([a, b], [0, a], 2) for a in (1, 2) for b in (0, 1, 2)]
TOKENS, STATES = (torch.tensor([response[i] for response in RESPONSES]) for i in (0, 1))
MASK = torch.arange(2) < torch.tensor([response[2] for response in RESPONSES]).unsqueeze(1)
SCORES = torch.tensor([0.3, -1.0, 2.0, 0.5, 1.5, -0.7, -2.0], dtype=torch.float64)


def tables() -> tuple[Tensor, Tensor, Tensor]:
    """Logits of the policy and of the reference, [state, token], and values, [state]."""
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64).unbind()
    return policy.requires_grad_(), reference, torch.randn(3, generator=generator, dtype=torch.float64)


def logprobs_of(logits: Tensor) -> Tensor:
    return token_logprobs(logits[STATES], TOKENS)


def sequence_logprobs(logits: Tensor) -> Tensor:
    return logprobs_of(logits).masked_fill(~MASK, 0).sum(dim=1)


def objective(logits: Tensor, reference: Tensor, kl_coef: float) -> Tensor:
    """J = E[score] − β KL(π‖ref) over whole responses, exactly."""
    logp, ref_logp = sequence_logprobs(logits), sequence_logprobs(reference)
    return (logp.exp() * (SCORES - kl_coef * (logp - ref_logp))).sum()


def expected_ppo_gradient(logits: Tensor, reference: Tensor, values: Tensor, kl_coef: float, lam: float) -> Tensor:
    """Σ_y π(y) ∇L(y), with the project's own rewards, advantages and loss; L(y) is a sum over y's tokens."""
    logprobs = logprobs_of(logits)
    old = logprobs.detach()
    rewards = shaped_rewards(old, logprobs_of(reference), SCORES, MASK, kl_coef)
    advantages = gae(rewards, values[STATES], MASK, 1.0, lam)
    weights = sequence_logprobs(logits).detach().exp()
    total = torch.zeros((), dtype=torch.float64)
    for i, weight in enumerate(weights):
        one = slice(i, i + 1)
        loss = clipped_policy_loss(logprobs[one], old[one], advantages[one], MASK[one], 0.2)
        total = total + weight * loss * MASK[i].sum()
    return torch.autograd.grad(total, logits)[0]


def test_the_seven_responses_are_all_there_are() -> None:
    policy, _, _ = tables()
    assert_close(sequence_logprobs(policy).exp().sum().item(), 1.0)


@pytest.mark.parametrize("kl_coef", [0.0, 0.1, 1.0])
def test_ppo_gradient_is_the_policy_gradient(kl_coef: float) -> None:
    policy, reference, values = tables()
    (exact,) = torch.autograd.grad(-objective(policy, reference, kl_coef), policy)
    found = expected_ppo_gradient(policy, reference, values, kl_coef, lam=1.0)
    assert_close(found, exact, atol=1e-10, rtol=0)
    assert exact.abs().max() > 0.05


def test_with_the_true_values_any_lambda_gives_the_policy_gradient() -> None:
    policy, reference, _ = tables()
    logp = policy.detach().log_softmax(-1)
    later = SCORES[1:].reshape(2, 3) - (logp[1:] - reference.log_softmax(-1)[1:])  # β = 1
    after_first = (logp[1:].exp() * later).sum(-1)
    first = torch.cat([SCORES[:1], after_first]) - (logp[0] - reference.log_softmax(-1)[0])
    values = torch.cat([(logp[0].exp() * first).sum().unsqueeze(0), after_first])
    (exact,) = torch.autograd.grad(-objective(policy, reference, 1.0), policy)
    for lam in (0.0, 0.5, 0.95):
        found = expected_ppo_gradient(policy, reference, values, 1.0, lam)
        assert_close(found, exact, atol=1e-10, rtol=0)


@pytest.mark.parametrize("kl_coef", [0.5, 1.0, 2.0])
def test_at_the_closed_form_optimum_the_expected_gradient_is_zero(kl_coef: float) -> None:
    """π*(y) ∝ ref(y) exp(score(y) / β), and J* = β ln Σ ref(y) exp(score(y) / β)."""
    _, reference, values = tables()
    weights = (sequence_logprobs(reference) + SCORES / kl_coef).exp()
    by_first_token = torch.stack([weights[0], weights[1:4].sum(), weights[4:].sum()])
    optimum = torch.stack([by_first_token, weights[1:4], weights[4:]]).log().requires_grad_()
    assert objective(optimum, reference, kl_coef).item() == pytest.approx(kl_coef * math.log(weights.sum()))
    found = expected_ppo_gradient(optimum, reference, values, kl_coef, lam=1.0)
    assert_close(found, torch.zeros_like(found), atol=1e-12, rtol=0)


@pytest.mark.parametrize(
    ("kl_coef", "optimum", "best"),
    [(1.0, (0.179000, 0.291944, 0.529056), 1.027222), (0.5, (0.036667, 0.162559, 0.800774), 1.306369)],
)
def test_golden_optimum_of_one_token(kl_coef: float, optimum: tuple[float, ...], best: float) -> None:
    reference, scores = [0.5, 0.3, 0.2], [0.0, 1.0, 2.0]
    weights = [r * math.exp(s / kl_coef) for r, s in zip(reference, scores, strict=True)]
    assert [w / sum(weights) for w in weights] == pytest.approx(optimum, abs=5e-7)
    assert kl_coef * math.log(sum(weights)) == pytest.approx(best, abs=5e-7)
    logits = torch.tensor([weights], dtype=torch.float64).log().expand(3, 3).requires_grad_()  # a row per token written
    logprobs = token_logprobs(logits, torch.arange(3)).unsqueeze(1)
    old, ref = logprobs.detach(), torch.tensor(reference, dtype=torch.float64).log().unsqueeze(1)
    mask, score = torch.ones(3, 1).bool(), torch.tensor(scores, dtype=torch.float64)
    rewards = shaped_rewards(old, ref, score, mask, kl_coef)
    assert_close(rewards, torch.full_like(rewards, kl_coef * math.log(sum(weights))))  # all tokens are worth J* there
    advantages = gae(rewards, torch.zeros_like(rewards), mask, 1.0, 0.95)
    loss = (old.exp() * -advantages * (logprobs - old).exp()).sum()
    (slope,) = torch.autograd.grad(loss, logits)
    assert_close(slope.sum(dim=0), torch.zeros(3, dtype=torch.float64), atol=1e-12, rtol=0)
