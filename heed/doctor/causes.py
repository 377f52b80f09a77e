"""From symptoms to one cause: what was tested is explained by the sampler that fits, or by the toggle that mends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heed.doctor.findings import Finding, by_severity, finding
from heed.doctor.statistics import Uniform
from heed.doctor.suspects import Suspect
from heed.formulas.masked import masked_mean

Tokens = Float[Tensor, " tokens"]
Masks = Float[Tensor, "masks tokens"]

MESSAGES = {
    "NK1": "The sampler truncates the distribution ({setting}), but KL and ratios are those of the whole policy.",
    "NK2": "Tokens were drawn at another temperature than they are scored with (best fit: {setting}).",
    "NK3": "The sampler changes the logits of tokens that are already written (best fit: {setting}).",
    "NK4": "End-of-text is suppressed ({setting}): raising its probability lowers the measured KL without bound.",
    "NK5": "Rollouts are not samples: nearly every token is the likeliest one.",
    "NK13": "The tokens were drawn from {setting}, not from the policy that is scored.",
    "NK24": "The sampler was made to write a token that it did not draw ({setting}).",
}
"""What is said of a suspect, by cause."""


def name_cause(symptoms: Sequence[Finding], best: tuple[Suspect, float] | None) -> list[Finding]:
    """One finding for all failed sampling tests: the suspect's cause, or a ban, or the gravest symptom itself."""
    if not symptoms:
        return []
    ordered = by_severity(symptoms)
    evidence = {found.id + _what(found): found.evidence for found in ordered}
    first = ordered[0]
    if best is not None:
        suspect, gain = best
        message = f"{MESSAGES[suspect.cause].format(setting=suspect.setting)} {first.message}"
        return [finding(suspect.cause, message, first.severity, fits=suspect.setting, gain=gain, tests=evidence)]
    absent = next((found for found in ordered if found.evidence.get("event") == "absent"), None)
    if absent is not None:
        return [finding("NK3", f"Some tokens cannot be drawn. {absent.message}", absent.severity, tests=evidence)]
    message = f"{first.message} No other sampler that was tried explains the tokens."
    return [Finding(first.id, first.severity, message, first.hint, {"tests": evidence})]


def _what(found: Finding) -> str:
    return f" {found.evidence['event']}" if "event" in found.evidence else ""


@dataclass(frozen=True)
class Toggle:
    """One thing done differently in scoring, and the cause that it would be."""

    name: str
    cause: str
    message: str


TOGGLES = (
    Toggle("other", "NK12", "scoring with the other model of the two"),
    Toggle("base", "NK13", "scoring with the adapter switched off"),
    Toggle("positions", "NK8", "counting positions from the first pad"),
    Toggle("pads", "NK9", "attending to the padding"),
    Toggle("hidden", "NK9", "hiding every token that is equal to the pad token"),
    Toggle("shift", "NK11", "looking tokens up one position late"),
    Toggle("shift back", "NK11", "looking tokens up one position early"),
    Toggle("temperature", "NK2", "leaving out the temperature"),
    Toggle("raw", "NK20", "leaving out the log-softmax"),
)
"""What is tried, in this order, to reproduce log-probabilities that are not those of the exact scoring."""

Rescore = Callable[[str], Float[Tensor, "batch response"] | None]
"""Scores some rows again under the toggle of that name ("" = none); None where it would change nothing."""


def explain(
    recorded: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
    rescore: Rescore,
    tolerance: float,
    causes: Mapping[str, str] | None = None,
) -> Finding | None:
    """The toggle under which scoring gives the recorded numbers: mean |Δ| falls under `tolerance`.

    None where the plain scoring gives them, or no toggle does. `causes` renames causes by toggle, where the recorded
    numbers are the sampler's, or the reference's, rather than the policy's.
    """
    plain = rescore("")
    assert plain is not None
    gap = _gap(recorded, plain, mask)
    if gap <= tolerance:
        return None
    for toggle in TOGGLES:
        scored = rescore(toggle.name)
        if scored is None:
            continue
        left = _gap(recorded, scored, mask)
        if left <= tolerance and left < gap / 4:
            cause = (causes or {}).get(toggle.name, toggle.cause)
            message = f"{gap:.3g} nats off at the mean token; {toggle.message} gives the recorded numbers."
            return finding(cause, message, test="T2", toggle=toggle.name, gap=gap, left=left)
    return None


def _gap(recorded: Tensor, scored: Tensor, mask: Tensor) -> float:
    return float(masked_mean((recorded - scored).abs(), mask))


OTHER = {"sampler_logprobs": "NK13", "policy_logprobs": "NK19", "ref_logprobs": "NK15"}
"""What it is when a column is of other weights on the way from the reference to the policy."""
DROPPED = {"sampler_logprobs": "NK7", "policy_logprobs": "NK6"}
"""What it is when a column has dropout in it."""
FEWEST = 100  # tokens that two distributions are compared by
ALIKE = 1.63
"""√n·KS over which two distributions are told apart: by chance once in a hundred."""


