"""A disk that is full at the n-th write, for every n: the run is still readable, and goes on when there is room.

    python tests/chaos/full_disk.py                     # every write of every stage of a small chain; `make chaos`
    python tests/chaos/full_disk.py --sites 5           # five of them at even distances
    python tests/chaos/full_disk.py --disk              # a real disk (tmpfs; needs the right to mount) of every size

A write is a file that is opened for writing, bytes that go into it (half of them arrive), an fsync, a rename, a new
directory, or a safetensors file. From the n-th on all of them fail. Then: the process says in two lines which disk is
full and where, states on disk are whole, every JSON file and row can be read; and the run that goes on ends as the one
that never stopped, to the last byte. Exit code 0: all of that, every time.
"""

from __future__ import annotations

import argparse
import builtins
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import safetensors.torch
from kills import chain, child, hashes, write_data
from safetensors import SafetensorError

from heed.training.state import find_state

PAGE, PAGES = 4096, 600  # of the real disk
Wait = Callable[[int], int]


class Disk:
    """Counts writes below a directory; from the `room`-th on there is no room."""

    def __init__(self, below: Path, room: int) -> None:
        self.below, self.room, self.writes = below.resolve(), room, 0

    def spoil(self) -> None:
        """Put itself in place of what writes."""
        really_open, serialize = io.open, safetensors.torch.serialize_file

        def opened(file: Any, mode: str = "r", *arguments: Any, **options: Any) -> Any:
            if not set(mode) & set("wax+") or isinstance(file, int) or not self._is_here(file):
                return really_open(file, mode, *arguments, **options)
            self.write(file)
            return Writer(really_open(file, mode, *arguments, **options), self)

        def serialized(tensors: Any, file: Any, *arguments: Any, **options: Any) -> None:
            try:
                self.write(file)
            except OSError as error:
                Path(file).write_bytes(b"half")
                raise SafetensorError(f"Error while serializing: I/O error: {error.strerror} (os error 28)") from None
            serialize(tensors, file, *arguments, **options)

        builtins.open = io.open = opened  # type: ignore[assignment]
        safetensors.torch.serialize_file = serialized  # type: ignore[attr-defined]
        for name in ("replace", "rename", "mkdir", "fsync"):
            setattr(os, name, partial(self._asked, getattr(os, name)))

    def write(self, what: object) -> None:
        """One more write. Raises OSError where there is no room for it."""
        self.writes += 1
        if self.writes > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _asked(self, do: Callable[..., Any], first: Any, *arguments: Any, **options: Any) -> Any:
        if isinstance(first, int) or self._is_here(first):
            self.write(first)
        return do(first, *arguments, **options)

    def _is_here(self, file: Any) -> bool:
        return self.below in Path(os.fspath(file)).absolute().parents


class Writer:
    """An open file whose `write` may find the disk full; half of what it was given is in the file then."""

    def __init__(self, file: Any, disk: Disk) -> None:
        self._file, self._disk = file, disk

    def write(self, given: Any) -> int:
        try:
            self._disk.write(self._file)
        except OSError:
            if self._disk.writes == self._disk.room + 1:
                self._file.write(given[: len(given) // 2])
                self._file.flush()
            raise
        return int(self._file.write(given))

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def ended(process: int) -> int:
    """The exit code of a child."""
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])


def counted(run: Callable[[Any], object], settings: Any, place: Path) -> int:
    """How many writes there are in an uninterrupted run."""
    disk = Disk(place / "run", 10**9)

    def run_and_tell(given: Any) -> None:
        run(given)
        os.write(1, f"\nwrites {disk.writes}\n".encode())

    if ended(child(run_and_tell, settings, place, disk.spoil)):
        raise RuntimeError((place / "told.txt").read_text())
    return int((place / "told.txt").read_text().rpartition("writes ")[2])


def faults(place: Path) -> Iterator[str]:
    """What is wrong with a run directory that a full disk left behind, and with what was said."""
    told, run = (place / "told.txt").read_text(), place / "run"
    if "no space left on the disk mounted at " not in told or "\nhint: make room, then " not in told:
        yield f"it said {told.strip().splitlines()[-1]}"
    for file in run.rglob("*.json*"):
        if "partial" in str(file.relative_to(run)):
            continue
        try:
            for text in file.read_text().splitlines() if file.suffix == ".jsonl" else [file.read_text()]:
                json.loads(text)
        except ValueError as error:
            yield f"{file.relative_to(run)} cannot be read: {error}"
    if (run / "run.lock").exists():
        yield "a lock was left behind"
    find_state(run / "state")  # raises where the last state is not whole


