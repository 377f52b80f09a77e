"""KL(policy ‖ reference): two estimators from samples, the controller of its price, and the bound for best-of-n.

ℓ = log π(token) − log ref(token), for tokens drawn from π, in nats. No estimator here is masked: count positions with
`masked_mean` and fill padding before differentiating through k3, whose exp may overflow there.
"""

from __future__ import annotations

import math

from jaxtyping import Float
from torch import Tensor


def k1(logprobs: Float[Tensor, "*shape"], ref_logprobs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """k1 = ℓ. Unbiased, of high variance, may be negative for one token but not in expectation.

    The only one whose place is in the reward: there its gradient is ∇KL. As a loss its expected gradient is 0.
    """
    return logprobs - ref_logprobs


def k3(logprobs: Float[Tensor, "*shape"], ref_logprobs: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """k3 = e^{−ℓ} − 1 + ℓ. Unbiased, never negative. Logged only: in a reward it is almost no price near ref.

    Source: Schulman, "Approximating KL Divergence". The reversed form e^ℓ − 1 − ℓ is another quantity, and hides bugs.
    """
    log_ratio = logprobs - ref_logprobs
    return (-log_ratio).expm1() + log_ratio


def adaptive_coefficient(
    kl_coef: float, kl: float, target: float, horizon: float, episodes: int, valid: bool = True
) -> float:
    """The next β of lm-human-preferences' controller (InstructGPT keeps β fixed, and so does our default).

        e = clip(kl / target − 1, −0.2, 0.2)        β ← β · (1 + e · episodes / horizon)

    `kl` and `target` are nats per response. A negative measured KL would *lower* β and feed the bug that made it
    negative, so β stays where it is unless the measurement is `valid`.
    """
    error = min(max(kl / target - 1, -0.2), 0.2)
    return kl_coef * (1 + error * episodes / horizon) if valid else kl_coef


def best_of_n_kl(n: int) -> float:
    """KL, in nats per response, of best-of-n sampling from the model sampled: ln n − (n − 1) / n.

    Exact when no two responses have the same score, an upper bound otherwise (Stiennon et al., appendix G.3).
    """
    return math.log(n) - (n - 1) / n
