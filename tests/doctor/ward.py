"""Heed's PPO with one fault in it, watched by the doctor until it finds something grave."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import patch

import torch
from faults import Fault, Rows
from torch import Tensor

from heed.batches import PromptBatch, Responses
from heed.clinic.exact_tests import exact_tests
from heed.data.order import EndlessOrder
from heed.data.template import Template
from heed.doctor.audit import audit
from heed.doctor.causes import settle
from heed.doctor.findings import CAUSES, Finding
from heed.doctor.rollouts import read_rollouts
from heed.formulas.advantages import shaped_rewards
from heed.models.roles import Roles
from heed.rl.questions import Question
from heed.rl.rollout import Rollout, rollout_metrics
from heed.rl.update import Update
from heed.rows.threads import SERIAL
from heed.settings.ppo import PPOSettings
from heed.stages import ppo

TOKENS, STEPS = 8192, 20
"""How soon a fault must be found: tokens of rollouts if it shows at once, steps if training exposes it."""


@dataclass(frozen=True)
class Outcome:
    """What was found, and in which step; `found` are the gravest ids, an id a cause."""

    fault: str
    cause: str
    seed: int
    step: int
    found: list[str]
    tokens: int

    @property
    def is_right(self) -> bool:
        return self.found == [self.cause]


class Still:
    """In the place of a value or reward model that nothing is learned from: all zeros."""

    trunk = SimpleNamespace(threads=SERIAL)
    weight = torch.nn.Parameter(torch.zeros(1))

    def parameters(self) -> dict[str, torch.nn.Parameter]:
        return {"nothing": self.weight}

    @contextmanager
    def active(self) -> Iterator[None]:
        yield

    trainable = active

    def values(self, prompts: PromptBatch, responses: Responses) -> Tensor:
        return torch.zeros(responses.mask.shape)

    def score_responses(self, prompts: PromptBatch, responses: Responses) -> Tensor:
        return torch.zeros(len(responses.mask))


@dataclass
class Ward:
    """Models, prompts and settings of a run that is healthy; each trial begins with the same weights.

    `settings.batch` episodes make a training step, `episodes` a rollout that is large enough for a verdict.
    """

    roles: Roles
    settings: PPOSettings
    template: Template
    questions: list[Question]
    episodes: int
    begun: dict[int, dict[str, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for model in (self.roles.policy, self.roles.reference, self.roles.value, self.roles.reward):
            model.trunk.threads = SERIAL  # a fault may change the model around a forward pass
        self.first = self._weights()
        self.update: Update | None = None

    def try_out(self, fault: Fault, seed: int) -> Outcome:
        """Run PPO with the fault, or write its file, until something grave is found or the time is up."""
        self._put(self.first)
        if fault.begun:
            self._put(self._begun(seed))
        return self._file(fault, seed) if fault.spoil else self._live(fault, seed)

    def healthy(self, seed: int, rollouts: int) -> list[Finding]:
        """What is found in a run without a fault; each rollout is followed by its update."""
        self._put(self.first)
        found: list[Finding] = []
        for _, findings in self._run(self.roles, seed, self.settings, rollouts, trained=True):
            found += findings
        return found

    # --- live -------------------------------------------------------------------------------------------------------

    def _live(self, fault: Fault, seed: int) -> Outcome:
        roles = fault.replaced(self.roles)
        batch, enough = (self.settings.batch, STEPS) if fault.trained else (self.episodes, TOKENS)
        sampling = self.settings.sampling.model_copy(
            update={"temperature": fault.temperature, "max_new_tokens": fault.longest, "batch": batch}
        )
        settings = self.settings.model_copy(update={"batch": batch, "sampling": sampling, "allow_biased_kl": True})
        if not fault.trained:
            roles = replace(roles, value=cast(Any, Still()), reward=cast(Any, Still()))
        step, tokens, seen = 0, 0, list[Finding]()
        with fault.inject(roles):
            for rollout, findings in self._run(roles, seed, settings, STEPS, fault.trained):
                step, tokens, seen = step + 1, tokens + int(rollout.mask.sum()), seen + findings
                if (
                    any(found.severity == "error" for found in findings)
                    or (step if fault.trained else tokens) >= enough
                ):
                    break
        return Outcome(fault.name, fault.cause, seed, step, gravest(seen), tokens)

    def _run(
        self, roles: Roles, seed: int, settings: PPOSettings, steps: int, trained: bool
    ) -> Iterator[tuple[Rollout, list[Finding]]]:
        """The loop of `heed ppo`: rollouts and what is found in each, and in its update."""
        settings = settings.model_copy(update={"seed": seed})
        torch.manual_seed(seed)
        generator = torch.Generator().manual_seed(seed)
        doctor = ppo.live_doctor(settings, roles, None)
        parts = self._parts(roles, settings, generator)
        update = self.update = parts.update if trained else None
        for step in range(1, steps + 1):
            questions = [self.questions[i] for i in parts.order.take(settings.batch)]
            rollout = parts.worker.collect(questions, doctor.observers)
            findings = doctor.examine(step, rollout)
            if update is not None and not any(found.severity == "error" for found in findings):
                scored = rollout.scored
                rewards = shaped_rewards(
                    scored.logprobs, scored.ref_logprobs, rollout.paid, rollout.mask, settings.kl_coef
                )
                metrics = rollout_metrics(rollout, rewards, settings.kl_coef) | update(step, rollout, rewards)
                findings = findings + doctor.follow(step, metrics)
            yield rollout, findings

    def _parts(self, roles: Roles, settings: PPOSettings, generator: torch.Generator) -> ppo.Prepared:
        """What a step of `heed ppo` consists of, around models that are loaded already."""
        nothing = cast(Any, None)
        inputs = ppo.Inputs(nothing, nothing, self.template, nothing, self.questions, [], None)
        with patch.object(ppo, "load", lambda *_: (roles, None)):
            return ppo.prepare(settings, inputs, torch.device("cpu"), generator)

    def _begun(self, seed: int) -> dict[str, Tensor]:
        """Weights after a few healthy updates."""
        if seed not in self.begun or self.update is None:
            for _ in self._run(self.roles, seed + 1000, self.settings, 4, trained=True):
                pass
            self.begun = {seed: self._weights()}
        return self.begun[seed]

    # --- files ------------------------------------------------------------------------------------------------------

    def _file(self, fault: Fault, seed: int) -> Outcome:
        """One rollout, then two together and so on, if the first does not tell."""
        assert fault.spoil is not None
        generator = torch.Generator().manual_seed(seed)
        order = EndlessOrder(len(self.questions), generator)
        rows: Rows = []
        found: list[Finding] = []
        step = tokens = 0
        while tokens < TOKENS and not any(one.severity != "info" for one in found):
            asked = [self.questions[i] for i in order.take(self.episodes)]
            rows += fault.spoil(self.rows(asked, generator, fault.late), self.roles)
            found, step, tokens = self.diagnosed(rows), step + 1, sum(len(row["response_ids"]) for row in rows)
        return Outcome(fault.name, fault.cause, seed, step, gravest(found), tokens)

    def diagnosed(self, rows: Rows) -> list[Finding]:
        """`heed doctor --rollouts FILE --model POLICY --reference REFERENCE`, without loading the models again."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "rows.jsonl"
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
            rollouts = read_rollouts(path)
        results = [
            audit(rollouts, 1.0),
            exact_tests(
                rollouts,
                self.roles.policy,
                self.roles.reference,
                temperature=1.0,
                batch=self.settings.microbatch,
                generator=torch.Generator().manual_seed(0),
            ),
        ]
        return settle([found for some in results for test in some.values() for found in test])

    def rows(self, questions: list[Question], generator: torch.Generator, late: bool = False) -> Rows:
        """A healthy rollout as another trainer would write it down; `late`: after it has learned from it."""
        roles = self.roles if late else replace(self.roles, value=cast(Any, Still()), reward=cast(Any, Still()))
        rollout = self._parts(roles, self.settings, generator).worker.collect(questions)
        columns = {
            "sampler_logprobs": rollout.responses.logprobs,
            "policy_logprobs": self._updated(rollout) if late else rollout.scored.logprobs,
            "ref_logprobs": rollout.scored.ref_logprobs,
        }
        tokenizer = roles.policy.trunk.tokenizer
        return [
            {
                "prompt_ids": question.tokens, "response_ids": rollout.responses.tokens[i, :length].tolist(),
                "mask": [1] * length, "eos_id": tokenizer.eos_token_id, "pad_id": tokenizer.pad_token_id,
                **{name: line[i, :length].tolist() for name, line in columns.items()},
            }
            for i, (question, length) in enumerate(zip(questions, rollout.responses.lengths.tolist(), strict=True))
        ]  # fmt: skip

    def _updated(self, rollout: Rollout) -> Tensor:
        """The rollout scored by the policy that was trained on it; the weights come back afterwards."""
        before, scored = self._weights(), rollout.scored
        rewards = shaped_rewards(
            scored.logprobs, scored.ref_logprobs, rollout.paid, rollout.mask, self.settings.kl_coef
        )
        assert self.update is not None
        self.update(STEPS, rollout, rewards)
        with torch.no_grad(), self.roles.policy.active():
            newer = self.roles.policy.logprobs(rollout.prompts, rollout.responses)
        self._put(before)
        return newer

    # --- weights ----------------------------------------------------------------------------------------------------

    def _weights(self) -> dict[str, Tensor]:
        return {name: parameter.data.clone() for name, parameter in self._trained().items()}

    def _put(self, weights: dict[str, Tensor]) -> None:
        for name, parameter in self._trained().items():
            parameter.data.copy_(weights[name])

    def _trained(self) -> dict[str, torch.nn.Parameter]:
        policy, value = self.roles.policy.parameters(), self.roles.value.parameters()
        return {
            **{f"policy.{name}": p for name, p in policy.items()},
            **{f"value.{name}": p for name, p in value.items()},
        }


def gravest(found: list[Finding]) -> list[str]:
    """Ids of the errors, or of the warnings that are causes where there is no error."""
    errors = sorted({one.id for one in found if one.severity == "error"})
    return errors or sorted({one.id for one in found if one.severity == "warning" and one.id in CAUSES})
