"""What a file of rollouts tells by itself, without the models that it came from."""

from __future__ import annotations

import torch

from heed.doctor import checks
from heed.doctor.findings import TESTS, Finding
from heed.doctor.rollouts import Rollouts
from heed.doctor.sampler_settings import sampler_settings

Results = dict[str, list[Finding]]
"""Test → its findings; a test that is missing could not be made."""

WHY_NOT = {
    "T0": "no `sampler` settings in the file",
    "T1": "no `scored_response_ids`, `scored_prompt_ids` or `ref_prompt_ids` in the file",
    "T2": "no log-probabilities of the sampler and the scorer to compare",
    "T3": "no `policy_logprobs_again` in the file",
    "T4": "the batches that rows were padded in are not in a file",
    "T5": "no row is marked `initial`, with log-probabilities of policy and reference",
    "T6": "no log-probabilities of policy and reference in the file, and no models",
    "T11": "no update is in a file",
    "T12": "no `mask` in the file",
    "T13": "no weights are in a file",
    "T14": "no log-probabilities in the file",
    "T15": "no `sampler_version` and `scorer_version` in the file",
}
"""Why a test could not be made on a file."""
NO_MODELS = "needs --model and --reference"
FEW_RESPONSES, FEW_TOKENS = 64, 1500
"""Below both, most faults of a sampler cannot be seen in what it drew."""
TOO_FEW_RESPONSES, TOO_FEW_TOKENS = 8, 64
"""Below either, nothing is said of a file without findings."""
NEEDED = (
    f"about {FEW_RESPONSES} responses or {FEW_TOKENS:,} tokens are needed, 128 responses for weak penalties and "
    "minimum lengths"
)


def audit(rollouts: Rollouts, temperature: float, vocab: int | None = None) -> Results:
    """T0, T1, T2, T3, T5, T6, T12, T14 and T15, as far as the columns allow. Scores are at `temperature`; `vocab` is
    the number of tokens of the model, where that is known."""
    results = _of_ids(rollouts, temperature, vocab)
    columns, lines, written = rollouts.columns, rollouts.finite, rollouts.written
    policy, reference, sampler = (lines.get(name) for name in ("policy_logprobs", "ref_logprobs", "sampler_logprobs"))
    if policy is not None and sampler is not None:
        results["T2"] = checks.rescore_gap(policy, sampler, written)
    if policy is not None and "policy_logprobs_again" in lines:
        results["T3"] = checks.determinism(policy, lines["policy_logprobs_again"], written)
    if policy is not None and reference is not None:
        if marked := rollouts.initial:
            first = torch.tensor(marked)
            results["T5"] = checks.identity_at_start(policy[first], reference[first], written[first])
        results["T6"] = checks.sign_of_kl(policy - reference, rollouts.counted)
    for name, line in rollouts.lines.items():
        results["T14"] = results.get("T14", []) + checks.normalisation(
            line, written, name=name.removesuffix("_logprobs")
        )
    if "sampler_version" in columns and "scorer_version" in columns:
        results["T15"] = checks.freshness(columns["sampler_version"], columns["scorer_version"])
    return results


def _of_ids(rollouts: Rollouts, temperature: float, vocab: int | None) -> Results:
    """T0, T1 and T12."""
    results: Results = {}
    columns = rollouts.columns
    if settings := [row for row in columns.get("sampler", []) if row]:
        results["T0"], _ = sampler_settings(settings, temperature, vocab, _largest(rollouts))
    sampled, asked = columns["response_ids"], columns["prompt_ids"]
    scored, read = columns.get("scored_response_ids", sampled), columns.get("scored_prompt_ids", asked)
    if scored is not sampled or read is not asked or "ref_prompt_ids" in columns:
        results["T1"] = checks.token_identity(sampled, scored, asked, read)
        theirs = columns.get("ref_prompt_ids", asked)
        results["T1"] += checks.token_identity([], [], asked, theirs, scorer="The reference's")
    if rollouts.has_mask:
        results["T12"] = checks.mask_audit(rollouts.responses, rollouts.counted, rollouts.eos)
    return results


def why_not(rollouts: Rollouts, results: Results, temperature: float, vocab: int | None) -> dict[str, str]:
    """Test → "not tested: why", of those that were not made, or made on too little to say that they passed."""
    reasons = {test: WHY_NOT.get(test, NO_MODELS) for test in TESTS if test not in results}
    settings = [row for row in rollouts.columns.get("sampler", []) if row]
    if unknown := sampler_settings(settings, temperature, vocab, _largest(rollouts))[1]:
        reasons["T0"] = ", ".join(unknown)
    if few := too_few(rollouts):
        reasons |= {f"T{number}": few for number in range(6, 11) if vocab is not None}
    return {test: f"not tested: {why}" for test, why in reasons.items()}


def too_few(rollouts: Rollouts) -> str:
    """That a file has too few tokens to judge its sampler by, with the number that is needed; else nothing."""
    responses, tokens = len(rollouts.written), int(rollouts.written.sum())
    if responses >= FEW_RESPONSES or tokens >= FEW_TOKENS:
        return ""
    return f"{tokens:,} tokens of {responses} responses are too few to judge the sampler: {NEEDED}"


def says_nothing(rollouts: Rollouts, results: Results) -> str:
    """Why a file without findings is not judged at all; nothing where it is."""
    responses, tokens = len(rollouts.written), int(rollouts.written.sum())
    if responses < TOO_FEW_RESPONSES or tokens < TOO_FEW_TOKENS:
        return too_few(rollouts)
    if not results.keys() & {f"T{number}" for number in (0, 2, 6, 7, 8, 9, 10)}:
        return f"nothing in the file tells of its sampler; {NO_MODELS}"
    return ""


def _largest(rollouts: Rollouts) -> int:
    return int(rollouts.responses[rollouts.written].max())
