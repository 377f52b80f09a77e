"""What a file of rollouts tells by itself, without the models that it came from."""

from __future__ import annotations

from heed.doctor import checks
from heed.doctor.findings import Finding
from heed.doctor.rollouts import Rollouts

Results = dict[str, list[Finding]]
"""Test → its findings; a test that is missing could not be made."""


def audit(rollouts: Rollouts, temperature: float) -> Results:
    """T0, T1, T2, T3, T5, T6, T12, T14 and T15, as far as the columns allow. Scores are at `temperature`."""
    results: Results = {}
    columns, lines, written = rollouts.columns, rollouts.lines, rollouts.written
    policy, reference, sampler = (lines.get(name) for name in ("policy_logprobs", "ref_logprobs", "sampler_logprobs"))
    if rollouts.sampler:
        results["T0"] = checks.sampler_settings(rollouts.sampler, temperature)
    if "scored_response_ids" in columns or "scored_prompt_ids" in columns:
        sampled, asked = columns["response_ids"], columns["prompt_ids"]
        results["T1"] = checks.token_identity(
            sampled, columns.get("scored_response_ids", sampled), asked, columns.get("scored_prompt_ids", asked)
        )
    if policy is not None and sampler is not None:
        results["T2"] = checks.rescore_gap(policy, sampler, written)
    if policy is not None and "policy_logprobs_again" in lines:
        results["T3"] = checks.determinism(policy, lines["policy_logprobs_again"], written)
    if policy is not None and reference is not None:
        if any(columns.get("initial", [])):
            results["T5"] = checks.identity_at_start(policy, reference, written)
        results["T6"] = checks.sign_of_kl(policy - reference, rollouts.counted)
    if rollouts.has_mask:
        results["T12"] = checks.mask_audit(rollouts.responses, rollouts.counted, rollouts.eos)
    for name, line in lines.items():
        results["T14"] = results.get("T14", []) + checks.normalisation(
            line, written, name=name.removesuffix("_logprobs")
        )
    if "sampler_version" in columns and "scorer_version" in columns:
        results["T15"] = checks.freshness(columns["sampler_version"], columns["scorer_version"])
    return results
