"""`heed env`: versions and machine, what a report of a bug needs."""

from __future__ import annotations

from heed.settings.env import EnvSettings
from heed.training.describe import commit, host, versions
from heed.training.device import best_device, has_bfloat16


def run(settings: EnvSettings) -> None:
    """Print a line for each fact, in a form that can be pasted."""
    device = best_device()
    facts = {**versions(), "commit": commit(), **host(), "device": device, "bfloat16 products": has_bfloat16(device)}
    width = max(map(len, facts))
    for name, value in facts.items():
        print(f"{name:<{width}}  {value if value is not None else '–'}")
