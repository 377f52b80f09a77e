"""Step 3a: prompts → responses with log-probabilities, values and scores."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from heed.batches import PromptBatch, Responses
from heed.data.batch import prompt_batch
from heed.data.template import Template
from heed.doctor.statistics import martingale_z
from heed.formulas.advantages import missing_eos
from heed.formulas.kl import k1, k3
from heed.formulas.masked import masked_mean
from heed.formulas.repetition import distinct_ngrams, repeated_ngrams
from heed.models.answers import texts_of
from heed.models.external_reward import ExternalReward
from heed.models.policy import Observer, Policy, Scored, compare
from heed.models.roles import Roles
from heed.records import Dialogue
from heed.rl.questions import Question
from heed.rows.pieces import by_length, in_pieces, restore, take, to_device
from heed.settings.common import SamplingSettings


@dataclass(frozen=True)
class Rollout:
    """Episodes of one step, all from the current policy. Per-token fields are response-aligned, 0 outside the mask.

    `scores` are the reward model's, normalised; `paid` is what the policy gets: the score after the missing-EOS rule.
    """

    questions: list[Question]
    prompts: PromptBatch
    responses: Responses
    finished: Bool[Tensor, " batch"]
    scored: Scored
    values: Float[Tensor, "batch response"]
    scores: Float[Tensor, " batch"]
    paid: Float[Tensor, " batch"]

    @property
    def mask(self) -> Bool[Tensor, "batch response"]:
        return self.responses.mask


Watcher = Callable[[PromptBatch, Responses], tuple[Observer, ...]]
"""Gives the observers of the logits with which a piece of a rollout is scored."""

Clock = Callable[[str], AbstractContextManager[None]]
"""Times a named part of a step."""


def untimed(part: str) -> AbstractContextManager[None]:
    """A clock that measures nothing."""
    return nullcontext()


@dataclass(frozen=True)
class RolloutWorker:
    """Lets the policy answer questions, and scores what it wrote.

    `sampling.temperature` divides the logits in sampler and scorer alike; `microbatch` responses are scored at once.
    `missing_eos` says what a response that does not end itself costs: mode and value of `heed.formulas.advantages`.
    """

    roles: Roles
    template: Template
    sampling: SamplingSettings
    microbatch: int
    missing_eos: tuple[str, float]
    generator: torch.Generator

    def collect(
        self, questions: list[Question], watcher: Watcher = lambda prompts, responses: (), clock: Clock = untimed
    ) -> Rollout:
        """One response to each question; every written token scored by the training forward, every response whole.

        `clock` times the parts, `rollout` and `score`; what `watcher` looks at while tokens are scored is in `score`.
        """
        roles = self.roles
        with clock("rollout"):
            prompts, responses = self.draw(questions, self.generator)
        with clock("score"):
            with roles.value.active():
                values = in_pieces(prompts, responses, self.microbatch, roles.value.values, roles.value.trunk.threads)
            scored = self.scored_tokens(prompts, responses, watcher)
            finished = responses.finished(roles.policy.trunk.stop_ids)
            scores = self.scores(questions, prompts, responses)
        paid = missing_eos(scores, finished, *self.missing_eos)
        return Rollout(questions, prompts, responses, finished, scored, values, scores, paid)

    def draw(self, questions: list[Question], generator: torch.Generator) -> tuple[PromptBatch, Responses]:
        """One response to each question, at the temperature that they are scored with."""
        policy, options = self.roles.policy, self.sampling
        rows = [question.tokens for question in questions]
        prompts = to_device(prompt_batch(rows, policy.trunk.tokenizer.pad_token_id), policy.trunk.device)
        drawn = policy.generate(
            prompts, options.max_new_tokens, options.temperature, generator, size=options.batch
        )  # fmt: skip
        return prompts, drawn

    def scored_tokens(self, prompts: PromptBatch, responses: Responses, watcher: Watcher) -> Scored:
        """Every written token under policy and reference, in pieces of rows of like length."""
        pieces = by_length(prompts, responses, self.microbatch)
        taken = (take(prompts, responses, rows) for rows in pieces)
        policy, reference, temperature = self.roles.policy, self.roles.reference, self.sampling.temperature
        scored = [compare(policy, reference, *piece, temperature, watcher(*piece)) for piece in taken]
        return _together(scored, pieces, responses)

    def scores(self, questions: list[Question], prompts: PromptBatch, responses: Responses) -> Float[Tensor, " batch"]:
        """A normalised score per response: from the sampled tokens, or from text where the reward model is not ours."""
        reward = self.roles.reward
        if isinstance(reward, ExternalReward):
            answers = texts_of(self.roles.policy, responses)
            asked = [question_text(question.record.prompt, reward.form, self.template) for question in questions]
            if reward.form == "text":
                answers = [self.template.response_text(answer) for answer in answers]
            return reward.score_texts(asked, answers).to(responses.tokens.device)
        with reward.active():
            return in_pieces(prompts, responses, self.microbatch, reward.score_responses, reward.trunk.threads)


def question_text(dialogue: Dialogue, form: str, template: Template) -> str:
    """What an external reward model reads as the question: the user's words if there is one turn, else the dialogue."""
    if form == "pair" and len(dialogue) == 1:
        return dialogue[0].content
    return template.render(dialogue)


