"""Held-out prompts answered by the policy as it was at several steps; and what scales an external reward model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from heed.formulas.preference import normalisation
from heed.formulas.statistics import bootstrap_difference, bootstrap_mean, win_rate
from heed.models.answers import texts_of
from heed.models.external_reward import ExternalReward
from heed.models.roles import Roles
from heed.rl.questions import Question
from heed.rl.rollout import RolloutWorker


@dataclass(frozen=True)
class HeldOutAnswers:
    """The answers of one policy, in the order of the questions; `lengths` in tokens."""

    texts: list[str]
    scores: Float[Tensor, " questions"]
    lengths: Float[Tensor, " questions"]
    finished: Float[Tensor, " questions"]


class HeldOut:
    """Answers to the held-out questions by step, always with the same random numbers; a part of a run's state."""

    def __init__(self, worker: RolloutWorker, questions: list[Question], seed: int) -> None:
        self.worker, self.questions, self.seed = worker, questions, seed
        self.answered: dict[int, HeldOutAnswers] = {}

    def answer(self, step: int) -> HeldOutAnswers:
        """Answer and score the questions with the policy as it is after `step`."""
        self.answered[step] = answer(self.worker, self.questions, self.seed)
        return self.answered[step]

    @property
    def first(self) -> HeldOutAnswers:
        """Those of the policy before any update."""
        return self.answered[0]

    @property
    def last(self) -> HeldOutAnswers:
        """Those of the last step that was measured."""
        return self.answered[max(self.answered)]

    def report(self) -> dict[str, Any]:
        """The SFT model and the last policy, paired, with 95 % intervals."""
        a, b = self.last.scores.tolist(), self.first.scores.tolist()
        return {
            "score": {
                "before": bootstrap_mean(b, self.seed).as_dict(),
                "after": bootstrap_mean(a, self.seed).as_dict(),
                "difference": bootstrap_difference(a, b, self.seed).as_dict(),
            },
            "win_rate": win_rate(a, b, self.seed).as_dict(),
            "length": {"before": float(self.first.lengths.mean()), "after": float(self.last.lengths.mean())},
            "eos_rate": {"before": float(self.first.finished.mean()), "after": float(self.last.finished.mean())},
        }

    def table(self) -> list[dict[str, Any]]:
        """The SFT model's answers and the last policy's side by side."""
        before, after = self.first, self.last
        return [
            {
                "prompt": question.record.prompt[-1].content,
                "before": before.texts[i],
                "score before": float(before.scores[i]),
                "after": after.texts[i],
                "score after": float(after.scores[i]),
            }
            for i, question in enumerate(self.questions)
        ]

    def state_dict(self) -> dict[str, Any]:
        """All answers so far."""
        return {str(step): asdict(answers) for step, answers in self.answered.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The answers as they were."""
        self.answered = {int(step): HeldOutAnswers(**answers) for step, answers in state.items()}


def answer(worker: RolloutWorker, questions: Sequence[Question], seed: int) -> HeldOutAnswers:
    """Answers of the policy as it is now, and their scores, with the random numbers of `seed`."""
    policy, asked = worker.roles.policy, list(questions)
    generator = torch.Generator(policy.trunk.device).manual_seed(seed)
    prompts, responses = worker.draw(asked, generator)
    scores = worker.scores(asked, prompts, responses)
    finished = responses.finished(policy.trunk.tokenizer.eos_token_id)
    return HeldOutAnswers(texts_of(policy, responses), scores, responses.lengths.float(), finished.float())


def normalised(worker: RolloutWorker, questions: Sequence[Question], seed: int) -> Roles:
    """The roles with a scaled external reward model: answers of the reference get mean 0 and sd 1."""
    reward = worker.roles.reward
    assert isinstance(reward, ExternalReward)
    gain, bias = normalisation(None, answer(worker, questions, seed).scores)
    return replace(worker.roles, reward=reward.normalised(gain, bias))
