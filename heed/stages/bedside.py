"""The doctor during a run of PPO: every rollout is tested before anything is learned from it."""

from __future__ import annotations

import json
import logging
from functools import partial
from pathlib import Path

import torch

from heed.batches import PromptBatch
from heed.doctor import checks
from heed.doctor.causes import settle
from heed.doctor.events import Context, Events, add, token_sums
from heed.doctor.findings import Finding
from heed.doctor.statistics import Sum
from heed.doctor.suspects import Ledger, Suspect, Suspects
from heed.doctor.watch import Watch, examine
from heed.errors import RunError
from heed.models.pieces import by_length, take
from heed.models.policy import Observer, compare
from heed.models.roles import Roles
from heed.models.sampler import Responses
from heed.settings.ppo import PPOSettings
from heed.stages.exact_tests import flat
from heed.stages.rollout import Rollout

log = logging.getLogger("heed")
FILE = "findings.jsonl"


class Doctor:
    """Watches the rollouts of one run. What is found is printed once, and written to `findings.jsonl` every time.

    Draws its own random numbers, so that a run's are the same with and without it.
    """

    def __init__(self, roles: Roles, settings: PPOSettings, path: Path) -> None:
        self.roles, self.settings, self.file = roles, settings, path / FILE
        self.watch, self.seen = Watch(), set[str]()
        self.events: list[Events] = []
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.exact = roles.policy.trunk.model.dtype == torch.float32
        self.file.unlink(missing_ok=True)

    def observers(self, prompts: PromptBatch, responses: Responses) -> tuple[Observer, ...]:
        """What looks at the logits while a piece of the rollout is scored."""
        context = Context.of(prompts.tokens, prompts.mask, responses.tokens, responses.mask)
        eos = self.roles.policy.trunk.tokenizer.eos_token_id
        self.events.append(Events(context, eos, self.settings.sampling.temperature, self.generator))
        return (self.events[-1],)

    def examine(self, step: int, rollout: Rollout) -> list[Finding]:
        """Test the rollout of a step. Raises RunError on a grave finding, unless `allow_biased_kl`."""
        sums = token_sums(flat(rollout.scored, rollout.mask), sum(events.choices for events in self.events))
        for events in self.events:
            sums = add(sums, events.sums())
        self.events = []
        findings = settle([*self._rows(step, rollout), *self._samples(rollout, sums)])
        self._tell(step, findings)
        for found in findings:
            if found.severity == "error" and not self.settings.allow_biased_kl:
                raise RunError(
                    "ppo", f"{found.id}: {found.message}", f"{found.hint}; or go on with --allow_biased_kl true"
                )
        return findings

    def _rows(self, step: int, rollout: Rollout) -> list[Finding]:
        """T2, T5, T12 and T14. In bfloat16 sampler and scorer differ by rounding, which is no reason to stop."""
        scored, mask, eos = rollout.scored, rollout.mask, self.roles.policy.trunk.tokenizer.eos_token_id
        found = checks.mask_audit(rollout.responses.tokens, mask, eos)
        found += checks.normalisation(scored.logprobs, mask, scored.exact_kl)
        if step == 1:
            found += checks.identity_at_start(scored.logprobs, scored.ref_logprobs, mask, scored.exact_kl, 1e-3)
        if self.exact:
            found += checks.rescore_gap(scored.logprobs, rollout.responses.logprobs, mask)
        return found

    def _samples(self, rollout: Rollout, sums: dict[str, Sum]) -> list[Finding]:
        """T6 to T10."""
        return examine(self.watch, sums, partial(self._suspect, rollout))

    def _suspect(self, rollout: Rollout) -> tuple[Suspect, float] | None:
        """Which other sampler explains the rollout: it is scored once more for this."""
        eos, temperature = self.roles.policy.trunk.tokenizer.eos_token_id, self.settings.sampling.temperature
        ledger = Ledger()
        for rows in by_length(rollout.prompts, rollout.responses, self.settings.microbatch):
            prompts, responses = take(rollout.prompts, rollout.responses, rows)
            context = Context.of(prompts.tokens, prompts.mask, responses.tokens, responses.mask)
            suspects = Suspects(context, eos, temperature, ledger)
            compare(self.roles.policy, self.roles.reference, prompts, responses, temperature, (suspects,))
        return ledger.best()

    def _tell(self, step: int, findings: list[Finding]) -> None:
        for found in findings:
            if found.id not in self.seen:
                log.warning("%s %s: %s\nhint: %s", found.severity, found.id, found.message, found.hint)
                self.seen.add(found.id)
        if findings:
            with self.file.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps({"step": step, **found.as_dict()}) + "\n" for found in findings)
