"""Test statistics of a rollout: is what was drawn a sample of what was scored?"""

from __future__ import annotations

import math

from jaxtyping import Bool, Float
from torch import Tensor

from heed.formulas.masked import masked_sum


def martingale_z(
    deviations: Float[Tensor, "batch response"],
    variances: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
) -> float | None:
    """z = Σ D / √Σ Var: standard normal if tokens were drawn from the policy that was scored.

    `deviations` have expectation 0 given the text before them; `variances` are exact, over the whole vocabulary, and
    not the sample's own. None (not tested) where there is nothing to vary, as before the first update.
    """
    variance = float(masked_sum(variances.double(), mask))
    return float(masked_sum(deviations.double(), mask)) / math.sqrt(variance) if variance > 1e-6 else None
