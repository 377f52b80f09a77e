"""Step 3a: prompts → responses with log-probabilities, values and scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
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
from heed.formulas.preference import normalisation
from heed.models.answers import texts_of
from heed.models.external_reward import ExternalReward
from heed.models.policy import Observer, Scored, compare
from heed.models.roles import Roles
from heed.records import Dialogue, Prompt
from heed.rows.pieces import by_length, in_pieces, restore, take, to_device
from heed.settings.ppo import PPOSettings


@dataclass(frozen=True)
class Question:
    """A prompt and the tokens that every model reads for it."""

    record: Prompt
    tokens: list[int]


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


def collect(
    roles: Roles,
    questions: list[Question],
    settings: PPOSettings,
    template: Template,
    generator: torch.Generator,
    watcher: Watcher = lambda prompts, responses: (),
) -> Rollout:
    """Let the policy answer, then score every written token with the training forward and every response whole."""
    prompts, responses = draw(roles, questions, settings, generator)
    with roles.value.active():
        values = in_pieces(prompts, responses, settings.microbatch, roles.value.values, roles.value.trunk.threads)
    scored = scored_tokens(roles, prompts, responses, settings, watcher)
    finished = responses.finished(roles.policy.trunk.tokenizer.eos_token_id)
    scores = score(roles, questions, prompts, responses, template, settings.microbatch)
    paid = missing_eos(scores, finished, settings.missing_eos.mode, settings.missing_eos.value)
    return Rollout(questions, prompts, responses, finished, scored, values, scores, paid)


def scored_tokens(
    roles: Roles, prompts: PromptBatch, responses: Responses, settings: PPOSettings, watcher: Watcher
) -> Scored:
    """Every written token under policy and reference, in pieces of rows of like length."""
    pieces = list(by_length(prompts, responses, settings.microbatch))
    taken = (take(prompts, responses, rows) for rows in pieces)
    temperature = settings.sampling.temperature
    scored = [compare(roles.policy, roles.reference, *piece, temperature, watcher(*piece)) for piece in taken]
    return _together(scored, pieces, responses)


def draw(
    roles: Roles, questions: list[Question], settings: PPOSettings, generator: torch.Generator
) -> tuple[PromptBatch, Responses]:
    """One response to each question, at the temperature that they are scored with."""
    pad = roles.policy.trunk.tokenizer.pad_token_id
    prompts = to_device(prompt_batch([question.tokens for question in questions], pad), roles.policy.trunk.device)
    options = settings.sampling
    drawn = roles.policy.generate(prompts, options.max_new_tokens, options.temperature, generator, size=options.batch)
    return prompts, drawn


def score(
    roles: Roles,
    questions: list[Question],
    prompts: PromptBatch,
    responses: Responses,
    template: Template,
    microbatch: int,
) -> Float[Tensor, " batch"]:
    """A normalised score per response: from the sampled tokens, or from text where the reward model is not ours."""
    if isinstance(roles.reward, ExternalReward):
        answers = texts_of(roles.policy, responses)
        asked = [question_text(question.record.prompt, roles.reward.form, template) for question in questions]
        if roles.reward.form == "text":
            answers = [template.response_text(answer) for answer in answers]
        return roles.reward.score_texts(asked, answers).to(responses.tokens.device)
    with roles.reward.active():
        return in_pieces(prompts, responses, microbatch, roles.reward.score_responses, roles.reward.trunk.threads)


def question_text(dialogue: Dialogue, form: str, template: Template) -> str:
    """What an external reward model reads as the question: the user's words if there is one turn, else the dialogue."""
    if form == "pair" and len(dialogue) == 1:
        return dialogue[0].content
    return template.render(dialogue)


@dataclass(frozen=True)
class Answers:
    """Held-out prompts answered by the policy as it was at one step."""

    texts: list[str]
    scores: Float[Tensor, " batch"]
    lengths: Float[Tensor, " batch"]
    finished: Float[Tensor, " batch"]


def answer(roles: Roles, questions: list[Question], settings: PPOSettings, template: Template) -> Answers:
    """Answer and score held-out prompts, with the same random numbers every time."""
    generator = torch.Generator(roles.policy.trunk.device).manual_seed(settings.seed)
    prompts, responses = draw(roles, questions, settings, generator)
    scores = score(roles, questions, prompts, responses, template, settings.microbatch)
    finished = responses.finished(roles.policy.trunk.tokenizer.eos_token_id)
    return Answers(texts_of(roles.policy, responses), scores, responses.lengths.float(), finished.float())


def normalise(roles: Roles, questions: list[Question], settings: PPOSettings, template: Template) -> Roles:
    """Scale a reward model that knows no normalisation: answers of the reference get mean 0 and sd 1."""
    assert isinstance(roles.reward, ExternalReward)
    scores = answer(roles, questions, settings, template).scores
    gain, bias = normalisation(None, scores)
    return replace(roles, reward=roles.reward.normalised(gain, bias))


def rollout_metrics(
    rollout: Rollout, rewards: Float[Tensor, "batch response"], kl_coef: float
) -> dict[str, float | None]:
    """What `docs/metrics.md` explains, for one rollout. KL is in nats per response."""
    mask, scored = rollout.mask, rollout.scored
    per_token = k1(scored.logprobs, scored.ref_logprobs)
    per_response = per_token.sum(dim=1)
    surprise = -scored.logprobs - scored.entropy
    gap = (scored.logprobs - rollout.responses.logprobs).abs()
    price, score = kl_coef * float(per_response.mean()), float(rollout.paid.mean())
    return {
        "score/mean": float(rollout.scores.mean()),
        "score/sd": float(rollout.scores.std(correction=0)),
        "reward/mean": float(rewards.sum(dim=1).mean()),
        "reward/kl_share": abs(price) / (abs(price) + abs(score)) if price or score else 0.0,
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
    }


def sample_rows(roles: Roles, rollout: Rollout, count: int) -> list[dict[str, Any]]:
    """The first responses of a rollout, for `samples.jsonl`."""
    kl = rollout.scored.exact_kl.sum(dim=1)
    return [
        {
            "prompt": [{"role": turn.role, "content": turn.content} for turn in rollout.questions[i].record.prompt],
            "response": text,
            "score": float(rollout.scores[i]),
            "kl": float(kl[i]),
            "finished": bool(rollout.finished[i]),
        }
        for i, text in enumerate(texts_of(roles.policy, rollout.responses)[:count])
    ]


def _together(scored: list[Scored], pieces: list[Tensor], responses: Responses) -> Scored:
    names = [field.name for field in fields(Scored)]
    return Scored(**{name: restore([getattr(part, name) for part in scored], pieces, responses) for name in names})
