"""From symptoms to causes: what was tested is explained by the sampler that fits, or by the toggles that mend it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from jaxtyping import Bool, Float
from torch import Tensor

from heed.doctor.findings import Finding, by_severity, finding
from heed.doctor.samplers import Suspect
from heed.doctor.suspects import Explanation
from heed.formulas.masked import masked_mean

MESSAGES = {
    "NK1": "The sampler truncates the distribution ({setting}), but KL and ratios are those of the whole policy.",
    "NK2": "Tokens were drawn at another temperature than they are scored with (best fit: {setting}).",
    "NK3": "The sampler changes the logits of tokens that are already written (best fit: {setting}).",
    "NK4": "End-of-text is suppressed ({setting}): raising its probability lowers the measured KL without bound. "
    "Where the tool that wrote the file strips end-of-text from the ids, write it instead.",
    "NK5": "Rollouts are not samples: nearly every token is the likeliest one.",
    "NK13": "The tokens were drawn from {setting}, not from the policy that is scored.",
    "NK24": "The sampler was made to write a token that it did not draw ({setting}).",
}
"""What is said of a suspect, by cause."""


def name_cause(symptoms: Sequence[Finding], best: Explanation | None) -> list[Finding]:
    """One finding for all failed sampling tests: the suspect's cause, or a ban, or the gravest symptom itself.

    Two, where a sampler with two settings at once explains them.
    """
    if not symptoms:
        return []
    ordered = by_severity(symptoms)
    evidence = {found.id + _what(found): found.evidence for found in ordered}
    first = ordered[0]
    if best is not None:
        both = " and ".join(shown(one) for one in best.suspects)
        together = f" It takes {both} together to explain the tokens." if len(best.suspects) > 1 else ""
        return [
            finding(
                one.cause, f"{MESSAGES[one.cause].format(setting=shown(one))} {first.message}{together}",
                first.severity, fits=one.setting, gain=best.gain, exact=best.exact, tests=evidence,
            )
            for one in best.suspects
        ]  # fmt: skip
    absent = next((found for found in ordered if found.evidence.get("event") == "absent"), None)
    if absent is not None:
        return [finding("NK3", f"Some tokens cannot be drawn. {absent.message}", absent.severity, tests=evidence)]
    message = f"{first.message} No other sampler that was tried explains the tokens."
    return [Finding(first.id, first.severity, message, first.hint, {"tests": evidence})]


def shown(one: Suspect) -> str:
    """A setting in words. Of a minimum length samples say only that it is not shorter."""
    return f"min_new_tokens of at least {one.number:g}" if one.name == "min_new_tokens" else one.setting


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
SINGLE = tuple((toggle,) for toggle in TOGGLES)
INPUTS = ("positions", "pads", "hidden", "shift", "shift back", "other", "base")
PAIRS = tuple(
    (one, other) for one in TOGGLES if one.name in INPUTS for other in TOGGLES if other.name in ("temperature", "raw")
)
"""Two mistakes at once that are tried after those."""

Rescore = Callable[[str], Float[Tensor, "batch response"] | None]
"""Scores some rows again under the toggles of that name ("" = none, "one+other" = both); None where it would change
nothing."""


def explain(
    recorded: Float[Tensor, "batch response"],
    mask: Bool[Tensor, "batch response"],
    rescore: Rescore,
    tolerance: float,
    causes: Mapping[str, str] | None = None,
    toggles: Sequence[tuple[Toggle, ...]] = SINGLE,
) -> list[Finding]:
    """The toggles under which scoring gives the recorded numbers: mean |Δ| falls under `tolerance`.

    A finding for each; none where the plain scoring gives them, or nothing does. `causes` renames causes by toggle,
    where the recorded numbers are the sampler's, or the reference's, rather than the policy's.
    """
    plain = rescore("")
    assert plain is not None
    gap = _gap(recorded, plain, mask)
    if gap <= tolerance:
        return []
    for several in toggles:
        name = "+".join(toggle.name for toggle in several)
        scored = rescore(name)
        if scored is None:
            continue
        left = _gap(recorded, scored, mask)
        if left <= tolerance and left < gap / 4:
            how = " and ".join(toggle.message for toggle in several)
            message = f"{gap:.3g} nats off at the mean token; {how} gives the recorded numbers."
            named = [(causes or {}).get(toggle.name, toggle.cause) for toggle in several]
            return [finding(cause, message, test="T2", toggle=name, gap=gap, left=left) for cause in named]
    return []


def _gap(recorded: Tensor, scored: Tensor, mask: Tensor) -> float:
    return float(masked_mean((recorded - scored).abs(), mask))


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

    Scores with dropout in them (T3, or by their spread) explain every comparison of these scores, but not those of an
    exact scoring (`apart`). Where the sampler's own numbers were reproduced, that outranks a sampler that only fits the
    tokens; so does a mistake of the scorer whose logits the tokens were weighed by. Where the numbers differ (T2) and
    such a sampler is all that explains them, it is as grave as they are.
    """
    random = any(found.id == "NK6" for found in findings)
    reproduced = any(explains_tokens(found) for found in findings)
    left = [found for found in findings if not ("tests" in found.evidence and _is_void(found, random, reproduced))]
    left = [
        found for found in left
        if found.id == "NK6" or not (random and found.evidence.get("test") in COMPARED and not _is_apart(found))
    ]  # fmt: skip
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


def _is_apart(found: Finding) -> bool:
    return bool(found.evidence.get("apart", False))


def _is_void(found: Finding, random: bool, reproduced: bool) -> bool:
    """What fits the tokens, where they were weighed by scores with dropout in them, or the sampler is known anyway."""
    return (reproduced and not found.evidence.get("exact", False)) or (random and not _is_apart(found))
