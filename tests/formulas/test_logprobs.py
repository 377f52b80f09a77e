"""Log-probabilities, entropy, exact KL and the statistics of written tokens."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heed.formulas.logprobs import (
    TokenStatistics,
    completion_loss,
    entropy,
    exact_kl,
    log_softmax,
    token_logprobs,
    token_statistics,
)

POLICY, REFERENCE = (0.5, 0.3, 0.2), (0.4, 0.4, 0.2)


def logits_of(*probabilities: float, shift: float = 3.0) -> Tensor:
    """Logits with these probabilities; the shift must not matter."""
    return torch.tensor([math.log(p) + shift for p in probabilities], dtype=torch.float64)


def tempered(probabilities: tuple[float, ...], temperature: float) -> list[float]:
    powers = [p ** (1 / temperature) for p in probabilities]
    return [p / sum(powers) for p in powers]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_log_softmax_and_token_logprobs_by_hand(temperature: float) -> None:
    logits = logits_of(*POLICY).expand(2, 3, 3)
    tokens = torch.tensor([[0, 1, 2], [2, 2, 0]])
    p = tempered(POLICY, temperature)
    assert_close(log_softmax(logits, temperature)[1, 2], torch.tensor([math.log(x) for x in p], dtype=torch.float64))
    expected = [[math.log(p[t]) for t in row] for row in tokens.tolist()]
    assert_close(token_logprobs(logits, tokens, temperature), torch.tensor(expected, dtype=torch.float64))


def test_temperature_one_half_squares_the_odds() -> None:
    # .5 : .3 : .2 → 25 : 9 : 4
    logits, token = logits_of(*POLICY), torch.tensor(1)
    assert token_logprobs(logits, token, 0.5).item() == pytest.approx(math.log(9 / 38))


def test_every_tokens_probability_adds_up_to_one_and_a_shift_of_logits_changes_nothing() -> None:
    logits = torch.randn(5, 11, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    every = torch.arange(11).expand(5, 11)
    logprobs = token_logprobs(logits.unsqueeze(1).expand(5, 11, 11), every, 0.7)
    assert_close(logprobs.exp().sum(-1), torch.ones(5, dtype=torch.float64))
    assert_close(token_logprobs(logits + 100, every[:, 0]), token_logprobs(logits, every[:, 0]))
    assert token_logprobs(torch.tensor([1e4, -1e4]), torch.tensor(0)).item() == 0  # no overflow


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_gradient_is_one_hot_minus_probabilities_over_temperature(temperature: float) -> None:
    logits = logits_of(*POLICY).requires_grad_()
    (gradient,) = torch.autograd.grad(token_logprobs(logits, torch.tensor(1), temperature), logits)
    p = tempered(POLICY, temperature)
    expected = [(float(v == 1) - p[v]) / temperature for v in range(3)]
    assert_close(gradient, torch.tensor(expected, dtype=torch.float64))


def test_half_precision_logits_are_computed_with_in_float32_and_float64_stays() -> None:
    logits = (5 * torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))).bfloat16()
    tokens = torch.tensor([1, 10, 100, 999])
    exact = token_logprobs(logits.double(), tokens)
    assert exact.dtype == torch.float64
    for half in (logits, logits.float()):
        assert token_logprobs(half, tokens).dtype == torch.float32
        assert_close(token_logprobs(half, tokens).double(), exact, atol=1e-5, rtol=0)
        assert_close(entropy(half).double(), entropy(logits.double()), atol=1e-5, rtol=0)


def test_entropy_by_hand_of_uniform_and_of_certainty() -> None:
    nats = -sum(p * math.log(p) for p in POLICY)
    assert entropy(logits_of(*POLICY)).item() == pytest.approx(nats)
    squared = tempered(POLICY, 0.5)
    assert entropy(logits_of(*POLICY), 0.5).item() == pytest.approx(-sum(p * math.log(p) for p in squared))
    assert_close(entropy(torch.zeros(2, 4, 50)), torch.full((2, 4), math.log(50)))
    certain = torch.tensor([0.0, 500.0, -500.0], requires_grad=True)
    assert entropy(certain).item() == 0
    assert torch.autograd.grad(entropy(certain), certain)[0].tolist() == [0, 0, 0]


def test_exact_kl_by_hand() -> None:
    policy, reference = logits_of(*POLICY), logits_of(*REFERENCE, shift=-1.0)
    forward = 0.5 * math.log(5 / 4) + 0.3 * math.log(3 / 4)
    backward = 0.4 * math.log(4 / 5) + 0.4 * math.log(4 / 3)
    assert forward == pytest.approx(0.02526715, abs=1e-8)
    assert backward == pytest.approx(0.02581541, abs=1e-8)
    assert exact_kl(policy, reference).item() == pytest.approx(forward)
    assert exact_kl(reference, policy).item() == pytest.approx(backward)
    p, r = tempered(POLICY, 0.5), tempered(REFERENCE, 0.5)
    tempered_kl = sum(a * math.log(a / b) for a, b in zip(p, r, strict=True))
    assert exact_kl(policy, reference, 0.5).item() == pytest.approx(tempered_kl)


def test_exact_kl_is_zero_for_itself_and_positive_otherwise_with_the_right_gradient() -> None:
    generator = torch.Generator().manual_seed(0)
    policy, reference = torch.randn(2, 50, 9, generator=generator, dtype=torch.float64).unbind()
    assert exact_kl(policy, policy + 2).abs().max() < 1e-12
    assert (exact_kl(policy, reference) > 0).all()
    logits = logits_of(*POLICY).requires_grad_()
    kl = exact_kl(logits, logits_of(*REFERENCE))
    (gradient,) = torch.autograd.grad(kl, logits)
    nats = 0.5 * math.log(5 / 4) + 0.3 * math.log(3 / 4)  # ∇KL = π (log π/ref − KL)
    expected = [p * (math.log(p / r) - nats) for p, r in zip(POLICY, REFERENCE, strict=True)]
    assert_close(gradient, torch.tensor(expected, dtype=torch.float64))


def expected_statistics(policy: list[float], reference: list[float], token: int) -> TokenStatistics:
    """Each field as its definition has it, in Python floats."""

    def mean(f: list[float]) -> float:
        return sum(p * x for p, x in zip(policy, f, strict=True))

    surprise = [math.log(p) for p in policy]
    log_ratio = [math.log(p / r) for p, r in zip(policy, reference, strict=True)]
    figures = {
        "logprobs": surprise[token],
        "ref_logprobs": math.log(reference[token]),
        "entropy": -mean(surprise),
        "exact_kl": mean(log_ratio),
        "kl_variance": mean([(x - mean(log_ratio)) ** 2 for x in log_ratio]),
        "surprisal_variance": mean([(x - mean(surprise)) ** 2 for x in surprise]),
        "ref_ratio_variance": sum(r * r / p for p, r in zip(policy, reference, strict=True)) - 1,
    }
    return TokenStatistics(**{name: torch.tensor([x], dtype=torch.float64) for name, x in figures.items()})


@pytest.mark.parametrize("temperature", [1.0, 0.5])
@pytest.mark.parametrize("token", [0, 2])
def test_token_statistics_by_hand(token: int, temperature: float) -> None:
    lopsided = (0.1, 0.7, 0.2)
    policy, reference = logits_of(*lopsided).unsqueeze(0), logits_of(*REFERENCE, shift=-1.0).unsqueeze(0)
    before = policy.clone(), reference.clone()
    found = token_statistics(policy, reference, torch.tensor([token]), temperature)
    expected = expected_statistics(tempered(lopsided, temperature), tempered(REFERENCE, temperature), token)
    for field in fields(TokenStatistics):
        assert_close(getattr(found, field.name), getattr(expected, field.name), msg=field.name)
    assert torch.equal(policy, before[0]) and torch.equal(reference, before[1])  # in place, but not on the caller's


def test_token_statistics_agree_with_the_single_formulas_on_many_tokens() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, ref_logits = (3 * torch.randn(2, 20, 200, generator=generator)).requires_grad_().unbind()
    tokens = torch.randint(200, (20,), generator=generator)
    found = token_statistics(logits, ref_logits, tokens, 0.8)
    assert_close(found.logprobs, token_logprobs(logits, tokens, 0.8).detach())
    assert_close(found.ref_logprobs, token_logprobs(ref_logits, tokens, 0.8).detach())
    assert_close(found.entropy, entropy(logits, 0.8).detach())
    assert_close(found.exact_kl, exact_kl(logits, ref_logits, 0.8).detach())
    assert not any(getattr(found, field.name).requires_grad for field in fields(TokenStatistics))


def test_token_statistics_of_a_policy_that_is_the_reference() -> None:
    logits = torch.randn(3, 40, generator=torch.Generator().manual_seed(0))
    found = token_statistics(logits, logits, torch.tensor([0, 1, 2]))
    for zero in (found.exact_kl, found.kl_variance, found.ref_ratio_variance):
        assert zero.tolist() == [0, 0, 0]
    uniform = token_statistics(torch.zeros(1, 8), logits[:1, :8], torch.tensor([0]))
    assert uniform.surprisal_variance.item() == pytest.approx(0, abs=1e-12)  # all tokens are equally surprising
    assert uniform.entropy.item() == pytest.approx(math.log(8))


def test_token_statistics_stay_finite_where_probabilities_underflow() -> None:
    certain = torch.tensor([[0.0, -300.0, -200.0]])
    found = token_statistics(certain, torch.tensor([[0.0, -150.0, -1.0]]), torch.tensor([0]))
    for field in fields(TokenStatistics):
        if field.name != "ref_ratio_variance":
            assert getattr(found, field.name).isfinite().all(), field.name
    assert not found.ref_ratio_variance.isnan().any()
    assert found.ref_ratio_variance.item() > 1e30  # (0.27)² / e^−200: far beyond float32, which must say "huge"
    same_tail = token_statistics(certain[:, :2], torch.tensor([[0.0, -150.0]]), torch.tensor([0]))
    assert same_tail.ref_ratio_variance.item() == 0


def test_completion_loss_by_hand() -> None:
    logprobs = torch.tensor([-1.0, -0.5, -3.0], dtype=torch.float64, requires_grad=True)
    loss = completion_loss(logprobs, 3)
    assert loss.item() == pytest.approx((1.0 + 0.5 + 3.0) / 3)
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert_close(gradient, torch.full((3,), -1 / 3, dtype=torch.float64))


def test_completion_loss_of_uniform_logits_is_ln_vocab() -> None:
    tokens = torch.randint(50257, (6,), generator=torch.Generator().manual_seed(0))
    assert completion_loss(token_logprobs(torch.zeros(6, 50257), tokens), 6).item() == pytest.approx(10.8249, abs=5e-5)


def test_completion_loss_over_microbatches_divides_by_the_global_token_count() -> None:
    logprobs = torch.randn(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole = completion_loss(logprobs, 9)
    parts = [completion_loss(part, 9) for part in logprobs.split([5, 1, 3])]
    assert_close(torch.stack(parts).sum(), whole)
    assert_close(whole, -logprobs.mean())
