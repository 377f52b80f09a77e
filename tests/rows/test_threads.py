"""Rows in threads: gradients and results are those of one pass over all rows, whatever thread is ready first."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from heed.errors import RunError
from heed.rows import threads
from heed.rows.threads import RowThreads
from heed.training.guards import require_finite


@pytest.fixture
def one_thread_a_product() -> object:
    """`for_model` sets it for the process; put it back."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))


def told(found: nn.Module, x: Tensor, rows: Tensor) -> tuple[Tensor, list[int]]:
    if 0 in rows:
        time.sleep(0.02)  # the first piece is ready last
    return found(x[rows]).square().sum() / len(x), rows.tolist()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_gradients_add_up_to_that_of_all_rows(count: int) -> None:
    net, x, crew = model(), torch.randn(7, 4), RowThreads(count)
    unused = nn.Parameter(torch.zeros(1))
    parameters = [*net.parameters(), unused]
    pieces = crew.share([torch.arange(7)])
    assert len(pieces) == count
    for _ in range(2):  # the second time on top of the first
        answers = crew.backward([partial(told, net, x, rows) for rows in pieces], parameters)
    assert answers == [list(range(i, 7, count)) for i in range(count)]
    expected = torch.autograd.grad(net(x).square().mean(), list(net.parameters()))
    for parameter, gradient in zip(net.parameters(), expected, strict=True):
        assert_close(parameter.grad, 2 * gradient)
    assert unused.grad is None


def test_groups_are_split_only_where_threads_would_idle() -> None:
    assert RowThreads(2).share([[1, 2, 3]]) == [[1, 3], [2]]
    assert RowThreads(2).share([[1, 2], [3]]) == [[1, 2], [3]]
    assert RowThreads(3).share([[1, 2], [3]]) == [[1], [2], [3]]
    assert RowThreads(1).share([[1, 2, 3]]) == [[1, 2, 3]]


def test_an_error_in_a_thread_is_raised() -> None:
    def loss() -> tuple[Tensor, float]:
        return torch.zeros(()), require_finite(float("nan"), "the loss")

    with pytest.raises(RunError, match="the loss is nan"):
        RowThreads(2).backward([loss, loss], [])
    with pytest.raises(RunError, match="the score is nan"):
        list(RowThreads(2).map(require_finite, [1.0, float("nan"), 2.0], ["the score"] * 3))


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_stand_in_the_order_of_the_items_and_carry_no_gradient(count: int) -> None:
    net, x = model(), torch.randn(7, 4)
    found = list(RowThreads(count).map(partial(told, net, x), torch.arange(7).split(2)))
    assert [rows for _, rows in found] == [[0, 1], [2, 3], [4, 5], [6]]
    for value, rows in found:
        assert not value.requires_grad
        assert_close(value, (net(x[rows]).square().sum() / 7).detach())
    assert torch.is_grad_enabled()


def test_each_thread_keeps_a_product_to_itself_and_others_keep_theirs() -> None:
    """In a process that has not yet asked how many threads it has, as a stage has not."""
    lines = ["import torch", "from heed.rows.threads import RowThreads", "def own(_): return torch.get_num_threads()"]
    lines += ["torch.set_num_threads(3)", "print(*RowThreads(2).map(own, range(4)), *RowThreads(1).map(own, range(2)))"]
    told = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["1"] * 4 + ["3"] * 2


@pytest.mark.usefixtures("one_thread_a_product")
def test_small_models_get_threads_for_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "cores", lambda: 2)
    torch.set_num_threads(2)
    assert RowThreads.for_model(model()).count == 2 and torch.get_num_threads() == 1
    assert RowThreads.for_model(model(), serial=True).count == 1
    assert RowThreads.for_model(nn.Linear(3000, 2000)).count == 1
    assert RowThreads.for_model(nn.Linear(2, 2, device="meta")).count == 1
    monkeypatch.setattr(threads, "cores", lambda: 64)
    assert RowThreads.for_model(model()).count == threads.MOST


def test_cores_are_those_that_the_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    assert threads.cores() == 3
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads.cores() == 2
    monkeypatch.setenv("OMP_NUM_THREADS", "16")
    assert threads.cores() == 3
