"""What cannot be done again to the bit: other weights, dropout, rounding. Judged by how differences are spread.

A likeness is no proof, and says so; what would be one is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor

from heed.doctor.findings import Finding, finding
from heed.doctor.statistics import Uniform, in_float64

Tokens = Float[Tensor, " tokens"]
Masks = Float[Tensor, "masks tokens"]

OTHER = {"sampler_logprobs": "NK13", "policy_logprobs": "NK19", "ref_logprobs": "NK15"}
"""What it is when a column is of other weights on the way from the reference to the policy."""
DROPPED = {"sampler_logprobs": "NK7", "policy_logprobs": "NK6"}
"""What it is when a column has dropout in it."""
FEWEST = 200  # tokens that two distributions are compared by
ALIKE = 1.63
"""√n·KS over which two distributions are told apart: by chance once in a hundred."""
ROUNDED = (1 / 3, 3.0)  # spread of a difference to that of rounding
IN_STEP = 4.0  # standard deviations of chance over which a difference goes with that of rounding

SETTLES = (
    "score the rollouts a second time (`policy_logprobs_again`), and write `sampler_version` and `scorer_version`: "
    "together they tell dropout, other weights and rounding apart"
)
"""What to do where a difference has no cause that was tried."""


def no_proof(tokens: int) -> str:
    """What is said of every likeness."""
    return f" That is a likeness over {tokens} tokens and no proof; a second scoring, or more tokens, would be one."


def other_weights(column: str, off: Tokens, direction: Tokens) -> Finding | None:
    """Recorded numbers that lie along the way from the reference to the policy: older or newer weights than given.

    `off` is recorded − exact, `direction` the log-ratio of the two models at the same tokens. Their squared cosine is
    the share of the one that the other explains; over half is more than noise of any kind would have in common.
    """
    a, b = in_float64(off), in_float64(direction)
    sizes = float((a * a).sum() * (b * b).sum())
    share = float((a * b).sum()) ** 2 / sizes if sizes > 0 else 0.0
    if not share > 0.5:
        return None
    gap = float(a.abs().mean())
    message = (
        f"{gap:.3g} nats off at the mean token, and {share:.0%} of it lies between reference and policy: other weights."
    )
    return finding(OTHER[column], message, test="T2", toggle="weights", gap=gap, share=share)


def rounded(off: Tokens, rounding: Mapping[str, Tokens]) -> Finding | None:
    """Recorded numbers that are as far off, and in the same places, as a lower precision makes them.

    `off` is recorded − exact, `rounding` the same of the model in other dtypes. The weights are rounded alike wherever
    that is done, so that right numbers of that precision go with ours, whatever their kernels add.
    """
    a = in_float64(off)
    for dtype, line in rounding.items():
        b = in_float64(line)
        sizes = a.square().mean().sqrt(), b.square().mean().sqrt()
        in_step = float((a * b).mean() / (sizes[0] * sizes[1]).clamp(min=1e-30)) * len(a) ** 0.5
        if ROUNDED[0] < float(sizes[0] / sizes[1].clamp(min=1e-30)) < ROUNDED[1] and in_step > IN_STEP:
            gap = float(a.abs().mean())
            message = f"{gap:.3g} nats off at the mean token, as the rounding of {dtype} makes them."
            return finding("NK16", message, test="T2", toggle=dtype, mean=float(a.mean()), max=float(a.abs().max()))
    return None


def dropped(
    column: str, recorded: Tokens, plain: Tokens, masked: Mapping[float, Masks], rows: Int[Tensor, " tokens"]
) -> Finding | None:
    """Recorded numbers that are spread as dropout spreads them: at some share of dropout (`masked`) they lie as far
    from the right ones as under other masks, within a factor of two, and the ranks of each among those are uniform.

    A sampler's own numbers were written by one of its masks, in proportion to the probability that it gives the token:
    so are the masks weighted. Tokens of one of the `rows` have noise in common, for which √n·KS is corrected. A rank
    among a few masks is a step: where on it a number lies is drawn, always alike.
    """
    if column not in DROPPED or len(recorded) < FEWEST:
        return None
    fits = {}
    for share, lines in masked.items():
        lines = torch.cat([lines, recorded[None]])  # it is one more of them, if it is dropout
        weights = in_float64(lines if column == "sampler_logprobs" else torch.zeros_like(lines)).softmax(0)
        others = weights[:-1] / weights[:-1].sum(0)
        spread = float((others * (lines[:-1] - plain).square()).sum(0).mean().sqrt())
        place = torch.rand(len(recorded), generator=torch.Generator().manual_seed(0), dtype=torch.double)
        ranks = (weights * (lines < recorded)).sum(0) + place * (weights * (lines == recorded)).sum(0)
        if 0.5 < float((recorded - plain).square().mean().sqrt()) / spread < 2:
            fits[share] = (
                Uniform(ranks).distance
                / (1 + (len(rows) / len(rows.bincount().nonzero()) - 1) * in_common(ranks, rows)) ** 0.5
            )
    share = min(fits, key=lambda one: fits[one], default=0.0)
    if fits.get(share, ALIKE) >= ALIKE:
        return None
    gap, mean = float((recorded - plain).abs().mean()), float((plain - recorded).mean())
    message = f"{gap:.3g} nats off at the mean token, spread as dropout of about {share:.2g} spreads them."
    numbers = {"gap": gap, "mean": mean, "dropout": share, "ks": fits[share]}
    return finding(DROPPED[column], message + no_proof(len(rows)), test="T2", toggle="dropout", **numbers)


def in_common(values: Tokens, groups: Int[Tensor, " tokens"]) -> float:
    """Intraclass correlation: the share of the variance that numbers of one group have in common, at least 0.

    ρ = (B − W) / (B + (m − 1)·W)      B, W: mean squares between and within groups,  m: numbers a group
    """
    _, place, sizes = torch.unique(groups, return_inverse=True, return_counts=True)
    count, size = len(sizes), len(values) / len(sizes)
    centred = in_float64(values) - in_float64(values).mean()
    means = torch.zeros(count, dtype=torch.double).index_add_(0, place, centred) / sizes
    between = float((sizes * means.square()).sum()) / max(1, count - 1)
    within = float((centred - means[place]).square().sum()) / max(1, len(values) - count)
    total = between + (size - 1) * within
    return max(0.0, (between - within) / total) if total > 0 else 0.0
