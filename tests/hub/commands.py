"""Several commands of heed in one process of its own: importing the libraries is most of the time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

NOWHERE = "http://127.0.0.1:9"  # the discard port: every connection is refused
DRIVER = """
import contextlib, io, json, os, sys, heed.cli
for line in sys.stdin:
    told, words = io.StringIO(), json.loads(line)
    os.environ.pop("HF_TOKEN", None)
    if words[0].startswith("HF_TOKEN="):
        os.environ["HF_TOKEN"] = words.pop(0).partition("=")[2]
    with contextlib.redirect_stderr(told):
        code = heed.cli.main(words)
    print(json.dumps([code, told.getvalue()]), file=sys.__stderr__, flush=True)
"""


@dataclass(frozen=True)
class Outcome:
    """One command's exit code and what it wrote to standard error."""

    code: int
    told: str


Run = Callable[..., list[Outcome]]


def run(address: str, place: Path, home: Path, *commands: str, offline: bool = False) -> list[Outcome]:
    """Run `commands` in the directory `place`, with the hub at `address` and its cache in `home`. One that begins with
    `HF_TOKEN=…` runs as that person."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    told = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_OFFLINE": str(int(offline))}
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], cwd=place, env={**kept, **told}, capture_output=True, text=True,
        input="".join(json.dumps(command.split()) + "\n" for command in commands), timeout=290, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Outcome(*json.loads(line)) for line in done.stderr.splitlines() if line.startswith("[")]
