"""The tests of the doctor that need the models: every token is scored again, over the whole vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from heed.batches import PromptBatch, Responses
from heed.clinic.toggles import Toggled
from heed.doctor import checks
from heed.doctor.audit import Results
from heed.doctor.causes import name_cause
from heed.doctor.events import Context, Events, add, token_sums
from heed.doctor.findings import Finding, finding
from heed.doctor.likeness import SETTLES
from heed.doctor.rollouts import Rollouts
from heed.doctor.statistics import Sum
from heed.doctor.suspects import Chains, Explanation, Ledger, Suspects, affordable
from heed.doctor.watch import Watch
from heed.errors import DataError
from heed.formulas.logprobs import TokenStatistics
from heed.models.policy import Policy, Scored, compare
from heed.rows.pieces import by_length, restore, take

AGAIN = "policy_logprobs_again"
AT_THE_CUT = 8
"""Rows of the longest length from which on that is where responses are cut, and not just the longest of them."""


def exact_tests(
    rollouts: Rollouts,
    policy: Policy,
    reference: Policy,
    *,
    temperature: float,
    batch: int,
    generator: torch.Generator,
) -> Results:
    """T2, T14 and T6 to T10 from the models' own logits; T5 where all rollouts are from before any update.

    Logits are divided by `temperature`; `batch` rows are scored at once, and `generator` breaks ties (T9).
    """
    exam = Exam(rollouts, policy, reference, temperature, batch)
    scored, sums = exam.score(generator)
    mask, watch = exam.responses.mask, Watch()
    results: Results = {"T14": checks.normalisation(scored.logprobs, mask, scored.exact_kl)}
    if rollouts.finite:
        results["T2"] = recorded(exam, scored)
    if len(rollouts.initial) == len(mask):
        results["T5"] = checks.identity_at_start(scored.logprobs, scored.ref_logprobs, mask, scored.exact_kl)
    symptoms = watch(sums)
    for name, z in watch.z.items():
        if z is not None:
            results.setdefault(name.partition(" ")[0], [])
    cause = [_apart(found) for found in name_cause(symptoms, exam.explanation)] if symptoms else []
    for symptom in symptoms:
        results[symptom.id] = cause
    return results


@dataclass
class Exam:
    """The rows of a file where the models are, and the other samplers that were tried on them."""

    rollouts: Rollouts
    policy: Policy
    reference: Policy
    temperature: float
    batch: int

    def __post_init__(self) -> None:
        self.prompts, self.responses = batches(self.rollouts, self.policy)
        self.ledger = Ledger()
        self.has_own = "sampler_logprobs" in self.rollouts.finite

    def score(self, generator: torch.Generator) -> tuple[Scored, dict[str, Sum]]:
        """Exact scores of every row and the sums of the sampling tests; how well each other sampler fits is noted."""
        sums: dict[str, Sum] = {}
        scored, longest = [], int(self.responses.lengths.max())
        cut = longest if int((self.responses.lengths == longest).sum()) >= AT_THE_CUT else None
        pieces = list(by_length(self.prompts, self.responses, self.batch))
        for piece in self._taken(pieces):
            context, own = self._seen(piece)
            events = Events(context, self.rollouts.eos, self.temperature, generator, cut)
            suspects = Suspects(context, self.rollouts.eos, self.temperature, self.ledger, own, longest)
            part = compare(self.policy, self.reference, *piece, self.temperature, (events, suspects))
            sums = add(sums, events.sums() | token_sums(flat(part, piece[1].mask), events.choices))
            scored.append(part)
        names = [field.name for field in fields(Scored)]
        whole = {name: restore([getattr(part, name) for part in scored], pieces, self.responses) for name in names}
        return Scored(**whole), sums

    @cached_property
    def explanation(self) -> Explanation | None:
        """The other sampler that explains the tokens, or its own numbers; two settings at once where one does not."""
        best = self.ledger.best()
        if best is not None and best.exact:
            return best
        more, chains = Ledger(), self.ledger.together()
        most = affordable(chains, self.policy.trunk.model.config.vocab_size)
        for piece in self._taken(list(by_length(self.prompts, self.responses, self.batch))):
            if more.tokens >= most:
                break
            context, own = self._seen(piece)
            tried = Chains(context, self.rollouts.eos, self.temperature, more, own, chains=chains, most=most)
            compare(self.policy, self.reference, *piece, self.temperature, (tried,))
        return self.ledger.settled(more)

    def _taken(self, pieces: list[Tensor]) -> Iterator[tuple[PromptBatch, Responses]]:
        return (take(self.prompts, self.responses, rows) for rows in pieces)

    def _seen(self, piece: tuple[PromptBatch, Responses]) -> tuple[Context, Tensor | None]:
        """The text before each counted token, and the sampler's own log-probabilities of them."""
        prompts, responses = piece
        context = Context.of(prompts.tokens, prompts.mask, responses.tokens, responses.mask)
        return context, responses.logprobs[responses.mask] if self.has_own else None


