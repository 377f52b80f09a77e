"""The doctor during a run of PPO: every rollout is tested before anything is learned from it, every update after it."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from heed.batches import PromptBatch, Responses
from heed.clinic.exact_tests import flat
from heed.clinic.rescoring import Rescoring, Suspected
from heed.doctor import checks, health, weights
from heed.doctor.audit import Results
from heed.doctor.causes import name_cause
from heed.doctor.chart import Chart
from heed.doctor.events import Context, Events, add, token_sums
from heed.doctor.findings import Finding
from heed.doctor.suspects import Ledger, Suspect, Suspects
from heed.doctor.watch import Watch
from heed.errors import RunError
from heed.models.policy import Observer, Policy, compare
from heed.models.roles import Roles
from heed.rl.rollout import Rollout
from heed.rows.pieces import by_length, take
from heed.settings.ppo import PPOSettings

FILE = "findings.jsonl"
SAMPLER = {"do_sample": True, "num_beams": 1, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0, "min_new_tokens": 0}
"""What `generate` would call the settings of heed's sampler, which has none but the temperature."""
NOISE = ("NK16", "NK21")
"""Findings that leave a KL good enough for a controller to follow."""
RATIO_OFF = {True: 1e-3, False: 0.3}
"""T11 by whether the policy is in float32. In bfloat16 healthy runs were off by up to 0.1."""


