"""What was decided before the first step, in one line and in `run.json`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from heed.training.run_dir import RunDir

log = logging.getLogger("heed")


def announce(
    run_dir: RunDir, weights: Iterable[Tensor], trained: Mapping[str, Tensor] | None = None, threads: int = 1
) -> None:
    """Say on what the run computes: device, dtype, threads, weights, how many of them are trained, where it writes.

    `weights` are those of the (first) model, `trained` those that this stage changes, `threads` those that rows are
    shared among.
    """
    held = list({weight.data_ptr(): weight for weight in weights}.values())
    changed = sum(weight.numel() for weight in (trained or {}).values())
    frozen = max(held, key=lambda weight: weight.numel())
    facts = {
        "device": str(frozen.device),
        "dtype": str(frozen.dtype).removeprefix("torch."),
        "threads": {"torch": torch.get_num_threads(), "rows": threads},
        "parameters": sum(weight.numel() for weight in held),
        "trained_parameters": changed,
    }
    share = f"{in_millions(changed)} of {in_millions(facts['parameters'])} weights are trained, " if changed else ""
    computing = f"{max(threads, torch.get_num_threads())} threads" if frozen.device.type == "cpu" else "its own threads"
    log.info("%s%s on %s, %s → %s", share, facts["dtype"], frozen.device, computing, run_dir.path)
    run_dir.describe(**facts)


def in_millions(count: int) -> str:
    """`0.6 M`."""
    return f"{count / 1e6:.3g} M" if count < 1e9 else f"{count / 1e9:.3g} G"
