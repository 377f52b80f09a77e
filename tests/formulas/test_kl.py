"""KL estimators: values, expectations and gradients by enumeration; the controller; the bound for best-of-n."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from heed.formulas.kl import adaptive_coefficient, best_of_n_kl, k1, k3
from heed.formulas.logprobs import exact_kl

Estimator = Callable[[Tensor, Tensor], Tensor]

POLICY = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
REFERENCE = torch.tensor([0.4, 0.4, 0.2], dtype=torch.float64)
KL = 0.5 * math.log(5 / 4) + 0.3 * math.log(3 / 4)  # of the policy from the reference
REVERSE_KL = 0.4 * math.log(4 / 5) + 0.4 * math.log(4 / 3)


@pytest.mark.parametrize(
    ("log_ratio", "expected"),
    [
        (math.log(2), (0.693147, 0.193147)),  # k3 = 1/2 − 1 + ln 2
        (-math.log(2), (-0.693147, 0.306853)),  # k3 = 2 − 1 − ln 2
        (0.1, (0.1, 0.004837)),
        (-0.1, (-0.1, 0.005171)),
        (0.0, (0.0, 0.0)),
    ],
)
def test_estimators_by_hand(log_ratio: float, expected: tuple[float, float]) -> None:
    logprobs = torch.tensor([[-3.0 + log_ratio]], dtype=torch.float64)
    ref_logprobs = torch.tensor([[-3.0]], dtype=torch.float64)
    found = [estimator(logprobs, ref_logprobs).item() for estimator in (k1, k3)]
    assert found == pytest.approx(expected, abs=5e-7)


def test_k3_keeps_its_digits_near_the_reference() -> None:
    logprobs, ref_logprobs = torch.tensor([1e-4, -1e-4]), torch.zeros(2)  # float32: exp(−ℓ) − 1 would lose them all
    assert_close(k3(logprobs, ref_logprobs), torch.tensor([0.5e-8, 0.5e-8]), rtol=5e-3, atol=0)


def test_expectations_by_enumeration() -> None:
    logprobs, ref_logprobs = POLICY.log(), REFERENCE.log()
    assert pytest.approx(0.02526715, abs=1e-8) == KL
    assert (POLICY * k1(logprobs, ref_logprobs)).sum().item() == pytest.approx(KL, abs=1e-12)
    assert (POLICY * k3(logprobs, ref_logprobs)).sum().item() == pytest.approx(KL, abs=1e-12)
    assert (REFERENCE * k1(ref_logprobs, logprobs)).sum().item() == pytest.approx(REVERSE_KL, abs=1e-12)


def expected_gradient(estimator: Estimator, as_reward: bool) -> list[float]:
    """Gradient in the policy's logits, every token enumerated: Σ π k ∇log π (in the reward) or Σ π ∇k (as a loss)."""
    logits = POLICY.log().requires_grad_()
    logprobs = logits.log_softmax(-1)
    terms = estimator(logprobs, REFERENCE.log())
    surrogate = (POLICY * (terms.detach() * logprobs if as_reward else terms)).sum()
    (gradient,) = torch.autograd.grad(surrogate, logits)
    return gradient.tolist()


