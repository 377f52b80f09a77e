"""Held-out prompts answered by the policy as it was at several steps; and what scales an external reward model."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from heed.formulas.frontier import over_optimised
from heed.formulas.preference import normalisation
from heed.formulas.statistics import bootstrap_difference, bootstrap_mean, win_rate
from heed.models.answers import Answers, texts_of
from heed.models.external_reward import ExternalReward
from heed.models.roles import Roles
from heed.records import Dialogue
from heed.rl.questions import Question
from heed.rl.rollout import RolloutWorker
from heed.training.guards import require_spread
from heed.training.optimizer import Average

SCORE = "score"  # that of the reward model which pays

Judging = Callable[[Sequence[Dialogue], Answers], Sequence[float] | Tensor]
"""A judge that nobody is paid by: prompts and their answers → a score for each."""

log = logging.getLogger("heed")


@dataclass(frozen=True)
class HeldOutAnswers:
    """The answers of one policy, in the order of the questions; `lengths` in tokens, `kl` exact, nats per response.

    `scores` are those of the reward model that pays, `judged` those of the other judges by name.
    """

    texts: list[str]
    scores: Float[Tensor, " questions"]
    lengths: Float[Tensor, " questions"]
    finished: Float[Tensor, " questions"]
    kl: Float[Tensor, " questions"]
    judged: dict[str, Float[Tensor, " questions"]] = field(default_factory=dict)

    def by(self, judge: str) -> Float[Tensor, " questions"]:
        """The scores by one judge, or by the reward model that pays."""
        return self.scores if judge == SCORE else self.judged[judge]


class HeldOut:
    """Answers to the held-out questions by step, always with the same random numbers; a part of a run's state."""

    def __init__(
        self, worker: RolloutWorker, questions: list[Question], seed: int, judges: Mapping[str, Judging] | None = None
    ) -> None:
        self.worker, self.questions, self.seed, self.judges = worker, questions, seed, dict(judges or {})
        self.answered: dict[int, HeldOutAnswers] = {}

    def answer(self, step: int) -> HeldOutAnswers:
        """Answer and score the questions with the policy as it is after `step`."""
        self.answered[step] = self.measured()
        return self.answered[step]

    def measured(self) -> HeldOutAnswers:
        """The answers of the policy as it is now, scored by everybody; nothing is kept."""
        return answer(self.worker, self.questions, self.seed, self.judges)

    def metrics(self, step: int) -> dict[str, float | None]:
        """What `metrics.jsonl` says of the answers after `step`: every judge's mean with its 95 % interval, and KL."""
        found, told = self.answered[step], dict[str, float | None]()
        for name in (SCORE, *self.judges):
            mean = bootstrap_mean(found.by(name).tolist(), self.seed)
            told[f"validation/{name}"] = mean.estimate
            told |= {f"validation/{name}_low": mean.low, f"validation/{name}_high": mean.high}
        return {**told, "validation/kl": float(found.kl.mean())}

    def warn(self) -> None:
        """Say so at the evaluation at which the score is found to rise while another judge's falls."""
        steps = sorted(self.answered)
        proxy = [float(self.answered[step].scores.mean()) for step in steps]
        for name in self.judges:
            gold = [self.answered[step].by(name) for step in steps]
            margin = max(2 * float(scores.std() / len(scores) ** 0.5) for scores in gold)
            at = over_optimised(proxy, [float(scores.mean()) for scores in gold], margin)
            if at == len(steps) - 1:
                told = "over-optimised: the score goes on rising while %s falls; it was highest after step %d"
                log.warning(told, name, self.best(name, 0.0))

    @property
    def first(self) -> HeldOutAnswers:
        """Those of the policy before any update."""
        return self.answered[0]

    @property
    def last(self) -> HeldOutAnswers:
        """Those of the last step that was measured."""
        return self.answered[max(self.answered)]

    def best(self, judge: str, kl_budget: float) -> int:
        """The step after which the policy was best by that judge within the budget of exact KL, nats per response (0:
        without limit); where every policy is over it, the one with the least KL."""
        trained = {step: found for step, found in self.answered.items() if step > 0} or self.answered
        within = [step for step, found in trained.items() if not kl_budget or float(found.kl.mean()) <= kl_budget]
        if not within:
            return min(trained, key=lambda step: float(trained[step].kl.mean()))
        return max(within, key=lambda step: (float(trained[step].by(judge).mean()), step))

    def report(self, after: HeldOutAnswers) -> dict[str, Any]:
        """The SFT model and another policy, paired, with 95 % intervals."""
        before = self.first
        scores = {name: (after.by(name).tolist(), before.by(name).tolist()) for name in (SCORE, *self.judges)}
        told = {
            name: {
                "before": bootstrap_mean(b, self.seed).as_dict(),
                "after": bootstrap_mean(a, self.seed).as_dict(),
                "difference": bootstrap_difference(a, b, self.seed).as_dict(),
            }
            for name, (a, b) in scores.items()
        }
        return {
            **told,
            "win_rate": win_rate(*scores[SCORE], self.seed).as_dict(),
            "kl": bootstrap_mean(after.kl.tolist(), self.seed).as_dict(),
            "length": {"before": float(before.lengths.mean()), "after": float(after.lengths.mean())},
            "eos_rate": {"before": float(before.finished.mean()), "after": float(after.finished.mean())},
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


def answer(
    worker: RolloutWorker, questions: Sequence[Question], seed: int, judges: Mapping[str, Judging] | None = None
) -> HeldOutAnswers:
    """Answers of the policy as it is now, and their scores by everybody, with the random numbers of `seed`."""
    policy, asked = worker.roles.policy, list(questions)
    generator = torch.Generator(policy.trunk.device).manual_seed(seed)
    prompts, responses = worker.draw(asked, generator)
    scores = worker.scores(asked, prompts, responses)
    finished = responses.finished(policy.trunk.stop_ids)
    kl = worker.scored_tokens(prompts, responses, lambda prompts, responses: ()).exact_kl.sum(dim=1)
    texts, dialogues = texts_of(policy, responses), [question.record.prompt for question in asked]
    answers = Answers(prompts, responses, texts, finished.tolist())
    judged = {name: torch.as_tensor(judge(dialogues, answers)).float() for name, judge in (judges or {}).items()}
    return HeldOutAnswers(texts, scores, responses.lengths.float(), finished.float(), kl, judged)


def normalised(worker: RolloutWorker, questions: Sequence[Question], seed: int) -> Roles:
    """The roles with a scaled external reward model: answers of the reference get mean 0 and sd 1."""
    reward = worker.roles.reward
    assert isinstance(reward, ExternalReward)
    scores = require_spread(answer(worker, questions, seed).scores, f"{reward.model.name_or_path} scores the same")
    gain, bias = normalisation(None, scores)
    return replace(worker.roles, reward=reward.normalised(gain, bias))


def reported(held_out: HeldOut, average: Average | None, judge: str, kl_budget: float) -> dict[str, Any]:
    """`report.json`: the last policy against the SFT model, which policy was the best, and the averaged one."""
    best, last = held_out.best(judge, kl_budget), max(held_out.answered)
    report = {**held_out.report(held_out.last), "last_step": last, "best_step": best}
    if best != last:
        report["best"] = held_out.report(held_out.answered[best])
    if average:
        with average.applied():
            report["ema"] = held_out.report(held_out.measured())
    return report


def headline(report: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures that are printed and stand in the model card."""
    named = {f"held-out score, {name}": figure for name, figure in report["score"].items()}
    named["wins against the SFT model, by the reward model"] = report["win_rate"]
    others = {"heldout": "held-out judge's score", "gold": "gold score"}
    named |= {f"{words}, difference": report[name]["difference"] for name, words in others.items() if name in report}
    return {**named, "exact KL from the SFT model, nats per response": report["kl"]}
