"""An accelerator that is none: tensors that say that they are on another device, and refuse what it would refuse.

The numbers are computed on the processor. As on MPS there is no float64; as on every accelerator two devices do not
mix, and random numbers there need a generator there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

DEVICE = torch.device("meta")  # torch lets it be named without a driver; nothing is ever left to it
FREE = ("aten._to_copy", "aten.copy_", "aten.index", "aten.index_put_", "aten._index_put_impl_", "aten.lift_fresh")
"""Operations that take tensors of both: moves, and numbers of rows."""


class Elsewhere(Tensor):
    """A tensor on the other device; `inner` holds its numbers."""

    inner: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Elsewhere:
        made = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            device=DEVICE, requires_grad=False,
        )  # fmt: skip
        made.inner = inner
        return made

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def item(self) -> Any:
        return self.inner.item()

    def tolist(self) -> Any:
        return self.inner.tolist()

    def __float__(self) -> float:
        return float(self.inner)

    def __int__(self) -> int:
        return int(self.inner)

    def __bool__(self) -> bool:
        return bool(self.inner)

    @classmethod
    def __torch_dispatch__(cls, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(operation, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Elsewhere({self.inner!r})"


class Accelerator(TorchDispatchMode):
    """Tensors that are made for the device are there."""

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(operation, args, kwargs or {})


def computed(operation: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> Any:
    """What the device would give, or the error that it would raise."""
    seen: list[Tensor] = []
    tree_map(lambda one: seen.append(one) if isinstance(one, Tensor) else None, (args, kwargs))
    there = [one for one in seen if isinstance(one, Elsewhere)]
    asked = kwargs.get("device")
    to_device = asked is not None and torch.device(asked).type == DEVICE.type
    if there and not str(operation).startswith(FREE):
        mixed = [one for one in seen if not isinstance(one, Elsewhere) and one.ndim]
        if mixed:
            raise RuntimeError(f"{operation}: expected all tensors to be on the same device")
    if (there or to_device) and kwargs.get("generator") is not None:
        raise RuntimeError(f"{operation}: expected a generator of {DEVICE}")
    if to_device:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    wrappers = {id(one.inner): one for one in there}
    plain_args, plain_kwargs = tree_map(lambda one: one.inner if isinstance(one, Elsewhere) else one, (args, kwargs))
    result = operation(*plain_args, **plain_kwargs)
    leaves = asked is not None and not to_device
    if leaves or not (there or to_device):
        if leaves and there:  # a move copies even where it is from the processor to itself
            return tree_map(lambda one: one.clone() if id(one) in wrappers else one, result)
        return result

    def wrapped(one: Any) -> Any:
        if not isinstance(one, Tensor) or isinstance(one, Elsewhere):
            return one
        if one.dtype in (torch.float64, torch.complex128):
            raise TypeError(f"{operation}: cannot make a {DEVICE} tensor of {one.dtype}")
        return wrappers[id(one)] if id(one) in wrappers else Elsewhere(one)

    if str(operation).startswith("aten.copy_") and not isinstance(args[0], Elsewhere):
        return args[0]
    return tree_map(wrapped, result)


@contextmanager
def accelerator() -> Iterator[torch.device]:
    """Inside the block the device is there."""
    made = torch.tensor

    def tensor(values: Any, *, device: Any = None, **options: Any) -> Tensor:
        """`torch.tensor` makes its numbers where no mode sees it."""
        return made(values, **options) if device is None else made(values, **options).to(device)

    torch.__future__.set_overwrite_module_params_on_conversion(True)  # weights are replaced, not filled anew
    try:
        with torch.no_grad(), Accelerator(), patch.object(torch, "tensor", tensor):
            yield DEVICE
    finally:
        torch.__future__.set_overwrite_module_params_on_conversion(False)


def move(model: nn.Module) -> None:
    """Weights and buffers of a model, in place."""
    for module in model.modules():
        for name, parameter in module._parameters.items():
            if parameter is not None:
                module._parameters[name] = nn.Parameter(Elsewhere(parameter.data), requires_grad=False)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = Elsewhere(buffer)
