"""The stand-in with its repositories, and the command line run against it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # the two modules beside this file are found by nothing else

import repositories  # noqa: E402
import standin  # noqa: E402

DRIVER = """
import contextlib, io, json, sys, heed.cli
for line in sys.stdin:
    told = io.StringIO()
    with contextlib.redirect_stderr(told):
        code = heed.cli.main(json.loads(line))
    print(json.dumps([code, told.getvalue()]), file=sys.__stderr__, flush=True)
"""


@dataclass(frozen=True)
class Outcome:
    """One command's exit code and what it wrote to standard error."""

    code: int
    told: str


Run = Callable[..., list[Outcome]]


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[standin.Hub]:
    """The four repositories of `recipes/gpt2`, served."""
    root = tmp_path_factory.mktemp("hub")
    repositories.write_all(root)
    with standin.serving(root, moved={"gpt2": repositories.GPT2}) as hub:
        yield hub


@pytest.fixture(scope="session")
def run(hub: standin.Hub) -> Run:
    """Run several commands one after the other in one process of its own, which sees the stand-in as the hub and
    `home` as its cache. One process, since importing the libraries is most of the time."""

    def run(place: Path, home: Path, *commands: str, offline: bool = False) -> list[Outcome]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
        told = {"HF_ENDPOINT": hub.address, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}
        done = subprocess.run(
            [sys.executable, "-c", DRIVER], cwd=place, env={**kept, **told}, capture_output=True, text=True,
            input="".join(json.dumps(command.split()) + "\n" for command in commands), timeout=200, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return [Outcome(*json.loads(line)) for line in done.stderr.splitlines() if line.startswith("[")]

    return run
