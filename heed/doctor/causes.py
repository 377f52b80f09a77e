"""From symptoms to one cause: what was tested is explained by the sampler that fits, or by the toggle that mends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Bool, Float
from torch import Tensor

from heed.doctor.findings import Finding, by_severity, finding
from heed.doctor.suspects import Suspect
from heed.formulas.masked import masked_mean

MESSAGES = {
    "NK1": "The sampler truncates the distribution ({setting}), but KL and ratios are those of the whole policy.",
    "NK2": "Tokens were drawn at another temperature than they are scored with (best fit: {setting}).",
    "NK3": "The sampler changes the logits of tokens that are already written (best fit: {setting}).",
    "NK4": "End-of-text is suppressed ({setting}): raising its probability lowers the measured KL without bound.",
    "NK5": "Rollouts are not samples: nearly every token is the likeliest one.",
    "NK13": "The tokens were drawn from {setting}, not from the policy that is scored.",
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


def settle(findings: Sequence[Finding]) -> list[Finding]:
    """One finding a cause, the gravest first; where a grave cause is known, symptoms without one are its evidence."""
    known = {found.id for found in findings if found.id.startswith("NK") and found.severity == "error"}
    kept: dict[str, Finding] = {}
    for found in by_severity(findings):
        bare = found.id.startswith("T") or found.id in ("NK16", "NK21")
        if found.id not in kept and not (known and bare):
            kept[found.id] = found
    return list(kept.values())
