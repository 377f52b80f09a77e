"""AdamW and Muon, learning rates, one guarded step, and averaged weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from heed.formulas import schedules
from heed.settings.common import AdamWSettings, DecaySettings, OptimizerSettings
from heed.training.guards import require_finite
from heed.training.muon import Muon


def make_optimizer(
    groups: Mapping[str, Iterable[Parameter]],
    settings: AdamWSettings,
    learning_rates: Mapping[str, float] | None = None,
) -> torch.optim.AdamW:
    """AdamW over named groups of parameters; a group's peak rate is `learning_rates[name]`, else the settings' own.

    Weight decay touches matrices only, not biases, norms or scalars. The fused kernel is three to four times as fast
    as the loop on a processor too (96 adapter matrices: 5 ms against 17 ms).
    """
    peaks = dict.fromkeys(groups, settings.learning_rate) | dict(learning_rates or {})
    listed = []
    for name, parameters in groups.items():
        trained = [parameter for parameter in parameters if parameter.requires_grad]
        matrices = [parameter for parameter in trained if parameter.ndim >= 2]
        others = [parameter for parameter in trained if parameter.ndim < 2]
        peak = {"lr": peaks[name], "peak": peaks[name], "name": name}
        listed += [{"params": matrices, "weight_decay": settings.weight_decay, **peak}] if matrices else []
        listed += [{"params": others, "weight_decay": 0.0, **peak}] if others else []
    return torch.optim.AdamW(listed, betas=settings.betas, eps=settings.eps, fused=True)


class MuonWithAdamW:
    """Muon for the matrices of a transformer's blocks, AdamW for embeddings, biases and norms: two optimisers as one.

    Muon replaces a matrix's momentum by the nearest orthogonal matrix, so that directions that are rare in the gradient
    move as fast as frequent ones. One learning rate serves both; a scalar head (`score.weight`) may have its own.
    `threads` share the matrices; the numbers are the same for any number of them.
    """

    def __init__(
        self,
        named: Mapping[str, Parameter],
        settings: OptimizerSettings,
        threads: int = 1,
        head_learning_rate: float | None = None,
    ) -> None:
        matrices = [parameter for name, parameter in named.items() if parameter.ndim == 2 and is_inner(name)]
        rest = {name: parameter for name, parameter in named.items() if parameter.ndim != 2 or not is_inner(name)}
        head = [parameter for name, parameter in rest.items() if name == "score.weight"]
        others = {"others": [parameter for name, parameter in rest.items() if name != "score.weight"], "head": head}
        matrices.sort(key=lambda matrix: -matrix.numel())
        parts = [part for i in range(threads) if (part := matrices[i::threads])]
        muons = [Muon(part, settings.learning_rate, settings.weight_decay) for part in parts]
        for muon in muons:
            for group in muon.param_groups:
                group["peak"] = settings.learning_rate
        head_rate = settings.learning_rate if head_learning_rate is None else head_learning_rate
        self._named = dict(named)
        self.optimizers = (*muons, make_optimizer(others, settings, {"head": head_rate}))
        self._pool = ThreadPoolExecutor(threads) if threads > 1 else None

    def state_dict(self) -> dict[str, Any]:
        """Momentum and moments by the names of the parameters: the same for any number of threads."""
        states = {id(parameter): state for one in self.optimizers for parameter, state in one.state.items()}
        return {name: dict(states[id(parameter)]) for name, parameter in self._named.items() if id(parameter) in states}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Momentum and moments as they were."""
        for one in self.optimizers:
            mine = {id(parameter): parameter for group in one.param_groups for parameter in group["params"]}
            for name, found in state.items():
                if (parameter := mine.get(id(self._named[name]))) is not None:
                    one.state[parameter] = {key: value.clone() for key, value in found.items()}

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """The groups of both."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self) -> None:
        """Both take a step."""
        if self._pool is None:
            for optimizer in self.optimizers:
                optimizer.step()
        else:
            list(self._pool.map(lambda optimizer: optimizer.step(), self.optimizers))

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients."""
        for optimizer in self.optimizers:
            optimizer.zero_grad(set_to_none)


def is_inner(name: str) -> bool:
    """Whether a parameter belongs to a numbered block, as in `transformer.h.3.attn.c_attn.weight`."""
    return any(part.isdigit() for part in name.split("."))


def learning_rate_factor(step: int, steps: int, settings: OptimizerSettings) -> float:
    """Share of the peak learning rate at `step` of `steps` (the first step is 1).

    Rises linearly to 1 over the first `warmup · steps` steps, then falls to `floor`, which the last step has exactly.
    """
    warmup_steps = round(settings.warmup * steps)
    peak_step = warmup_steps + 1
    if step <= peak_step:
        return schedules.warmup(step - 1, warmup_steps)
    return decayed((step - peak_step) / (steps - peak_step), settings)


def ppo_learning_rate_factor(step: int, steps: int, warmup_steps: int, settings: DecaySettings) -> float:
    """Share of the peak learning rate at the policy's own `step` of `steps` (the first is 1).

    Rises from 10 % over `warmup_steps` steps, then is as `settings.schedule` says; the last step has `floor`.
    """
    if step <= warmup_steps:
        return schedules.ppo_warmup(step - 1, warmup_steps)
    return decayed((step - 1 - warmup_steps) / max(1, steps - 1 - warmup_steps), settings)


def decayed(progress: float, settings: DecaySettings) -> float:
    """Share of the peak after a share of the decay, 0 to 1."""
    match settings.schedule:
        case "cosine":
            return schedules.cosine(progress, settings.floor)
        case "linear":
            return schedules.linear(progress, settings.floor)
        case "constant":
            return 1.0


def set_learning_rate(optimizer: torch.optim.Optimizer | MuonWithAdamW, factor: float) -> None:
    """Set every group to its own peak times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def step(
    optimizer: torch.optim.Optimizer | MuonWithAdamW, parameters: Iterable[Parameter], max_grad_norm: float
) -> float:
    """Clip the gradients of `parameters` together, step, clear them; returns the norm before clipping.

    A norm that is not finite raises RunError and leaves every weight as it was; `RunDir` adds which step of which run.
    """
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, max_grad_norm))
    require_finite(norm, "the gradient's norm")
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


class Average:
    """Running average of the trainable weights: θ̄ ← d·θ̄ + (1−d)·θ after every optimiser step (paper: d = 0.992)."""

    def __init__(self, parameters: Iterable[Parameter], decay: float) -> None:
        self.decay = decay
        self._trained: list[Parameter] = [parameter for parameter in parameters if parameter.requires_grad]
        self.weights: list[Tensor] = [parameter.detach().clone() for parameter in self._trained]

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights as they are now."""
        for average, parameter in zip(self.weights, self._trained, strict=True):
            average.copy_(schedules.ema(average, parameter, self.decay))

    def load(self, weights: Iterable[Tensor]) -> None:
        """Averaged weights as they were saved."""
        for average, saved in zip(self.weights, weights, strict=True):
            average.copy_(saved)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Inside, the model has the averaged weights; the trained ones come back after, bit for bit."""
        trained = [parameter.detach().clone() for parameter in self._trained]
        self._write(self.weights)
        try:
            yield
        finally:
            self._write(trained)

    @torch.no_grad()
    def _write(self, weights: list[Tensor]) -> None:
        for parameter, weight in zip(self._trained, weights, strict=True):
            parameter.copy_(weight)