def test_gradients_by_enumeration() -> None:
    """In the reward k1 has ∇KL and k3 has not; as a loss k1 has nothing and k3 has the other KL's."""
    grad_kl = [p * (math.log(p / r) - KL) for p, r in zip(POLICY.tolist(), REFERENCE.tolist(), strict=True)]
    assert grad_kl == pytest.approx([0.098938, -0.093885, -0.005053], abs=5e-7)
    assert expected_gradient(k1, as_reward=True) == pytest.approx(grad_kl)
    assert expected_gradient(k1, as_reward=False) == pytest.approx([0, 0, 0], abs=1e-12)
    grad_reverse_kl = (POLICY - REFERENCE).tolist()  # 0.1, −0.1, 0
    assert expected_gradient(k3, as_reward=False) == pytest.approx(grad_reverse_kl, abs=1e-12)
    difference = [a - b for a, b in zip(grad_kl, grad_reverse_kl, strict=True)]
    assert expected_gradient(k3, as_reward=True) == pytest.approx(difference, abs=1e-12)
    assert difference == pytest.approx([-0.001062, 0.006115, -0.005053], abs=5e-7)


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ((0.4, 0.3, 0.2, 0.1), 0.03349271),  # the policy itself: its KL
        ((4 / 7, 3 / 7, 0.0, 0.0), -0.13336917),  # top-2 sampling
        (tuple(p ** (1 / 0.7) for p in (0.4, 0.3, 0.2, 0.1)), -0.00803217),  # temperature 0.7, scored at 1
        ((0.45, 0.35, 0.15, 0.05), -0.02914543),  # the reference samples
    ],
)
def test_negative_kl_means_that_the_sampler_is_not_the_policy(sampler: tuple[float, ...], expected: float) -> None:
    """E_q[log π − log ref] = KL(q‖ref) − KL(q‖π)."""
    policy, reference = torch.tensor([0.4, 0.3, 0.2, 0.1]), torch.tensor([0.45, 0.35, 0.15, 0.05])
    q = torch.tensor(sampler, dtype=torch.float64) / sum(sampler)
    measured = (q * k1(policy.double().log(), reference.double().log())).sum().item()
    assert measured == pytest.approx(expected, abs=5e-8)


def test_negative_kl_identity_for_random_distributions() -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        q, policy, reference = torch.randn(3, 6, generator=generator, dtype=torch.float64).log_softmax(-1)
        measured = (q.exp() * k1(policy, reference)).sum()
        assert_close(measured, exact_kl(q, reference) - exact_kl(q, policy))


@pytest.mark.parametrize(("kl", "expected"), [(12.0, 0.201024), (6.0, 0.2), (3.0, 0.198976), (6.6, 0.200512)])
def test_adaptive_coefficient_by_hand(kl: float, expected: float) -> None:
    # error clipped to ±0.2, times 256 episodes / 10,000: ±0.00512 at most; at 6.6 the error is 0.1
    found = adaptive_coefficient(0.2, kl, target=6.0, horizon=10_000.0, episodes=256)
    assert found == pytest.approx(expected, abs=1e-9)


def test_adaptive_coefficient_does_not_follow_an_invalid_measurement() -> None:
    assert adaptive_coefficient(0.2, -3.0, target=6.0, horizon=10_000.0, episodes=256, valid=False) == 0.2
    assert adaptive_coefficient(0.2, -3.0, target=6.0, horizon=10_000.0, episodes=256) < 0.2  # what would feed the bug


@pytest.mark.parametrize(("n", "expected"), [(1, 0), (2, 0.1931), (4, 0.6363), (8, 1.2044), (16, 1.8351), (64, 3.1745)])
def test_best_of_n_kl_by_hand(n: int, expected: float) -> None:
    assert best_of_n_kl(n) == pytest.approx(expected, abs=5e-5)


def test_best_of_n_kl_is_exact_for_distinct_scores_and_a_bound_for_few() -> None:
    rank = torch.arange(1, 20_001, dtype=torch.float64) / 20_000  # many equally likely responses, all of other scores
    best_of_4 = rank**4 - (rank - 1 / 20_000) ** 4
    assert (best_of_4 * (best_of_4 * 20_000).log()).sum().item() == pytest.approx(best_of_n_kl(4), abs=1e-3)
    best_of_2 = {0.25: 0.5, 0.39: 0.3, 0.36: 0.2}  # probability → reference's; e.g. 0.8² − 0.5² = 0.39
    kl = sum(p * math.log(p / r) for p, r in best_of_2.items())
    assert kl == pytest.approx(0.140638, abs=5e-7)
    assert kl <= best_of_n_kl(2)
