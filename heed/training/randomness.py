"""Seeds, and the state of everything that draws random numbers."""

from __future__ import annotations

import random
from typing import Any

import numpy
import torch


def seed_everything(seed: int, device: torch.device | None = None) -> torch.Generator:
    """Seed Python, numpy and torch; returns a generator on `device` (cpu if none) for the stage's own draws."""
    random.seed(seed)
    numpy.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    return torch.Generator(device or "cpu").manual_seed(seed)


class Randomness:
    """The stage's generator and the global ones of Python, numpy, torch and its accelerator, as a part."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator = generator

    def state_dict(self) -> dict[str, Any]:
        """Where every generator stands."""
        kind, keys, position, has_gauss, gauss = numpy.random.get_state(legacy=True)
        return {
            "generator": self.generator.get_state(),
            "torch": torch.get_rng_state(),
            "python": random.getstate(),
            "numpy": (str(kind), torch.from_numpy(keys.astype("int64")), int(position), int(has_gauss), float(gauss)),
            "accelerator": _accelerator().get_rng_state() if _accelerator() else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put every generator where it stood."""
        self.generator.set_state(state["generator"])
        torch.set_rng_state(state["torch"])
        random.setstate(state["python"])
        kind, keys, *rest = state["numpy"]
        numpy.random.set_state((kind, keys.numpy().astype("uint32"), *rest))
        if state["accelerator"] is not None and _accelerator():
            _accelerator().set_rng_state(state["accelerator"])


def _accelerator() -> Any:
    """torch's module of the accelerator that is here, such as `torch.cuda`; None where there is none."""
    here = torch.accelerator.current_accelerator(check_available=True)
    return None if here is None else torch.get_device_module(here)
