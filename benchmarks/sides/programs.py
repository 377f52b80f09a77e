"""Programs that take turns: started in environments of their own, asked for a piece of work, and timed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).parents[1]
BUSY = 0.1  # cores that other programs may take while a piece is timed


@dataclass
class Piece:
    """What a piece of work took; `others` is how many cores other programs had meanwhile."""

    told: dict[str, float]
    others: float
    load: float

    @property
    def disturbed(self) -> bool:
        """Whether another program was busy beside it."""
        return self.others > BUSY


@dataclass
class Program:
    """One side: it is started at its first piece, and asleep while others have their turn."""

    name: str
    command: Sequence[str]
    log: Path
    variables: Mapping[str, str] = field(default_factory=dict)
    pieces: list[Piece] = field(default_factory=list)
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Wait until it has loaded its model and stands before its first piece."""
        offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "PYTHONWARNINGS": "ignore"}
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log.open("w"), text=True,
            cwd=BENCHMARKS, env={**os.environ, **offline, **self.variables},
        )  # fmt: skip
        self._read()

    def piece(self) -> Piece:
        """Do one piece and come to a stand before the next."""
        if self._process is None:
            self.start()
        process = self._running()
        busy, own, began = busy_seconds(), own_seconds(process.pid), time.perf_counter()
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
        told = self._read()
        seconds = time.perf_counter() - began
        others = (busy_seconds() - busy) - (own_seconds(process.pid) - own)
        self._read()
        self.pieces.append(Piece(told, max(0.0, others / seconds), os.getloadavg()[0]))
        return self.pieces[-1]

    def stop(self) -> None:
        """End it; it may be started again."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _running(self) -> subprocess.Popen[str]:
        assert self._process is not None
        return self._process

    def _read(self) -> dict[str, Any]:
        output = self._running().stdout
        assert output is not None
        line = output.readline()
        if not line:
            sys.exit(f"{self.name} ended by itself; its last words are in {self.log}\n{self.log.read_text()[-2000:]}")
        return dict(json.loads(line))


def busy_seconds() -> float:
    """Seconds for which cores of this machine have been busy since it was started; 0 where that is not told."""
    told = Path("/proc/stat")
    if not told.exists():
        return 0.0
    numbers = [int(number) for number in told.read_text().splitlines()[0].split()[1:]]
    idle, guests = numbers[3] + numbers[4], sum(numbers[8:])  # guests are in user time already
    return (sum(numbers) - idle - guests) / os.sysconf("SC_CLK_TCK")


def own_seconds(pid: int) -> float:
    """Seconds of the processor that a process has had."""
    told = Path(f"/proc/{pid}/stat")
    if not told.exists():
        return 0.0
    numbers = told.read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")


def environment(place: Path, name: str, packages: Sequence[str]) -> str:
    """The Python of a peer's environment, which is made where there is none. `PIP_FLAGS` reaches pip."""
    home, flags = place / name, os.environ.get("PIP_FLAGS", "").split()
    python = home / "bin" / "python"
    if not (home / "done").exists():
        print(f"making {home} ({', '.join(packages)})", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", "--without-pip", str(home)], check=True)
        install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", *flags]
        for wanted in (packages[:1], packages[1:]):  # torch first: the others would bring another one
            subprocess.run([*install, *wanted], check=True)
        (home / "done").touch()
    return str(python)
