"""Rows in threads of their own, for models whose products are too small to be shared.

torch gives every product to all of its threads, which then wait for each other. For a model of a million weights that
gains nothing on two idle cores and loses two thirds on busy ones. Threads that each take some of a step's rows meet
once a step: 1.5 to 1.7 times as fast (forward and backward pass, 1,024 tokens, two cores).

What changes a model (`active()`, `merged()`) is entered around what the threads do, never in one: all share the model.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import Parameter

SMALL = 5_000_000
"""Parameters of a model below which rows are shared out, and products are not."""
MOST = 4  # threads: a small model's step has few rows

Told = TypeVar("Told")
Result = TypeVar("Result")


class RowThreads:
    """Some rows in each of `count` threads, be it for the gradient of a step or without one. One thread is plain
    `backward()`, and a plain loop."""

    def __init__(self, count: int) -> None:
        self.count, self._pool = count, None
        if count > 1:
            torch.get_num_threads()  # settles torch's number of threads here, which would else follow the next line
            self._pool = ThreadPoolExecutor(count, initializer=torch.set_num_threads, initargs=(1,))

    @classmethod
    def for_model(cls, model: nn.Module, serial: bool = False) -> RowThreads:
        """As many as there are cores for the training of a small model on a processor, otherwise one. Torch then keeps
        to one thread for each product, here and after. `serial`: one thread, where random numbers are drawn in forward
        passes."""
        if is_small(model):
            torch.set_num_threads(1)
        return cls(1 if serial else fitting(model))

    def share(self, groups: Sequence[Any]) -> list[Any]:
        """Groups of rows (lists or 1-D tensors), each split among the threads where there are fewer than threads."""
        if len(groups) >= self.count:
            return list(groups)
        parts = [group[i :: self.count] for group in groups for i in range(self.count)]
        return [part for part in parts if len(part)]

    def backward(
        self, losses: Sequence[Callable[[], tuple[Tensor, Told]]], parameters: Sequence[Parameter]
    ) -> list[Told]:
        """Add the gradients of all losses to `parameters`, in the order of the losses whatever thread is ready first.

        Each function gives a scalar loss and what else it has to tell, which is returned. Call it inside the context of
        the model's adapter; what a thread has to itself (autocast) belongs into the function.
        """
        if self._pool is None:
            return [_backward(loss) for loss in losses]
        gradients = list(self._pool.map(lambda loss: _gradient(loss, parameters), losses))
        for found, _ in gradients:
            for parameter, gradient in zip(parameters, found, strict=True):
                if gradient is not None:
                    parameter.grad = (
                        gradient if parameter.grad is None else parameter.grad + gradient
                    )  # two may be one tensor
        return [told for _, told in gradients]

    def map(self, function: Callable[..., Result], *items: Iterable[Any]) -> Iterator[Result]:
        """Results without gradient, as of `map`: in the order of the items, each as soon as those before it are there.

        Call it inside the context of the model's adapter, and take the results there.
        """
        without_gradient = torch.no_grad()(function)
        return (self._pool.map if self._pool else map)(without_gradient, *items)


SERIAL = RowThreads(1)


def fitting(model: nn.Module) -> int:
    """Threads for the rows of a model: as many as there are cores for a small one on a processor, otherwise one."""
    return min(MOST, cores()) if is_small(model) else 1


def is_small(model: nn.Module) -> bool:
    """Whether its products are too small to be shared: on a processor, and few weights."""
    weights = list(model.parameters())
    return weights[0].device.type == "cpu" and sum(weight.numel() for weight in weights) < SMALL


def cores() -> int:
    """Cores that this process may use, or `OMP_NUM_THREADS` where that is fewer."""
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return min(own, int(asked)) if asked.isdigit() and int(asked) else own


def _backward(loss: Callable[[], tuple[Tensor, Told]]) -> Told:
    value, told = loss()
    value.backward()
    return told


def _gradient(
    loss: Callable[[], tuple[Tensor, Told]], parameters: Sequence[Parameter]
) -> tuple[tuple[Tensor | None, ...], Told]:
    value, told = loss()
    return torch.autograd.grad(value, parameters, allow_unused=True), told
