"""A second device on a machine that has none: tensors on it are told apart from those of the processor, and what a real
accelerator refuses is refused.

`torch.device("meta")`, which torch knows on every machine and which holds no numbers, is given numbers: a tensor that
says it lies there holds a tensor of the processor. Inside `accelerator()` an operation on tensors of both places
raises, as does a draw with a generator of the other place, a float64 (which Apple's accelerator does not have), and
`.numpy()`. What heed computes there is what it computes on the processor, so that both can be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pkgutil import resolve_name
from typing import Any
from unittest.mock import patch

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_flatten, tree_map

ELSEWHERE = torch.device("meta")
CPU = torch.device("cpu")
MAY_MIX = ("_to_copy", "copy_", "index.Tensor", "index_put_", "_index_put_impl_", "index_put")
"""Copies between places, and indices, which may lie on the processor."""


class Remote(Tensor):
    """A tensor that lies elsewhere; `held` are its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Remote:
        made: Remote = Tensor._make_wrapper_subclass(
            cls, held.shape, strides=held.stride(), storage_offset=held.storage_offset(), dtype=held.dtype,
            device=ELSEWHERE, requires_grad=held.requires_grad,
        )  # type: ignore[attr-defined]  # fmt: skip
        made.held = held
        return made

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return computed(func, args, kwargs or {})

    def __repr__(self, **options: Any) -> str:  # type: ignore[override]
        return f"elsewhere {self.held!r}"


def computed(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """An operation, done on the processor with what remote tensors hold; its result lies where the operands do."""
    operands = [item for item in tree_flatten((args, kwargs))[0] if isinstance(item, Tensor)]
    there = [item for item in operands if isinstance(item, Remote)]
    here = [item for item in operands if not isinstance(item, Remote) and item.dim() > 0]
    name = str(func).removeprefix("aten.")
    if there and here and not name.startswith(MAY_MIX):
        raise RuntimeError(f"{name}: expected all tensors to be on the same device, found two")
    place = kwargs.get("device")
    remote = place.type == ELSEWHERE.type if place is not None else bool(there)
    if name.startswith("copy_"):
        remote = isinstance(args[0], Remote)
    plain_args, plain = tree_map(_held, (args, {**kwargs, **({"device": CPU} if place is not None else {})}))
    with _disable_current_modes():
        result = func(*plain_args, **plain)
    same = {id(item.held): item for item in there}
    return tree_map(lambda item: same.get(id(item), _sent(item, name) if remote else item), result)


class Accelerator(TorchDispatchMode):
    """Inside it, tensors that are made on `ELSEWHERE` lie there."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        place = kwargs.get("device")
        if place is not None and place.type == ELSEWHERE.type:
            return computed(func, args, kwargs)
        if any(isinstance(item, Remote) for item in tree_flatten((args, kwargs))[0]):
            return computed(func, args, kwargs)
        return func(*args, **kwargs)


class Watched(TorchFunctionMode):
    """Refuses a draw with a generator of another place, before torch sees which kind of generator it is."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        generator = kwargs.get("generator")
        if generator is not None:
            operands = [item for item in args if isinstance(item, Tensor)]
            place = operands[0].device if operands else torch.device(kwargs.get("device") or CPU)
            if generator.device.type != place.type:
                told = f"Expected a '{place.type}' device type for generator but found '{generator.device.type}'"
                raise RuntimeError(told)
        if func is torch.tensor and "device" in kwargs:
            return torch.tensor(*args, **{**kwargs, "device": CPU}).to(kwargs["device"])
        if func in (Tensor.tolist, Tensor.data_ptr) and isinstance(args[0], Remote):  # torch's know only its own kinds
            return func(args[0].held)
        if func == Tensor.data.__set__ and isinstance(args[0], Remote):  # type: ignore[attr-defined]
            args[0].held = args[1].held
        return func(*args, **kwargs)


class Draws(torch.Generator):
    """A generator that knows where it lies."""

    def __new__(cls, device: torch.device | str = "cpu") -> Draws:
        made = super().__new__(cls)
        made.place = torch.device(device)
        return made

    place: torch.device

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        """Where it lies."""
        return self.place


@contextmanager
def accelerator() -> Iterator[str]:
    """The second device, for as long as the block lasts; its name is what a setting may say."""
    with ExitStack() as stack:
        stack.enter_context(patch("heed.training.device._is_here", lambda device: True))
        for name in ("heed.models.trunk.load_causal_lm", "heed.models.roles.parameter_count"):
            stack.enter_context(patch(name, _loaded(resolve_name(name))))
        fused = ("torch.optim.optimizer._get_fused_kernels_supported_devices", lambda: [ELSEWHERE.type, "cpu"])
        stack.enter_context(patch(*fused))
        stack.enter_context(patch.object(BaseTunerLayer, "_move_adapter_to_device_of_base_layer", _moved))
        for mode in (patch("torch.Generator", Draws), Watched(), Accelerator()):
            stack.enter_context(mode)
        yield str(ELSEWHERE)


def _moved(layer: Any, adapter: str) -> None:
    """What peft does for every device but torch's own without numbers."""
    for name in (*layer.adapter_layer_names, *layer.other_param_names):
        found = getattr(layer, name, None)
        if isinstance(found, torch.nn.ModuleDict) and adapter in found:
            found[adapter].to(layer.get_base_layer().weight.device)


def _loaded(load: Callable[..., Any]) -> Callable[..., Any]:
    """Libraries that load weights use torch's own device without numbers: they load to the processor, outside."""

    def loaded(*arguments: Any) -> Any:
        with _disable_current_modes():
            result = load(*(CPU if argument == ELSEWHERE else argument for argument in arguments))
        if ELSEWHERE in arguments:
            result.to(ELSEWHERE).tie_weights()  # a weight that changes its kind is another one for each that had it
        return result

    return loaded


def _held(item: Any) -> Any:
    return item.held if isinstance(item, Remote) else item


def _sent(item: Any, name: str) -> Any:
    if not isinstance(item, Tensor):
        return item
    if item.dtype == torch.float64:
        raise TypeError(f"{name}: cannot have a float64 tensor elsewhere: not every accelerator has the type")
    return Remote(item)
