"""The device of a test: one that every machine has (`elsewhere.py`), and the machine's accelerator if there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from .elsewhere import accelerator


@pytest.fixture(params=["elsewhere", pytest.param("accelerator", marks=pytest.mark.device)])
def device(request: pytest.FixtureRequest) -> Iterator[torch.device]:
    """Where the stage or the part under test computes."""
    if request.param == "elsewhere":
        with accelerator() as name:
            yield torch.device(name)
        return
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        pytest.skip("there is no accelerator on this machine")
    yield found


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data for every stage."""
    place = tmp_path_factory.mktemp("data")
    demonstrations = [{"prompt": f"q{i}", "response": "ab" * (1 + i % 4)} for i in range(20)]
    pairs = [{"prompt": f"q{i}", "chosen": "ab!" + "c" * (i % 3), "rejected": "ba"} for i in range(20)]
    for name, rows in (("demonstrations", demonstrations), ("pairs", pairs)):
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (place / "text.txt").write_text("<|endoftext|>".join(f"the cat says {'miau ' * (i % 5)}" for i in range(60)))
    return place
