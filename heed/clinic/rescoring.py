"""T2, T3 and T4 during PPO: a few rows are scored once more, alone; what differs is explained under the toggles."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from heed.batches import PromptBatch, Responses
from heed.clinic.toggles import Toggled
from heed.doctor import checks
from heed.doctor.audit import Results
from heed.doctor.causes import name_cause
from heed.doctor.findings import Finding
from heed.doctor.rollouts import Rollouts
from heed.doctor.suspects import Explanation
from heed.doctor.tolerances import tolerance_of
from heed.models.policy import Policy
from heed.rl.rollout import Rollout
from heed.rows.pieces import by_length, take

ROWS = {True: 4, False: 1}
"""Rows that are scored alone: in the first rollout, and in every later one. Of a step of eight rows one takes 1 %."""
EXPLAINED = 64  # rows that are handed to the toggles, which take as many as each needs

Suspected = Callable[[], Explanation | None]


class Rescoring:
    """Scores rows of each rollout again, and compares them within the tolerance of the policy's dtype."""

    def __init__(self, policy: Policy, reference: Policy, *, temperature: float, microbatch: int) -> None:
        self.policy, self.reference = policy, reference
        self.temperature, self.microbatch = temperature, microbatch
        self.tolerance = tolerance_of(policy.trunk.model.dtype)
        self.is_first = True

    def __call__(self, rollout: Rollout, suspect: Suspected) -> Results:
        """T2, T3 and T4. Where scoring twice differs there is no sense in comparing it with anything else.

        `suspect` gives the other sampler that explains the rollout, where one does.
        """
        rows, pads = most_padded(rollout.prompts, rollout.responses, self.microbatch, ROWS[self.is_first])
        self.is_first = False
        alone = self._alone(rollout, rows)
        found = checks.determinism(alone[:1], self._alone(rollout, rows[:1]), rollout.mask[rows[:1]], self._dropout())
        results: Results = {"T3": found}
        if found:
            return results
        batched, mask = rollout.scored.logprobs, rollout.mask
        gap = checks.rescore_gap(batched, rollout.responses.logprobs, mask, self.tolerance)
        results["T2"] = self._gap(rollout, gap, suspect)
        off = checks.padding_invariance(batched[rows], alone, mask[rows], pads, self.tolerance.padding)
        results["T4"] = self._explained(rollout, "policy_logprobs", batched, off)
        return results

    def _gap(self, rollout: Rollout, found: list[Finding], suspect: Suspected) -> list[Finding]:
        """T2: the scorer's numbers are wrong, or the sampler's are another sampler's, or wrong in another way."""
        scorer = self._explained(rollout, "policy_logprobs", rollout.scored.logprobs, found)
        if scorer != found:
            return scorer
        if found and found[0].severity == "error" and suspect() is not None:
            return name_cause(found, suspect())
        return self._explained(rollout, "sampler_logprobs", rollout.responses.logprobs, found)

    @torch.no_grad()
    def _alone(self, rollout: Rollout, rows: Tensor) -> Tensor:
        """Log-probabilities of each row, scored without any other and without padding."""
        scored = torch.zeros_like(rollout.scored.logprobs[rows])
        with self.policy.active():
            for place, row in enumerate(rows):
                one = take(rollout.prompts, rollout.responses, row[None])
                line = self.policy.logprobs(*one, self.temperature)
                scored[place, : line.shape[1]] = line[0]
        return scored

    def _dropout(self) -> list[str]:
        """Modules that drop something now."""
        modules = self.policy.trunk.model.named_modules()
        return [name for name, m in modules if isinstance(m, torch.nn.Dropout) and m.p > 0 and m.training]

    def _explained(self, rollout: Rollout, column: str, line: Tensor, findings: list[Finding]) -> list[Finding]:
        """The findings of a test, or the toggle that gives the numbers of the column, where there is one."""
        if not findings or findings[0].severity != "error":
            return findings
        rows = (rollout.prompts.mask.sum(dim=1)).argsort(stable=True)[:EXPLAINED]
        pad = self.policy.trunk.tokenizer.pad_token_id
        toggled = Toggled(self.policy, self.reference, as_file(rollout, rows, pad), self.temperature)
        line = line[rows].cpu()
        named = toggled.explain(column, line) or toggled.likeness(column, line)
        test = findings[0].evidence.get("test", findings[0].id)
        return [replace(one, evidence={**one.evidence, "test": test}) for one in named] or findings


def most_padded(prompts: PromptBatch, responses: Responses, size: int, count: int) -> tuple[Tensor, Tensor]:
    """The rows with the most pads before their prompt in the pieces that were scored, and how many pads those are."""
    widths = prompts.mask.sum(dim=1)
    pads = torch.zeros_like(widths)
    for rows in by_length(prompts, responses, size):
        pads[rows] = widths[rows].max() - widths[rows]
    rows = pads.argsort(descending=True, stable=True)[:count]
    return rows, pads[rows]


def as_file(rollout: Rollout, rows: Tensor, pad: int) -> Rollouts:
    """Some rows of a rollout as if they had been read from a file: what the toggles work on."""
    prompts, responses, mask = rollout.prompts, rollout.responses, rollout.mask[rows].cpu()
    return Rollouts(
        prompts=prompts.tokens[rows].cpu(), prompt_mask=prompts.mask[rows].cpu(),
        responses=responses.tokens[rows].cpu(), counted=mask, written=mask, given=mask,
        lines={}, has_mask=True, eos=(), pad=pad,
    )  # fmt: skip
