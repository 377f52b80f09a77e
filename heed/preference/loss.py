"""The loss of one step of the reward model, and its gradient."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

from torch import Tensor

from heed.data.batch import ranking_batch
from heed.data.encode import EncodedRanking
from heed.formulas.preference import centring_terms, mean_per_prompt, ranking_accuracy, ranking_terms
from heed.models.scalar_head import RewardModel
from heed.rows.microbatches import microbatches
from heed.rows.threads import SERIAL, RowThreads
from heed.training.guards import require_finite


def backpropagate(
    model: RewardModel,
    tasks: Sequence[Sequence[EncodedRanking]],
    centring_weight: float,
    microbatch_tokens: int,
    threads: RowThreads = SERIAL,
) -> dict[str, float]:
    """Add up the gradient of one step's loss; returns its parts.

        loss = mean over the step's tasks, over each task's rankings [ ranking term + centring · centring term ]

    Every microbatch's terms are divided by the step's number of tasks, so that their size changes nothing. Every
    ranking has a strict pair, and so a term: `ranking_set` drops the others.
    """
    pad, device = model.trunk.tokenizer.pad_token_id, model.trunk.device

    def loss(rows: list[int]) -> tuple[Tensor, tuple[float, float, float]]:
        batch = ranking_batch([tasks[i] for i in rows], pad)
        ranks, rankings, of_task = batch.ranks.to(device), batch.rankings.to(device), batch.tasks.to(device)
        scores = model.scores_of(batch)[batch.ranked.to(device)]

        def over_tasks(of_ranking: Tensor) -> Tensor:
            return mean_per_prompt(of_ranking, of_task).sum() / len(tasks)

        ranking = over_tasks(ranking_terms(scores, ranks, rankings))
        centring = over_tasks(centring_terms(scores, ranks, rankings))
        correct, better, _ = ranking_accuracy(scores.detach(), ranks, rankings)
        right = float(over_tasks(mean_per_prompt(correct, rankings[better])))
        parts = require_finite(float(ranking.detach()), "the loss"), float(centring.detach()), right
        return ranking + centring_weight * centring, parts

    responses = [len(task[0].texts) for task in tasks]
    longest = [tokens_a_response(task[0]) for task in tasks]
    groups = threads.share(microbatches(longest, microbatch_tokens, device.type, responses))
    with model.active():
        parts = threads.backward([partial(loss, rows) for rows in groups], list(model.parameters().values()))
    ranking, centring, right = (sum(column) for column in zip(*parts, strict=True))
    return {"loss/ranking": ranking, "loss/centring": centring, "accuracy/train": right}


def tokens_a_response(ranking: EncodedRanking) -> int:
    """The longest response, and the share of a prompt that is read once for all of them."""
    longest = max(len(text) for text in ranking.texts)
    return longest - ranking.response_start + math.ceil(ranking.response_start / len(ranking.texts))


def tokens_of(tasks: Sequence[Sequence[EncodedRanking]]) -> int:
    """Tokens that are scored, padding not counted."""
    return sum(len(text) for task in tasks for text in task[0].texts)
