"""The tests, each a pure function of what is handed in; an empty list where it passes or there is nothing to test.

Per-token tensors are response-aligned, nats. `symptom` words the sampling tests T6 to T10, whose sums are in
`statistics` and `events`; T0 to T5 and T11 to T15 are here.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heed.doctor.events import EVENTS
from heed.doctor.findings import CAUSES, Finding, Severity, finding
from heed.doctor.likeness import SETTLES
from heed.doctor.statistics import Absences, Count, Martingale, Sum, Uniform, in_float64
from heed.doctor.tolerances import BFLOAT16, FLOAT32, NUMERICAL, Tolerance
from heed.formulas.masked import masked_mean

Line = Float[Tensor, "batch response"]
Mask = Bool[Tensor, "batch response"]


def token_identity(
    sampled: Sequence[Sequence[int]],
    scored: Sequence[Sequence[int]],
    sampled_prompts: Sequence[Sequence[int]] = (),
    scored_prompts: Sequence[Sequence[int]] = (),
    scorer: str = "Scored",
) -> list[Finding]:
    """T1: ids that were scored are ids that were sampled, in responses and in prompts; rows without padding."""
    found = []
    pairs = (("NK17", "ids", sampled, scored), ("NK18", "prompt ids", sampled_prompts, scored_prompts))
    for cause, what, ours, theirs in pairs:
        differ = [i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if list(a) != list(b)]
        if differ:
            message = f"{scorer} {what} differ from sampled {what} in {len(differ)} of {len(ours)} rows."
            found.append(finding(cause, message, test="T1", rows=len(differ), first_row=differ[0]))
    return found


def rescore_gap(scored: Line, sampled: Line, mask: Mask, tolerance: Tolerance = FLOAT32) -> list[Finding]:
    """T2: the scorer's log-probabilities against the sampler's own, of the distribution that it drew from.

    The mean gap is −KL(q‖π) of the sampler q. Beyond the `tolerance` a small gap may be numerical (NK16); a large one
    has a cause to be found (T2).
    """
    gap = in_float64(scored - sampled)[mask.cpu()]
    if len(gap) == 0:
        return []
    mean, largest = float(gap.mean()), float(gap.abs().max())
    p99 = float(gap.abs().sort().values[max(0, math.ceil(0.99 * len(gap)) - 1)])
    if _within(tolerance, mean, p99, largest):
        return []
    evidence: dict[str, Any] = {"test": "T2", "mean": mean, "p99": p99, "max": largest, "tokens": len(gap)}
    shown = f"by {mean:+.4f} nats at the mean token, {p99:.3g} at the 99th percentile, {largest:.3g} at most"
    if _within(NUMERICAL, mean, p99, largest):
        hint = f"{CAUSES['NK16'].hint}; if they are the same, {SETTLES}"
        return [finding("NK16", f"Sampler and scorer differ {shown}.", hint=hint, **evidence)]
    return [finding("T2", f"Scored log-probabilities differ from the sampler's {shown}.", hint=SETTLES, **evidence)]


def _within(tolerance: Tolerance, mean: float, p99: float, largest: float) -> bool:
    return largest <= tolerance.largest and p99 <= tolerance.p99 and abs(mean) <= tolerance.mean


def determinism(first: Line, second: Line, mask: Mask, modules: Sequence[str] = ()) -> list[Finding]:
    """T3: the same rows scored twice. `modules` names those with dropout that are in training mode."""
    first, second = first[mask], second[mask]
    if torch.equal(first.nan_to_num(), second.nan_to_num()):
        return []
    gap = (first - second).nan_to_num().abs()
    lengths = mask.sum(1).float().mean()
    bias = -0.5 * float((first - second).var(correction=0)) / 2 * float(lengths)
    named = f" ({', '.join(modules[:3])})" if modules else ""
    message = (
        f"Two scorings of the same tokens differ by up to {float(gap.max()):.3g}: dropout is active{named}. "
        f"That alone biases KL by about {bias:.2f} nats a response."
    )
    return [finding("NK6", message, test="T3", max=float(gap.max()), bias=bias, modules=list(modules))]


def padding_invariance(
    batched: Line,
    alone: Line,
    mask: Mask,
    pads: Int[Tensor, " batch"],
    tolerance: float = FLOAT32.padding,
    hidden: int = 0,
) -> list[Finding]:
    """T4: each row in its batch, where it has so many `pads`, against the row alone without padding.

    `hidden` counts real tokens that a mask made of `ids != pad` would hide: then that is the cause (NK9). Not tested
    where a number is not finite, which T14 tells.
    """
    gap = (batched - alone).abs().masked_fill(~mask, 0).amax(1)
    if not float(gap.max()) > tolerance or not gap.isfinite().all():
        return []
    unpadded = float(gap[pads == 0].max()) if (pads == 0).any() else None
    evidence: dict[str, Any] = {"test": "T4", "max": float(gap.max()), "without_pads": unpadded}
    changed = f"Log-probabilities change by up to {float(gap.max()):.3g} when padding is removed"
    if hidden:
        return [finding("NK9", f"{changed}: the attention mask hides {hidden} real tokens.", hidden=hidden, **evidence)]
    return [finding("NK8", f"{changed}: positions are not derived from the attention mask.", **evidence)]


def identity_at_start(
    logprobs: Line, ref_logprobs: Line, mask: Mask, exact_kl: Line | None = None, tolerance: Tolerance = FLOAT32
) -> list[Finding]:
    """T5: before any update the policy is the reference, so every token's k1 is 0, whatever the sampler was.

    Without `exact_kl` it is not known how the numbers were made: what lower precision may do is a warning (NK16).
    """
    gap = (logprobs - ref_logprobs).masked_fill(~mask, 0)
    largest = float(gap.abs().max())
    if largest <= tolerance.largest:
        return []
    if exact_kl is None and not rescore_gap(logprobs, ref_logprobs, mask, BFLOAT16):
        message = f"Before any update policy and reference differ by up to {largest:.3g}, as in lower precision."
        return [finding("NK16", message, test="T5", max=largest)]
    kl = float((gap if exact_kl is None else exact_kl.masked_fill(~mask, 0)).sum(1).mean())
    evidence: dict[str, Any] = {"test": "T5", "max": largest, "kl": kl}
    if kl > 0:
        message = f"Before any update the reference differs from the policy by {kl:.3g} nats a response."
        return [finding("NK14", message, **evidence)]
    message = (
        f"Before any update policy and reference differ by up to {largest:.3g} and mean KL is {kl:.3g}: "
        f"the two are scored in different ways (dropout, positions, dtype)."
    )
    return [finding("T5", message, **evidence)]


def swapped_roles(recorded: Line, recorded_ref: Line, logprobs: Line, ref_logprobs: Line, mask: Mask) -> list[Finding]:
    """T6, first of all: is recorded log π − log ref the negative of the same from exact scoring?"""
    theirs, ours = recorded - recorded_ref, logprobs - ref_logprobs
    size = float(masked_mean(ours.abs(), mask))
    if size < 1e-4:
        return []
    negated = float(masked_mean((theirs + ours).abs(), mask))
    if negated > 0.05 * size:
        return []
    message = (
        f"Policy and reference are swapped: {float(masked_mean(theirs, mask)):+.4f} nats a token are recorded, "
        f"{float(masked_mean(ours, mask)):+.4f} are right."
    )
    return [finding("NK12", message, test="T6", off=negated / size)]


def symptom(test: str, found: Sum, severity: Severity) -> Finding:
    """T6 to T10 failed: the words and numbers of a sum whose z is too large. `test` may name an event, `T8 eos`."""
    name, _, event = test.partition(" ")
    z = found.z or 0.0
    if isinstance(found, Count):
        what, expected = EVENTS[event].capitalize(), found.expected
        message = f"{what} was drawn {found.observed} times, expected {expected:.1f} (z = {z:.1f})."
        return finding(name, message, severity, event=event, observed=found.observed, expected=found.expected, z=z)
    if isinstance(found, Absences):
        absent = found.tokens
        message = f"{len(absent)} tokens expected over 12 times each were never drawn, such as id {absent[0]}."
        return finding(name, message, severity, event=event, ids=absent[:20], count=len(absent), z=z)
    if isinstance(found, Uniform):
        message = f"The mass ranked above the drawn token is not uniform: √n·KS = {found.distance:.2f}, limit 2.5."
        return finding(name, message, severity, distance=found.distance, tokens=len(found.values), z=z)
    assert isinstance(found, Martingale)
    what = {"T6": "k1 and the exact KL of the same tokens", "T7": "Surprisal and entropy", "T10": "k1 and k3"}[name]
    message = f"{what} differ by {found.deviation:+.1f} nats in all, {z:+.1f} standard deviations of sampling noise."
    return finding(name, message, severity, deviation=found.deviation, sd=math.sqrt(found.variance), z=z)


def mask_audit(
    tokens: Int[Tensor, "batch response"], mask: Mask, eos: tuple[int, ...], contributions: Line | None = None
) -> list[Finding]:
    """T12: the mask is a prefix that ends with the first end-of-text token, and nothing else adds to KL.

    `eos` are the tokens that end a text; `contributions` the per-token terms that are summed, such as k1, before any
    mask.
    """
    found = []
    lengths, columns = mask.sum(1), torch.arange(mask.shape[1], device=mask.device)
    holes = (mask != (columns < lengths[:, None])).any(1)
    if holes.any():
        message = f"The mask of {int(holes.sum())} responses is not one run from the first token."
        found.append(finding("T12", message, rows=int(holes.sum())))
    if eos:
        ends = torch.isin(tokens, torch.tensor(eos, device=tokens.device))
        ended = ends.long().cumsum(1) - ends.long() > 0  # an end-of-text token stands before
        after = int((mask & ended).sum())
        if after:
            found.append(finding("NK10", f"KL includes {after} positions after end-of-text.", test="T12", tokens=after))
        follows = ends.gather(1, lengths.clamp(max=mask.shape[1] - 1)[:, None])[:, 0]
        lost = (lengths < mask.shape[1]) & follows & ~(mask & ends).any(1)
        if lost.any():
            message = f"The mask leaves out the end-of-text token of {int(lost.sum())} responses."
            found.append(finding("NK9", message, test="T12", rows=int(lost.sum())))
    outside = int((contributions.masked_fill(mask, 0) != 0).sum()) if contributions is not None else 0
    if outside and not any(one.id == "NK10" for one in found):
        message = f"{outside} positions outside the mask add to KL."
        found.append(finding("NK10", message, test="T12", tokens=outside))
    return found


def normalisation(logprobs: Line, mask: Mask, exact_kl: Line | None = None, name: str = "policy") -> list[Finding]:
    """T14: log-probabilities are finite and at most 0, and no state's exact KL is negative."""
    counted = logprobs[mask]
    unfit = int((~counted.isfinite()).sum() + (counted > 1e-4).sum())
    if unfit:
        message = f"{unfit} of {len(counted)} {name} log-probabilities are above 0 or not finite."
        return [finding("NK20", message, test="T14", tokens=unfit)]
    if exact_kl is not None and bool((exact_kl[mask] < -1e-5).any()):
        lowest = float(exact_kl[mask].min())
        message = f"The exact KL of a state is {lowest:.3g}, which is below 0."
        return [finding("NK20", message, test="T14", lowest=lowest)]
    return []