def rollout_metrics(
    rollout: Rollout, rewards: Float[Tensor, "batch response"], kl_coef: float
) -> dict[str, float | None]:
    """What `docs/metrics.md` explains, for one rollout. KL is in nats per response."""
    mask, scored = rollout.mask, rollout.scored
    per_token = k1(scored.logprobs, scored.ref_logprobs)
    per_response = per_token.sum(dim=1)
    surprise = -scored.logprobs - scored.entropy
    gap = (scored.logprobs - rollout.responses.logprobs).abs()
    price, score = kl_coef * float(per_response.abs().mean()), float(rollout.paid.abs().mean())
    return {
        "score/mean": float(rollout.scores.mean()),
        "score/sd": float(rollout.scores.std(correction=0)),
        "reward/mean": float(rewards.sum(dim=1).mean()),
        "reward/kl_share": price / (price + score) if price or score else 0.0,
        "kl/k1": float(per_response.mean()),
        "kl/k1_se": float(per_response.std() / len(per_response) ** 0.5),
        "kl/exact": float(scored.exact_kl.sum(dim=1).mean()),
        "kl/coef": kl_coef,
        "kl/k3": float(k3(scored.logprobs, scored.ref_logprobs).sum(dim=1).mean()),
        "kl/z_validity": martingale_z(per_token - scored.exact_kl, scored.kl_variance, mask),
        "kl/z_surprisal": martingale_z(surprise, scored.surprisal_variance, mask),
        "rescore/mean": float(masked_mean(gap, mask)),
        "rescore/max": float(gap.max()),
        "policy/entropy": float(masked_mean(scored.entropy, mask)),
        "length/mean": float(rollout.responses.lengths.float().mean()),
        "length/eos_rate": float(rollout.finished.float().mean()),
        "text/distinct_2": float(distinct_ngrams(rollout.responses.tokens, mask, 2)),
        "text/repeated_2": float(repeated_ngrams(rollout.responses.tokens, mask, 2)),
    }


def sample_rows(policy: Policy, rollout: Rollout, count: int) -> list[dict[str, Any]]:
    """The first responses of a rollout, for `samples.jsonl`."""
    kl = rollout.scored.exact_kl.sum(dim=1)
    return [
        {
            "prompt": [{"role": turn.role, "content": turn.content} for turn in rollout.questions[i].record.prompt],
            "response": text,
            "score": float(rollout.scores[i]),
            "kl": float(kl[i]),
            "length": int(rollout.responses.lengths[i]),
            "finished": bool(rollout.finished[i]),
        }
        for i, text in enumerate(texts_of(policy, rollout.responses)[:count])
    ]


def _together(scored: list[Scored], pieces: list[Tensor], responses: Responses) -> Scored:
    names = [field.name for field in fields(Scored)]
    return Scored(**{name: restore([getattr(part, name) for part in scored], pieces, responses) for name in names})