def goes_on(run: Callable[[Any], object], settings: Any, place: Path) -> str:
    """Make the run to its end, now that there is room; returns what went wrong."""
    before = json.loads((place / "run" / "run.json").read_text()) if (place / "run" / "run.json").exists() else {}
    if before.get("finished"):
        return ""
    again = settings.model_copy(update={"resume": bool(before)})
    return (place / "told.txt").read_text() if ended(child(run, again, place, lambda: None)) else ""


def tried(run: Callable[[Any], object], settings: Any, place: Path, spoil: Callable[[], object],
          make_room: Callable[[], object], expected: dict[str, str]) -> tuple[bool, list[str]]:  # fmt: skip
    """Whether the disk was full, and everything that is wrong after it."""
    if not ended(child(run, settings, place, spoil)):
        return False, [] if hashes(place / "run") == expected else ["files differ although nothing was said"]
    wrong = list(faults(place))
    make_room()
    told = goes_on(run, settings, place)
    if told:
        return True, [*wrong, f"does not go on: {told}"]
    found = hashes(place / "run")
    differ = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    return True, [*wrong, *(f"{name} differs" for name in differ)]


def injected(run: Callable[[Any], object], settings: Any, place: Path, sites: int, expected: dict[str, str]) -> int:
    """Fill the disk at every write, or at some `sites` of them; returns at how many something was wrong."""
    (place / "count").mkdir()
    writes, wrong = counted(run, settings, place / "count"), 0
    chosen = range(writes) if not sites else sorted({i * writes // sites for i in range(sites)})
    for n in chosen:
        at = place / f"full-{n}"
        at.mkdir()
        was_full, found = tried(run, settings, at, Disk(at / "run", n).spoil, lambda: None, expected)
        found += [] if was_full else ["nobody noticed the full disk"]
        wrong += report(f"write {n + 1} of {writes}", found)
        shutil.rmtree(at)
    shutil.rmtree(place / "count")
    print(f"{settings.stage_name()}: full at {len(chosen)} of {writes} writes, {wrong} wrong", flush=True)
    return wrong


def on_a_disk(run: Callable[[Any], object], settings: Any, place: Path, sites: int, expected: dict[str, str]) -> int:
    """The same on a real disk: free pages from none to as many as the run needs."""
    wrong, tries = 0, 0
    for pages in range(0, PAGES, max(1, PAGES // sites) if sites else 1):
        with mounted(place / "disk") as disk:
            ballast = disk / "ballast"
            ballast.write_bytes(bytes((PAGES - 2 - pages) * PAGE))  # a page each for the ballast's and told.txt's names
            was_full, found = tried(run, settings, disk, lambda: None, ballast.unlink, expected)
            wrong, tries = wrong + report(f"{pages} pages free", found), tries + was_full
        if not was_full:
            break
    print(f"{settings.stage_name()}: {tries} full disks, {wrong} wrong", flush=True)
    return wrong


@contextmanager
def mounted(place: Path) -> Iterator[Path]:
    """A small disk of its own. Raises OSError where this process may not mount one."""
    place.mkdir(exist_ok=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={PAGES * PAGE}", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        raise PermissionError("no disk can be mounted here")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def report(where: str, found: list[str]) -> bool:
    for line in found:
        print(f"  {where}: {line}", flush=True)
    return bool(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--stages", nargs="*", default=["pretrain", "sft", "sample", "reward", "ppo"])
    parser.add_argument("--sites", type=int, default=0, help="try so many; 0 = all")
    parser.add_argument("--disk", action="store_true", help="on a tmpfs")
    asked = parser.parse_args()
    wrong, place = 0, Path(tempfile.mkdtemp(prefix="heed-full-"))
    write_data(place)
    for name, (run, settings) in chain(place).items():
        if name not in asked.stages and name == "ppo":
            continue
        settings = settings.model_copy(update={"save_every": 4})
        if ended(child(run, settings, place, lambda: None)):
            raise RuntimeError((place / "told.txt").read_text())
        expected = hashes(place / "run")
        (place / "run").rename(place / name)
        if name in asked.stages:
            wrong += (on_a_disk if asked.disk else injected)(run, settings, place, asked.sites, expected)
    shutil.rmtree(place)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
