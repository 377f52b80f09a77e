"""PPO as a loop, from the formulas alone, reaches the policy that theory says is best.

The world: token 0 ends the text, tokens 1 and 2 go on, three tokens are the most, so that there are 7 prefixes and 15
responses. The policy is a table of logits per prefix, the value model a number per prefix. Everything that a loop may
get wrong is in it: the KL price per token, the score on the last token, GAE with a learned value, whitening,
minibatches of several epochs, both clips. The best possible score − β·KL is known in closed form:

    J* = β ln Σ_y ref(y) exp(score(y) / β)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from heed.formulas.advantages import gae, returns, shaped_rewards
from heed.formulas.logprobs import token_logprobs
from heed.formulas.masked import masked_whiten
from heed.formulas.ppo import clipped_policy_loss, clipped_value_loss
from heed.formulas.schedules import linear

LONGEST, PREFIXES = 3, 7
STEPS, EPISODES, MINIBATCH, EPOCHS = 40, 256, 64, 2


@dataclass(frozen=True)
class Rollout:
    """Response-aligned tensors `[batch, response]`: `prefixes[:, t]` is the state before token t."""

    tokens: Tensor
    prefixes: Tensor
    mask: Tensor

    def logprobs(self, logits: Tensor) -> Tensor:
        return token_logprobs(logits[self.prefixes], self.tokens)

    def sequence_logprobs(self, logits: Tensor) -> Tensor:
        return self.logprobs(logits).masked_fill(~self.mask, 0).sum(dim=1)

    def identity(self) -> Tensor:
        """A number for each response, below 27."""
        digits = self.tokens.masked_fill(~self.mask, 0)
        return digits[:, 0] + 3 * digits[:, 1] + 9 * digits[:, 2]


def follow(first: Tensor, second: Tensor, third: Tensor) -> Rollout:
    """The rollout with these tokens; what stands after the end of a text does not count."""
    tokens = torch.stack([first, second, third], dim=1)
    ended = (tokens == 0).long().cumsum(dim=1)
    mask = (ended - (tokens == 0).long()) == 0
    after_first = first  # prefixes 1 and 2; 3 … 6 are those of two tokens
    prefixes = torch.stack([torch.zeros_like(first), after_first, 2 * after_first + second], dim=1)
    return Rollout(tokens, prefixes.masked_fill(~mask, 0), mask)


def sample(logits: Tensor, generator: torch.Generator) -> Rollout:
    """Episodes drawn from the policy, token by token."""
    prefix, drawn = torch.zeros(EPISODES, dtype=torch.long), []
    for _ in range(LONGEST):
        token = torch.multinomial(logits[prefix].softmax(-1), 1, generator=generator).squeeze(1)
        drawn.append(token)
        prefix = (2 * prefix + token).clamp(max=PREFIXES - 1)  # what follows an end does not count
    return follow(*drawn)


def every_response() -> Rollout:
    """The 15 responses, each once."""
    grid = torch.cartesian_prod(*[torch.arange(3)] * LONGEST)
    every = follow(*grid.unbind(dim=1))
    tidy = (grid.masked_fill(every.mask, 0) == 0).all(dim=1)  # of those that differ after their end, one
    return Rollout(every.tokens[tidy], every.prefixes[tidy], every.mask[tidy])


@dataclass(frozen=True)
class World:
    """A reference policy, `[prefix, token]`, and a score for each response by its identity."""

    reference: Tensor
    score_table: Tensor

    def scores(self, rollout: Rollout) -> Tensor:
        return self.score_table[rollout.identity()]

    def objective(self, logits: Tensor, kl_coef: float) -> float:
        """J = E[score] − β KL over whole responses, every one enumerated."""
        every = every_response()
        logp, ref_logp = every.sequence_logprobs(logits), every.sequence_logprobs(self.reference)
        return float((logp.exp() * (self.scores(every) - kl_coef * (logp - ref_logp))).sum())

    def optimum(self, kl_coef: float) -> float:
        """J* in closed form."""
        every = every_response()
        return kl_coef * float((every.sequence_logprobs(self.reference) + self.scores(every) / kl_coef).logsumexp(0))


def make_world() -> World:
    generator = torch.Generator().manual_seed(1)
    return World(torch.randn(PREFIXES, 3, generator=generator), torch.randn(27, generator=generator))


def train(world: World, kl_coef: float, price_sign: float) -> Tensor:
    """The PPO loop; returns the policy's logits. `price_sign = -1` pays for KL instead of charging for it."""
    generator = torch.Generator().manual_seed(2)
    logits, values = world.reference.clone().requires_grad_(), torch.zeros(PREFIXES, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": logits, "lr": 0.15}, {"params": values, "lr": 0.15}], eps=1e-5)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: linear(step / STEPS, floor=0.02))
    for _ in range(STEPS):
        rollout = sample(logits.detach(), generator)
        mask, old_logprobs = rollout.mask, rollout.logprobs(logits).detach()
        old_values = values.detach()[rollout.prefixes]
        price = price_sign * kl_coef
        rewards = shaped_rewards(
            old_logprobs, rollout.logprobs(world.reference), world.scores(rollout), mask, kl_coef=price
        )
        advantages = gae(rewards, old_values, mask, gamma=1.0, gae_lambda=0.95)
        targets, whitened = returns(advantages, old_values), masked_whiten(advantages, mask)
        for _ in range(EPOCHS):
            for rows in torch.randperm(EPISODES, generator=generator).chunk(EPISODES // MINIBATCH):
                some = Rollout(rollout.tokens[rows], rollout.prefixes[rows], mask[rows])
                policy_loss = clipped_policy_loss(
                    some.logprobs(logits), old_logprobs[rows], whitened[rows], some.mask, clip_range=0.2
                )
                value_loss = clipped_value_loss(
                    values[some.prefixes], old_values[rows], targets[rows], some.mask, value_clip_range=1.0
                )
                optimizer.zero_grad()
                (policy_loss + value_loss).backward()
                optimizer.step()
        schedule.step()
    return logits.detach()


def share_of_the_possible_gain(kl_coef: float, price_sign: float = 1.0) -> float:
    """(J(π) − J(ref)) / (J* − J(ref)): 0 for the reference, 1 for the best policy there is."""
    world = make_world()
    start, best = world.objective(world.reference, kl_coef), world.optimum(kl_coef)
    return (world.objective(train(world, kl_coef, price_sign), kl_coef) - start) / (best - start)


@pytest.mark.parametrize("kl_coef", [0.5, 1.0, 2.0])
def test_ppo_reaches_the_closed_form_optimum(kl_coef: float) -> None:
    assert share_of_the_possible_gain(kl_coef) >= 0.95


@pytest.mark.parametrize(("kl_coef", "price_sign"), [(1.0, -1.0), (1.0, 0.0)])
def test_ppo_that_pays_for_kl_or_has_it_free_does_not(kl_coef: float, price_sign: float) -> None:
    assert share_of_the_possible_gain(kl_coef, price_sign) < 0.95


def test_the_world_is_counted_whole_and_its_optimum_is_attained() -> None:
    """Probabilities of the 15 responses add up to 1; π* ∝ ref · exp(score / β), as a table of logits, has J = J*."""
    world, every, kl_coef = make_world(), every_response(), 1.0
    assert len(every.tokens) == 15
    assert every.sequence_logprobs(world.reference).exp().sum().item() == pytest.approx(1, abs=1e-6)
    weights = (every.sequence_logprobs(world.reference) + world.scores(every) / kl_coef).exp()
    optimum = torch.zeros(PREFIXES, 3)
    for tokens, prefixes, mask, weight in zip(every.tokens, every.prefixes, every.mask, weights, strict=True):
        optimum[prefixes[mask], tokens[mask]] += weight  # the weight of everything that goes on from there
    assert world.objective(optimum.log(), kl_coef) == pytest.approx(world.optimum(kl_coef), abs=1e-5)
    assert math.isclose(kl_coef * math.log(weights.sum()), world.optimum(kl_coef), abs_tol=1e-5)