def freshness(sampler: Sequence[Any], scorer: Sequence[Any], steps_since: int = 0) -> list[Finding]:
    """T15: versions of the weights that sampled and that scored each row; optimiser steps between rollout and KL."""
    stale = [(a, b) for a, b in zip(sampler, scorer, strict=True) if None not in (a, b) and a != b]
    if stale:
        (a, b), count = stale[0], len(stale)
        message = f"{count} rows were sampled with other weights (version {a}) than scored (version {b})."
        return [finding("NK13", message, test="T15", rows=len(stale))]
    if steps_since:
        message = f"KL was measured after {steps_since} optimiser steps on the same rollout."
        return [finding("NK19", message, test="T15", steps=steps_since)]
    return []


def sign_of_kl(k1: Line, mask: Mask) -> list[Finding]:
    """The mean of recorded k1 over responses against its own standard error, where no exact KL is to be had.

    A mean below 0 by more than four errors proves that the tokens were not drawn from the policy (or the sign is
    wrong); a smaller one is noise (NK21). With few responses the error is itself uncertain. Rounding has a sign too:
    where it is all that there is, nothing is tested.
    """
    per_response = in_float64(k1.masked_fill(~mask, 0)).sum(1)
    if len(per_response) < 8 or float(k1.masked_fill(~mask, 0).abs().max()) <= FLOAT32.largest:
        return []
    mean, error = float(per_response.mean()), float(per_response.std()) / math.sqrt(len(per_response))
    if mean >= 0 or error == 0:
        return []
    z = mean / error
    evidence: dict[str, Any] = {"test": "T6", "mean": mean, "se": error, "z": z, "responses": len(per_response)}
    if z > -4:
        message = f"Mean KL {mean:.3g} ± {error:.2g} nats a response is consistent with 0."
        return [finding("NK21", message, **evidence)]
    message = (
        f"Mean KL is {mean:.3g} ± {error:.2g} nats a response. For tokens of the policy it is never negative, whatever "
        f"the reference, the reward or kl_coef: the sampler is not the scored policy, or a sign or a mask is wrong."
    )
    hint = "name the models for exact tests: --model DIR --reference DIR"
    return [finding("T6", message, hint=hint, **evidence)]