def other_weights(column: str, off: Tokens, direction: Tokens) -> Finding | None:
    """Recorded numbers that lie along the way from the reference to the policy: older or newer weights than given.

    `off` is recorded − exact, `direction` the log-ratio of the two models at the same tokens. Their squared cosine is
    the share of the one that the other explains; over half is more than noise of any kind would have in common.
    """
    a, b = off.double(), direction.double()
    sizes = float((a * a).sum() * (b * b).sum())
    share = float((a * b).sum()) ** 2 / sizes if sizes > 0 else 0.0
    if not share > 0.5:
        return None
    gap = float(a.abs().mean())
    message = (
        f"{gap:.3g} nats off at the mean token, and {share:.0%} of it lies between reference and policy: other weights."
    )
    return finding(OTHER[column], message, test="T2", toggle="weights", gap=gap, share=share)


def dropped(
    column: str, recorded: Tokens, plain: Tokens, masked: Mapping[float, Masks], rows: Int[Tensor, " tokens"]
) -> Finding | None:
    """Recorded numbers that are spread as dropout spreads them: at some share of dropout (`masked`) they lie as far
    from the right ones as under other masks, within a factor of two, and the ranks of each among those are uniform.

    A sampler's own numbers were written by one of its masks, in proportion to the probability that it gives the token:
    so are the masks weighted. Tokens of one of the `rows` have noise in common, for which √n·KS is corrected.
    """
    if column not in DROPPED or len(recorded) < FEWEST:
        return None
    fits = {}
    for share, lines in masked.items():
        lines = torch.cat([lines, recorded[None]])  # it is one more of them, if it is dropout
        weights = (lines if column == "sampler_logprobs" else torch.zeros_like(lines)).double().softmax(0)
        others = weights[:-1] / weights[:-1].sum(0)
        spread = float((others * (lines[:-1] - plain).square()).sum(0).mean().sqrt())
        ranks = (weights * ((lines < recorded) + 0.5 * (lines == recorded))).sum(0)
        if 0.5 < float((recorded - plain).square().mean().sqrt()) / spread < 2:
            fits[share] = (
                Uniform(ranks).distance / (1 + (len(rows) / len(rows.unique()) - 1) * in_common(ranks, rows)) ** 0.5
            )
    share = min(fits, key=lambda one: fits[one], default=0.0)
    if fits.get(share, ALIKE) >= ALIKE:
        return None
    gap, mean = float((recorded - plain).abs().mean()), float((plain - recorded).mean())
    message = f"{gap:.3g} nats off at the mean token, spread as dropout of about {share} spreads them."
    numbers = {"gap": gap, "mean": mean, "dropout": share, "ks": fits[share]}
    return finding(DROPPED[column], message, test="T2", toggle="dropout", **numbers)


def in_common(values: Tokens, groups: Int[Tensor, " tokens"]) -> float:
    """Intraclass correlation: the share of the variance that numbers of one group have in common, at least 0.

    ρ = (B − W) / (B + (m − 1)·W)      B, W: mean squares between and within groups,  m: numbers a group
    """
    _, place, sizes = groups.unique(return_inverse=True, return_counts=True)
    count, size = len(sizes), len(values) / len(sizes)
    centred = values.double() - values.double().mean()
    means = torch.zeros(count, dtype=torch.double).index_add_(0, place, centred) / sizes
    between = float((sizes * means.square()).sum()) / max(1, count - 1)
    within = float((centred - means[place]).square().sum()) / max(1, len(values) - count)
    total = between + (size - 1) * within
    return max(0.0, (between - within) / total) if total > 0 else 0.0


COMPARED = ("T2", "T4", "T5", "T6", "T11")
"""Tests that compare one scoring with another."""


def explains_tokens(found: Finding) -> bool:
    """Is what fits the tokens explained or void? Where the sampler's numbers are known, or those of other weights; and
    where the scorer is wrong, unless the tokens were weighed by another, exact scoring (`apart`)."""
    evidence = found.evidence
    named = evidence.get("column") == "sampler_logprobs" or evidence.get("toggle") == "weights"
    return "toggle" in evidence and (named or not evidence.get("apart", False))


def settle(findings: Sequence[Finding]) -> list[Finding]:
    """One finding a cause, the gravest first; where a cause is known, symptoms without one are its evidence.

    Scores with dropout in them (T3, or by their spread) explain every comparison of scores. Where the sampler's own
    numbers were reproduced, that outranks a sampler that only fits the tokens; so does a mistake of the scorer whose
    logits the tokens were weighed by. Where the numbers differ (T2) and such a sampler is all that explains them, it is
    as grave as they are.
    """
    random = any(found.id == "NK6" for found in findings)
    reproduced = random or any(explains_tokens(found) for found in findings)
    left = [found for found in findings if not (reproduced and "tests" in found.evidence)]
    left = [found for found in left if found.id == "NK6" or not (random and found.evidence.get("test") in COMPARED)]
    if any(found.id == "NK19" for found in left):  # the versions that differ are those of the scorer
        left = [found for found in left if found.evidence.get("test") != "T15" or found.id == "NK19"]
    if any(found.id == "T2" and found.severity == "error" for found in left):
        left = [replace(found, severity="error") if "fits" in found.evidence else found for found in left]
    known = any(found.id.startswith("NK") and (found.severity == "error" or "gap" in found.evidence) for found in left)
    kept: dict[str, Finding] = {}
    for found in by_severity(left):
        bare = found.id.startswith("T") or found.id in ("NK16", "NK21")
        if found.id not in kept and not (known and bare):
            kept[found.id] = found
    return list(kept.values())
