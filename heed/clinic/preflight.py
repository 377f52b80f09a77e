"""The doctor before a run: the run's own models, three rollouts and one update, all in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from heed.clinic.live import LiveDoctor
from heed.clinic.probing import probe
from heed.data.order import EndlessOrder
from heed.doctor.causes import settle
from heed.doctor.verdict import Verdict
from heed.formulas.advantages import shaped_rewards
from heed.rl.questions import Question
from heed.rl.rollout import Rollout, RolloutWorker, rollout_metrics

ROLLOUTS = 3
UPDATED = 2  # the rollout that is learned from: the last one is of a policy that has left the reference


def preflight(
    title: str,
    worker: RolloutWorker,
    update: Callable[[Rollout, Tensor], dict[str, float | None]],
    doctor: LiveDoctor,
    questions: list[Question],
    order: EndlessOrder,
    batch: int,
    kl_coef: float,
    seed: int,
) -> Verdict:
    """What PPO would do in its first steps, tested; nothing is written.

    `update` should move the policy at the peak learning rate, so that the last rollout tells it from the reference.
    """
    rollouts: list[Rollout] = []
    for step in range(1, ROLLOUTS + 1):
        rollout = worker.collect([questions[i] for i in order.take(batch)], doctor.observers)
        doctor.examine(step, rollout)
        rollouts.append(rollout)
        if step == UPDATED:
            scored = rollout.scored
            paid = shaped_rewards(scored.logprobs, scored.ref_logprobs, rollout.paid, rollout.mask, kl_coef)
            metrics: dict[str, Any] = rollout_metrics(rollout, paid, kl_coef)
            doctor.follow(step, metrics | update(rollout, paid))
    found, figures = probe(
        worker.roles, questions, rollouts[:UPDATED], worker.template, seed=seed, microbatch=worker.microbatch
    )
    return Verdict(
        title, doctor.chart.results, settle([*doctor.chart.findings.values(), *found]),
        sum(len(rollout.mask) for rollout in rollouts), sum(int(rollout.mask.sum()) for rollout in rollouts),
        figures=figures, skipped=doctor.chart.skipped,
    )  # fmt: skip
