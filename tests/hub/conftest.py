"""The stand-in with its repositories, and the command line run against it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside this file are found by nothing else

import commands
import repositories
import standin


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[standin.Hub]:
    """The repositories of `recipes/gpt2`, and two published runs, served."""
    root = tmp_path_factory.mktemp("hub")
    repositories.write_all(root)
    with standin.serving(root, moved={"gpt2": repositories.GPT2}) as hub:
        yield hub


@pytest.fixture(scope="session")
def run(hub: standin.Hub) -> commands.Run:
    """Run commands with the stand-in as the hub."""
    return partial(commands.run, hub.address)
