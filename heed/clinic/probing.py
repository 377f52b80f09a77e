"""The reward model before PPO trusts it: good answers beside spoilt ones, and scores beside lengths."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from heed.data.encode import encode_responses
from heed.data.template import Template
from heed.doctor import probes
from heed.doctor.findings import Finding
from heed.formulas.statistics import Estimate, spearman
from heed.models.answers import texts_of
from heed.models.external_reward import ExternalReward
from heed.models.roles import Roles
from heed.models.scores import score_texts
from heed.rl.questions import Question
from heed.rl.rollout import Rollout, question_text

MOST = 128
"""Prompts whose answers are spoilt in every way and scored."""


def probe(
    roles: Roles,
    questions: list[Question],
    rollouts: list[Rollout],
    template: Template,
    *,
    seed: int,
    microbatch: int,
) -> tuple[list[Finding], dict[str, str]]:
    """RM16 and RM13, and their figures in words. `rollouts` are of the policy before any update.

    `seed` shuffles the words of spoilt answers; `microbatch` texts are scored at once.
    """
    asked, answers = good_answers(roles, questions, rollouts)
    spoilt = probes.spoilt(answers, seed)
    good = scores(roles, asked, answers, template, microbatch)
    bad: dict[str, list[float | None]] = {}
    for name, texts in spoilt.items():
        there = [i for i, text in enumerate(texts) if text is not None]
        scored = scores(roles, [asked[i] for i in there], [texts[i] or "" for i in there], template, microbatch)
        found = dict(zip(there, scored, strict=True))
        bad[name] = [found.get(i) for i in range(len(texts))]
    shares = probes.wins(good, bad)
    drawn = torch.cat([rollout.scores for rollout in rollouts]).tolist()
    lengths = torch.cat([rollout.responses.lengths for rollout in rollouts]).tolist()
    told = probes.separation(shares) + probes.length_bias(drawn, lengths)
    return told, {probes.SPOILT[name]: in_words(share) for name, share in shares.items()} | {
        "rank correlation with length": f"{spearman(drawn, lengths):+.2f} over {len(drawn)} answers"
    }


def good_answers(roles: Roles, questions: list[Question], rollouts: list[Rollout]) -> tuple[list[Question], list[str]]:
    """Prompts with their reference answers; where too few have one, with the answers that the policy has finished."""
    known = [question for question in questions if question.record.reference][:MOST]
    if len(known) >= probes.FEWEST:
        return known, [question.record.reference or "" for question in known]
    pairs: list[tuple[Question, str]] = []
    for rollout in rollouts:
        texts = texts_of(roles.policy, rollout.responses)
        ended = rollout.finished.tolist()
        pairs += [(q, text) for q, text, end in zip(rollout.questions, texts, ended, strict=True) if end]
    return [question for question, _ in pairs[:MOST]], [text for _, text in pairs[:MOST]]


def scores(
    roles: Roles, asked: Sequence[Question], answers: Sequence[str], template: Template, microbatch: int
) -> list[float]:
    """Scores of finished answers in words, as PPO's rollouts would be scored."""
    if not asked:
        return []
    if isinstance(roles.reward, ExternalReward):
        prompts = [question_text(question.record.prompt, roles.reward.form, template) for question in asked]
        shaped = answers if roles.reward.form == "pair" else [template.response_text(answer) for answer in answers]
        return [float(score) for score in roles.reward.score_texts(prompts, list(shaped))]
    trunk = roles.reward.trunk
    encoded = encode_responses(answers, template, trunk.tokenizer)
    whole = [(q.tokens + response)[-trunk.context :] for q, response in zip(asked, encoded, strict=True)]
    return [float(score) for score in score_texts(roles.reward, whole, microbatch * max(map(len, whole)))]


def in_words(share: Estimate) -> str:
    """A share of wins with its interval."""
    return f"{share.estimate:.0%} ({share.low:.0%} to {share.high:.0%}) of {share.n}" if share.n else "not tested"
