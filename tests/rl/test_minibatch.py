"""Rows of a rollout, in minibatches and pieces."""

from __future__ import annotations

from collections.abc import Callable

import torch

from heed.rl.minibatch import Minibatch, add_up, minibatches
from heed.rl.rollout import Rollout
from heed.rows.threads import RowThreads
from heed.stages.ppo import Prepared

Collected = Callable[..., tuple[Prepared, Rollout]]


def test_every_episode_is_in_one_minibatch_of_each_epoch(collected: Collected) -> None:
    rollout, none = collected()[1], torch.zeros(8, 6)
    found = list(minibatches(rollout, none, none, size=3, epochs=2, generator=torch.Generator().manual_seed(0)))
    assert [len(batch.rows) for batch in found] == [3, 3, 2, 3, 3, 2]
    first, second = ([row for batch in half for row in batch.rows.tolist()] for half in (found[:3], found[3:]))
    assert sorted(first) == sorted(second) == list(range(8))
    assert first != second


def test_tokens_are_those_of_its_own_rows_without_padding(collected: Collected) -> None:
    rollout, none = collected()[1], torch.zeros(8, 6)
    mask = torch.arange(rollout.mask.shape[1]) < torch.tensor([[1], [2], [3], [1], [2], [3], [1], [2]])
    rollout.responses.mask.copy_(mask)
    assert int(Minibatch(torch.tensor([1, 5]), rollout, none, none).tokens) == 2 + 3


def test_pieces_hold_rows_of_like_length(collected: Collected) -> None:
    rollout, none = collected()[1], torch.zeros(8, 6)
    batch = Minibatch(torch.tensor([7, 0, 3, 5, 2]), rollout, none, none)
    pieces = batch.pieces(2, RowThreads(1))
    rows = torch.cat(pieces)
    assert sorted(rows.tolist()) == [0, 2, 3, 5, 7]
    lengths = rollout.prompts.mask.sum(dim=1) + rollout.responses.lengths
    assert lengths[rows].tolist() == sorted(lengths[rows].tolist(), reverse=True)
    assert len(pieces) > 1
    assert all(len(piece) * lengths[piece].max() <= 2 * lengths[rows].max() for piece in pieces)


def test_metrics_of_pieces_are_added_up_but_for_the_largest_ratio() -> None:
    pieces = [{"loss/policy": 0.25, "policy/ratio_first": 0.5}, {"loss/policy": 0.5, "policy/ratio_first": 0.125}]
    assert add_up(pieces) == {"loss/policy": 0.75, "policy/ratio_first": 0.5}
