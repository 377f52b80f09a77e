"""The tests of the doctor that need the models: every token is scored again, over the whole vocabulary."""

from __future__ import annotations

from dataclasses import fields, replace

import torch
from torch import Tensor

from heed.batches import PromptBatch, Responses
from heed.clinic.toggles import Toggled
from heed.doctor import checks
from heed.doctor.audit import Results
from heed.doctor.causes import name_cause
from heed.doctor.events import Context, Events, add, token_sums
from heed.doctor.findings import Finding, finding
from heed.doctor.rollouts import Rollouts
from heed.doctor.statistics import Sum
from heed.doctor.suspects import Ledger, Suspect, Suspects
from heed.doctor.watch import Watch
from heed.errors import DataError
from heed.formulas.logprobs import TokenStatistics
from heed.models.policy import Policy, Scored, compare
from heed.rows.pieces import by_length, restore, take

UNEXPLAINED = "no toggle explains it: look for dropout, other weights, or a distribution that was cut before scoring"


def exact_tests(
    rollouts: Rollouts,
    policy: Policy,
    reference: Policy,
    *,
    temperature: float,
    batch: int,
    generator: torch.Generator,
) -> Results:
    """T2, T14 and T6 to T10 from the models' own logits; T5 where the rollouts are from before any update.

    Logits are divided by `temperature`; `batch` rows are scored at once, and `generator` breaks ties (T9).
    """
    prompts, responses = batches(rollouts, policy)
    has_own = "sampler_logprobs" in rollouts.lines
    scored, sums, ledger = score(
        rollouts.eos, policy, reference, prompts, responses,
        temperature=temperature, batch=batch, generator=generator, has_own=has_own,
    )  # fmt: skip
    mask, best = responses.mask, ledger.best()
    results: Results = {"T14": checks.normalisation(scored.logprobs, mask, scored.exact_kl)}
    results["T2"] = recorded(rollouts, scored, Toggled(policy, reference, rollouts, temperature), best)
    if any(rollouts.columns.get("initial", [])):
        results["T5"] = checks.identity_at_start(scored.logprobs, scored.ref_logprobs, mask, scored.exact_kl)
    watch = Watch()
    symptoms = watch(sums)
    for name, z in watch.z.items():
        if z is not None:
            results.setdefault(name.partition(" ")[0], [])
    cause = name_cause(symptoms, best)
    for symptom in symptoms:
        results[symptom.id] = cause
    return results


def batches(rollouts: Rollouts, policy: Policy) -> tuple[PromptBatch, Responses]:
    """The rows where the model is. Raises DataError where they do not fit the model."""
    device, trunk = policy.trunk.device, policy.trunk
    vocab, longest = trunk.model.config.vocab_size, rollouts.prompts.shape[1] + rollouts.responses.shape[1]
    largest = int(max(rollouts.prompts.max(), rollouts.responses.max()))
    if largest >= vocab:
        hint = "name the model whose tokenizer wrote the rollouts"
        raise DataError("rollouts", f"id {largest} is not in {trunk.name}, which has {vocab:,} tokens", hint)
    if longest > trunk.context:
        told = f"{longest} tokens of prompt and response do not fit the {trunk.context} of {trunk.name}"
        raise DataError("rollouts", told, "leave out the rows that the model cannot have read")
    prompts = PromptBatch(rollouts.prompts.to(device), rollouts.prompt_mask.to(device))
    written = rollouts.written.to(device)
    own = rollouts.lines.get("sampler_logprobs", torch.zeros(written.shape))
    return prompts, Responses(rollouts.responses.to(device), written, own.to(device))


def score(
    eos: int | None,
    policy: Policy,
    reference: Policy,
    prompts: PromptBatch,
    responses: Responses,
    *,
    temperature: float,
    batch: int,
    generator: torch.Generator,
    has_own: bool = False,
) -> tuple[Scored, dict[str, Sum], Ledger]:
    """Exact scores of every row, the sums of the sampling tests, and how well each other sampler fits.

    `has_own`: the responses carry the sampler's own log-probabilities.
    """
    scored, sums, ledger = [], {}, Ledger()
    pieces, longest = list(by_length(prompts, responses, batch)), int(responses.lengths.max())
    for rows in pieces:
        piece = take(prompts, responses, rows)
        mask = piece[1].mask
        context = Context.of(piece[0].tokens, piece[0].mask, piece[1].tokens, mask)
        events = Events(context, eos, temperature, generator)
        own = piece[1].logprobs[mask] if has_own else None
        suspects = Suspects(context, eos, temperature, ledger, own, longest)
        part = compare(policy, reference, *piece, temperature, (events, suspects))
        sums = add(sums, events.sums() | token_sums(flat(part, mask), events.choices))
        scored.append(part)
    names = [field.name for field in fields(Scored)]
    whole = {name: restore([getattr(part, name) for part in scored], pieces, responses) for name in names}
    return Scored(**whole), sums, ledger


def flat(scored: Scored, mask: Tensor) -> TokenStatistics:
    """Scores in rows as one line of counted tokens."""
    return TokenStatistics(**{field.name: getattr(scored, field.name)[mask] for field in fields(TokenStatistics)})


def recorded(rollouts: Rollouts, scored: Scored, toggled: Toggled, best: tuple[Suspect, float] | None) -> list[Finding]:
    """T2: each column of log-probabilities against exact scoring, and what would explain a difference.

    The sampler's own may differ because it drew from another distribution, such as `best`.
    """
    policy, reference = rollouts.lines.get("policy_logprobs"), rollouts.lines.get("ref_logprobs")
    mask, exact, exact_ref = rollouts.written, scored.logprobs.cpu(), scored.ref_logprobs.cpu()
    if policy is not None and reference is not None:
        swapped = checks.swapped_roles(policy, reference, exact, exact_ref, mask)
        if swapped:
            return swapped
    found = []
    again = rollouts.lines.get("policy_logprobs_again")
    if policy is not None and again is not None and checks.determinism(policy, again, mask):
        return []
    for name, line in rollouts.lines.items():
        if name == "policy_logprobs_again":
            continue
        right = exact_ref if name == "ref_logprobs" else exact
        gap = checks.rescore_gap(right, line, mask)
        if gap:
            later = newer(rollouts, exact, gap) if name == "policy_logprobs" else None
            told = toggled.explain(name, line, alike=later is None) or later
            left = replace(gap[0], message=f"`{name}`: {gap[0].message}", hint=UNEXPLAINED)
            if told is None and best is not None and name == "sampler_logprobs":
                (told,) = name_cause([replace(left, severity="error")], best)
            told = told or left
            found.append(replace(told, evidence={**told.evidence, "apart": True}))  # from the models' own logits
    return found


def newer(rollouts: Rollouts, exact: Tensor, gap: list[Finding]) -> Finding | None:
    """Two versions of the weights are in the file, and the model given is the sampler's: the scorer's is the other."""
    columns, sampler = rollouts.columns, rollouts.lines.get("sampler_logprobs")
    versions = [columns.get(name, []) for name in ("sampler_version", "scorer_version")]
    if sampler is None or versions[0] == versions[1] or checks.rescore_gap(exact, sampler, rollouts.written):
        return None
    message = (
        f"The policy was scored with other weights than it was sampled with, which are those given. {gap[0].message}"
    )
    return finding("NK19", message, test="T2", toggle="weights", gap=gap[0].evidence["mean"])
