"""The doctor during a run of PPO: every rollout is tested before anything is learned from it, every update after it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch

from heed.batches import PromptBatch, Responses
from heed.clinic.exact_tests import flat
from heed.clinic.rescoring import Rescoring, Suspected
from heed.doctor import checks, health, probes, weights
from heed.doctor.audit import Results
from heed.doctor.causes import name_cause
from heed.doctor.chart import CONSTRUCTED, Chart
from heed.doctor.events import Context, Events, add, token_sums
from heed.doctor.findings import Finding
from heed.doctor.suspects import Explanation, Ledger, Suspects
from heed.doctor.tolerances import tolerance_of
from heed.doctor.watch import Watch
from heed.errors import RunError
from heed.models.policy import Observer, Policy, compare
from heed.models.scalar_head import ValueModel
from heed.rl.rollout import Rollout
from heed.rows.pieces import by_length, take

FILE = "findings.jsonl"
NOISE = ("NK16", "NK21")
"""Findings that leave a KL good enough for a controller to follow."""


class LiveDoctor:
    """Watches one run. What is found is printed once, and written to `findings.jsonl` in `path` every time.

    Draws its own random numbers, so that a run's are the same with and without it. Without a `path` it writes nothing.
    `batch` is episodes a step, `longest` and `temperature` are the sampler's; `value` is None where none is trained.
    """

    def __init__(
        self,
        policy: Policy,
        reference: Policy,
        value: ValueModel | None,
        *,
        batch: int,
        longest: int,
        temperature: float,
        microbatch: int,
        seed: int,
        kl_target: float,
        allow_biased_kl: bool,
        path: Path | None,
    ) -> None:
        self.policy, self.reference = policy, reference
        self.temperature, self.microbatch = temperature, microbatch
        self.kl_target, self.allow_biased_kl = kl_target, allow_biased_kl
        self.chart, self.watch = Chart(path and path / FILE), Watch()
        self.run = health.Run(batch, longest)
        self.rows: list[dict[str, Any]] = []
        self.valid = True
        self.events: list[Events] = []
        self.generator = torch.Generator().manual_seed(seed)
        self.tolerance = tolerance_of(policy.trunk.model.dtype)
        self.rescoring = Rescoring(policy, reference, temperature=temperature, microbatch=microbatch)
        self.policy_weights, self.reference_weights = dict(policy.parameters()), of_reference(reference)
        value_weights = {} if value is None else value.parameters()
        self.trained = {**{f"value.{name}": tensor for name, tensor in value_weights.items()}, **self.policy_weights}
        self.first_reference = weights.fingerprint(self.reference_weights)
        self.drawn_with = weights.fingerprint(self.policy_weights)

    def observers(self, prompts: PromptBatch, responses: Responses) -> tuple[Observer, ...]:
        """What looks at the logits while a piece of the rollout is scored."""
        context = Context.of(prompts.tokens, prompts.mask, responses.tokens, responses.mask)
        self.events.append(Events(context, self._eos, self.temperature, self.generator, self.run.longest))
        return (self.events[-1],)

    @property
    def _eos(self) -> tuple[int, ...]:
        return tuple(sorted(self.policy.trunk.stop_ids))

    def examine(self, step: int, rollout: Rollout) -> list[Finding]:
        """Test the rollout of a step. Raises RunError on a grave finding, unless `allow_biased_kl`."""
        suspect = cache(partial(self._suspect, rollout))
        results = self._ids(step, rollout) | self._weights(step)
        results |= self.rescoring(rollout, suspect) | self._samples(rollout, suspect)
        if step == 1:  # what PPO is about to learn
            results["reward"] = probes.length_bias(rollout.scores.tolist(), rollout.responses.lengths.tolist())
        skipped = {"T0": CONSTRUCTED}  # this sampler has no settings but the temperature, which is one number
        if not rollout.questions:
            skipped["T1"] = CONSTRUCTED
        findings = self._report(step, results, skipped)
        self.valid = all(finding.id in NOISE for finding in findings)
        return findings

    def follow(self, step: int, metrics: dict[str, float | None]) -> list[Finding]:
        """Judge a step by its metrics, after its update: T11, whether the policy moved, and the bands of health."""
        self.rows.append({"step": step, **metrics})
        results: Results = {"health": health.judge(self.rows, self.run)}
        if self.kl_target and not self.valid:
            results["health"].append(health.frozen(metrics["kl/coef"] or 0))
        if (off := metrics.get("policy/ratio_first")) is not None:
            results["T11"] = health.off_policy(off, self.tolerance.ratio)
        now = weights.fingerprint(self.policy_weights)
        if "loss/policy" in metrics:
            results["T13"] = weights.policy_stays(self.drawn_with, now, step)
        self.drawn_with = now
        return self._report(step, results)

    def summary(self) -> dict[str, Any]:
        """For report.json: the outcome of every test, and how often and since when each finding was made."""
        return self.chart.summary()

    def state_dict(self) -> dict[str, Any]:
        """What later steps are judged with, in values of JSON and tensors; of the policy and reference fingerprints."""
        return {
            "rows": [dict(row) for row in self.rows], "watch": self.watch.state_dict(),
            "chart": self.chart.state_dict(), "valid": self.valid, "generator": self.generator.get_state(),
            "is_first": self.rescoring.is_first, "reference": self.first_reference, "policy": self.drawn_with,
        }  # fmt: skip

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a run stopped, after the weights are back: those of another run are found at the next step."""
        self.rows, self.valid = [dict(row) for row in state["rows"]], state["valid"]
        self.watch.load_state_dict(state["watch"])
        self.chart.load_state_dict(state["chart"])
        self.generator.set_state(state["generator"].cpu())
        self.rescoring.is_first = state["is_first"]
        self.first_reference, self.drawn_with = dict(state["reference"]), dict(state["policy"])

    def _ids(self, step: int, rollout: Rollout) -> Results:
        """T1, T5, T12 and T14. Responses are scored from the very tensor that was drawn; prompts might differ."""
        scored, mask, prompts = rollout.scored, rollout.mask, rollout.prompts
        asked = [question.tokens for question in rollout.questions]
        lengths = prompts.mask.sum(dim=1).tolist()
        read = [row[len(row) - n :] for row, n in zip(prompts.tokens.tolist(), lengths, strict=True)][: len(asked)]
        results: Results = {
            "T12": checks.mask_audit(rollout.responses.tokens, mask, self._eos),
            "T14": checks.normalisation(scored.logprobs, mask, scored.exact_kl),
        }
        if asked:
            results["T1"] = checks.token_identity([], [], asked, read)
        if step == 1:
            lines = scored.logprobs, scored.ref_logprobs
            results["T5"] = checks.identity_at_start(*lines, mask, scored.exact_kl, self.tolerance)
        return results

    def _weights(self, step: int) -> Results:
        """T13 and T15: the reference is what it was, the policy is what the rollout was drawn with."""
        findings = weights.reference_moved(self.first_reference, weights.fingerprint(self.reference_weights), step)
        findings += weights.trained_reference(self.trained, self.reference_weights)
        findings += weights.wrong_adapter(self.policy.adapter, active_adapters(self.policy))
        return {"T13": findings, "T15": weights.stale(self.drawn_with, weights.fingerprint(self.policy_weights))}

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

    def _suspect(self, rollout: Rollout) -> Explanation | None:
        """The rollout is scored once more, under every other sampler."""
        ledger = Ledger()
        for rows in by_length(rollout.prompts, rollout.responses, self.microbatch):
            prompts, responses = take(rollout.prompts, rollout.responses, rows)
            context = Context.of(prompts.tokens, prompts.mask, responses.tokens, responses.mask)
            own, longest = responses.logprobs[responses.mask], int(rollout.responses.lengths.max())
            suspects = Suspects(context, self._eos, self.temperature, ledger, own, longest)
            compare(self.policy, self.reference, prompts, responses, self.temperature, (suspects,))
        return ledger.best()

    def _report(self, step: int, results: Results, skipped: Mapping[str, str] | None = None) -> list[Finding]:
        """Write results into the chart. Raises RunError on a grave one, unless `allow_biased_kl`."""
        findings = self.chart.take(step, results, skipped)
        for finding in findings:
            if finding.severity == "error" and not self.allow_biased_kl:
                hint = f"{finding.hint}; or go on with --allow_biased_kl true"
                raise RunError("ppo", f"{finding.id}: {finding.message}", hint)
        return findings


def of_reference(reference: Policy) -> dict[str, torch.Tensor]:
    """Every weight that the reference's output depends on: the trunk's own, and its adapter's."""
    own = {name: tensor for name, tensor in reference.trunk.model.named_parameters() if ".lora_" not in name}
    return {**own, **reference.parameters()} if reference.adapter is not None else dict(own)


def active_adapters(policy: Policy) -> list[list[str]]:
    """The adapters that each layer uses while the policy scores."""
    with policy.active():
        return [list(layer.active_adapters) for layer in policy.trunk.layers()]