class Doctor:
    """Watches one run. What is found is printed once, and written to `findings.jsonl` in `path` every time.

    Draws its own random numbers, so that a run's are the same with and without it. Without a `path` it writes nothing.
    """

    def __init__(self, roles: Roles, settings: PPOSettings, path: Path | None) -> None:
        self.roles, self.settings = roles, settings
        self.chart, self.watch = Chart(path and path / FILE), Watch()
        self.run = health.Run(settings.batch, settings.sampling.max_new_tokens)
        self.rows: list[dict[str, Any]] = []
        self.valid = True
        self.events: list[Events] = []
        self.generator = torch.Generator().manual_seed(settings.seed)
        self.exact = roles.policy.trunk.model.dtype == torch.float32
        self.rescoring = Rescoring(roles.policy, roles.reference, settings, self.exact)
        self.policy, self.reference = dict(roles.policy.parameters()), of_reference(roles.reference)
        value = {} if roles.value is None else roles.value.parameters()  # after a run there is none
        self.trained = {**{f"value.{name}": tensor for name, tensor in value.items()}, **self.policy}
        self.first, self.drawn_with = weights.fingerprint(self.reference), weights.fingerprint(self.policy)

    def observers(self, prompts: PromptBatch, responses: Responses) -> tuple[Observer, ...]:
        """What looks at the logits while a piece of the rollout is scored."""
        context = Context.of(prompts.tokens, prompts.mask, responses.tokens, responses.mask)
        eos = self.roles.policy.trunk.tokenizer.eos_token_id
        self.events.append(Events(context, eos, self.settings.sampling.temperature, self.generator))
        return (self.events[-1],)

    def examine(self, step: int, rollout: Rollout) -> list[Finding]:
        """Test the rollout of a step. Raises RunError on a grave finding, unless `allow_biased_kl`."""
        suspect = cache(partial(self._suspect, rollout))
        results = self._ids(step, rollout) | self._weights(step)
        results |= self.rescoring(rollout, suspect) | self._samples(rollout, suspect)
        findings = self._told(step, results)
        self.valid = all(found.id in NOISE for found in findings)
        return findings

    def follow(self, step: int, metrics: dict[str, float | None]) -> list[Finding]:
        """Judge a step by its metrics, after its update: T11, whether the policy moved, and the bands of health."""
        self.rows.append({"step": step, **metrics})
        results: Results = {"health": health.judge(self.rows, self.run)}
        if self.settings.kl_target and not self.valid:
            results["health"].append(health.frozen(metrics["kl/coef"] or 0))
        if (off := metrics.get("policy/ratio_first")) is not None:
            results["T11"] = health.off_policy(off, RATIO_OFF[self.exact])
        now = weights.fingerprint(self.policy)
        if "loss/policy" in metrics:
            results["T13"] = weights.policy_stays(self.drawn_with, now, step)
        self.drawn_with = now
        return self._told(step, results)

    def _ids(self, step: int, rollout: Rollout) -> Results:
        """T0, T1, T5, T12 and T14. Responses are scored from the very tensor that was drawn; prompts might differ."""
        scored, mask, prompts = rollout.scored, rollout.mask, rollout.prompts
        temperature, eos = self.settings.sampling.temperature, self.roles.policy.trunk.tokenizer.eos_token_id
        asked = [question.tokens for question in rollout.questions]
        lengths = prompts.mask.sum(dim=1).tolist()
        read = [row[len(row) - n :] for row, n in zip(prompts.tokens.tolist(), lengths, strict=True)][: len(asked)]
        results: Results = {
            "T0": checks.sampler_settings({**SAMPLER, "temperature": temperature}, temperature),
            "T1": checks.token_identity([], [], asked, read),
            "T12": checks.mask_audit(rollout.responses.tokens, mask, eos),
            "T14": checks.normalisation(scored.logprobs, mask, scored.exact_kl),
        }
        if step == 1:
            found = checks.identity_at_start(scored.logprobs, scored.ref_logprobs, mask, scored.exact_kl, 1e-3)
            results["T5"] = found
        return results

    def _weights(self, step: int) -> Results:
        """T13 and T15: the reference is what it was, the policy is what the rollout was drawn with."""
        found = weights.reference_moved(self.first, weights.fingerprint(self.reference), step)
        found += weights.trained_reference(self.trained, self.reference)
        found += weights.wrong_adapter(self.roles.policy.adapter, active_adapters(self.roles.policy))
        return {"T13": found, "T15": weights.stale(self.drawn_with, weights.fingerprint(self.policy))}

    def _samples(self, rollout: Rollout, suspect: Suspected) -> Results:
        """T6 to T10, and where one fails, which other sampler explains it."""
        sums = token_sums(flat(rollout.scored, rollout.mask), sum(events.choices for events in self.events))
        for events in self.events:
            sums = add(sums, events.sums())
        self.events = []
        symptoms = self.watch(sums)
        judged = (name for name, one in self.watch.total.items() if one.is_whole or one.z is not None)
        results: Results = {name.partition(" ")[0]: [] for name in judged}
        cause = name_cause(symptoms, suspect()) if symptoms else []
        return results | {symptom.id: cause for symptom in symptoms}

    def _suspect(self, rollout: Rollout) -> tuple[Suspect, float] | None:
        """The rollout is scored once more, under every other sampler."""
        eos, temperature = self.roles.policy.trunk.tokenizer.eos_token_id, self.settings.sampling.temperature
        ledger = Ledger()
        for rows in by_length(rollout.prompts, rollout.responses, self.settings.microbatch):
            prompts, responses = take(rollout.prompts, rollout.responses, rows)
            context = Context.of(prompts.tokens, prompts.mask, responses.tokens, responses.mask)
            own, longest = responses.logprobs[responses.mask], int(rollout.responses.lengths.max())
            suspects = Suspects(context, eos, temperature, ledger, own, longest)
            compare(self.roles.policy, self.roles.reference, prompts, responses, temperature, (suspects,))
        return ledger.best()

    def _told(self, step: int, results: Results) -> list[Finding]:
        """Write results into the chart. Raises RunError on a grave one, unless `allow_biased_kl`."""
        findings = self.chart.take(step, results)
        for found in findings:
            if found.severity == "error" and not self.settings.allow_biased_kl:
                raise RunError(
                    "ppo", f"{found.id}: {found.message}", f"{found.hint}; or go on with --allow_biased_kl true"
                )
        return findings


def of_reference(reference: Policy) -> dict[str, torch.Tensor]:
    """Every weight that the reference's output depends on: the trunk's own, and its adapter's."""
    own = {name: tensor for name, tensor in reference.trunk.model.named_parameters() if ".lora_" not in name}
    return {**own, **reference.parameters()} if reference.adapter is not None else dict(own)


def active_adapters(policy: Policy) -> list[list[str]]:
    """The adapters that each layer uses while the policy scores."""
    with policy.active():
        return [list(layer.active_adapters) for layer in policy.trunk.layers()]