def batches(rollouts: Rollouts, policy: Policy) -> tuple[PromptBatch, Responses]:
    """The rows where the model is. Raises DataError where they do not fit the model."""
    device, trunk = policy.trunk.device, policy.trunk
    vocab, longest = trunk.model.config.vocab_size, rollouts.prompts.shape[1] + rollouts.responses.shape[1]
    there = [rollouts.prompts[rollouts.prompt_mask], rollouts.responses[rollouts.written]]
    largest = max(int(torch.cat(there).max()), *rollouts.eos, 0)
    if largest >= vocab:
        hint = "name the model whose tokenizer wrote the rollouts"
        raise DataError("rollouts", f"id {largest} is not in {trunk.name}, which has {vocab:,} tokens", hint)
    if longest > trunk.context:
        told = f"{longest} tokens of prompt and response do not fit the {trunk.context} of {trunk.name}"
        raise DataError("rollouts", told, "leave out the rows that the model cannot have read")
    hidden = rollouts.prompts.masked_fill(~rollouts.prompt_mask, 0)  # pads may lie beyond the embeddings
    prompts = PromptBatch(hidden.to(device), rollouts.prompt_mask.to(device))
    written = rollouts.written.to(device)
    tokens = rollouts.responses.masked_fill(~rollouts.written, 0).to(device)
    own = rollouts.finite.get("sampler_logprobs", torch.zeros(written.shape))
    return prompts, Responses(tokens, written, own.to(device))


def flat(scored: Scored, mask: Tensor) -> TokenStatistics:
    """Scores in rows as one line of counted tokens."""
    return TokenStatistics(**{field.name: getattr(scored, field.name)[mask] for field in fields(TokenStatistics)})


def recorded(exam: Exam, scored: Scored) -> list[Finding]:
    """T2: each column of log-probabilities against exact scoring, and what would explain a difference."""
    lines, mask = exam.rollouts.finite, exam.rollouts.written
    exact, exact_ref = scored.logprobs.cpu(), scored.ref_logprobs.cpu()
    policy, reference, again = (lines.get(name) for name in ("policy_logprobs", "ref_logprobs", AGAIN))
    if policy is not None and reference is not None:
        swapped = checks.swapped_roles(policy, reference, exact, exact_ref, mask)
        if swapped:
            return [_apart(found) for found in swapped]
    toggled = Toggled(exam.policy, exam.reference, exam.rollouts, exam.temperature)
    findings: list[Finding] = []
    for name in ("policy_logprobs", "ref_logprobs", "sampler_logprobs"):
        if name not in lines:
            continue
        if name == "policy_logprobs" and again is not None and checks.determinism(lines[name], again, mask):
            continue  # T3: what is random has no other cause
        gap = checks.rescore_gap(exact_ref if name == "ref_logprobs" else exact, lines[name], mask)
        if gap:
            findings += _explained(exam, toggled, name, exact, gap[0])
    return [_apart(found) for found in findings]


def _explained(exam: Exam, toggled: Toggled, column: str, exact: Tensor, gap: Finding) -> list[Finding]:
    """What is off in a column: a mistake that gives its numbers, the sampler that does, a likeness, or a question.

    What is sure comes before what is alike, and what is cheap before what is not.
    """
    line, is_own = exam.rollouts.finite[column], column == "sampler_logprobs"
    named = replace(gap, severity="error", message=f"`{column}`: {gap.message}")
    best = exam.ledger.best() if is_own else None
    exact_best = best if best is not None and best.exact else None
    if exact_best is not None and exact_best.suspects[0].cause != "NK2":  # of a temperature the toggles say more
        return name_cause([named], exact_best)
    if found := toggled.explain(column, line) or (newer(exam.rollouts, exact, gap) if "policy" in column else []):
        return found
    if exact_best is not None:
        return name_cause([named], exact_best)
    if found := toggled.rounding(column, line):
        return found
    if is_own and exam.explanation is not None:
        return name_cause([named], exam.explanation)
    if found := toggled.likeness(column, line):
        return found
    return [unexplained(column, gap, exam.rollouts)]


def unexplained(column: str, gap: Finding, rollouts: Rollouts) -> Finding:
    """T2 without a cause, however small: no rounding and no mistake that was tried gives these numbers."""
    known = {
        "sampler_logprobs": "the weights of the sampler may be older",
        "ref_logprobs": "the reference may have moved",
    }
    may_be = known.get(column, "the weights of the scorer may be newer")
    message = f"`{column}`: {gap.message} No mistake that was tried gives these numbers, nor does rounding; {may_be}."
    return Finding("T2", "error", message, SETTLES, {**gap.evidence, "column": column})


def newer(rollouts: Rollouts, exact: Tensor, gap: Finding) -> list[Finding]:
    """Two versions of the weights are in the file, and the model given is the sampler's: the scorer's is the other."""
    columns, sampler = rollouts.columns, rollouts.finite.get("sampler_logprobs")
    versions = [columns.get(name, []) for name in ("sampler_version", "scorer_version")]
    if sampler is None or versions[0] == versions[1] or checks.rescore_gap(exact, sampler, rollouts.written):
        return []
    message = f"The policy was scored with other weights than it was sampled with, which are those given. {gap.message}"
    return [finding("NK19", message, test="T2", toggle="weights", gap=gap.evidence["mean"])]


def _apart(found: Finding) -> Finding:
    """From the models' own logits, which are right whatever the file's are."""
    return replace(found, evidence={**found.evidence, "apart": True})
