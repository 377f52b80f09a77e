"""One process a run directory: a lock that a killed process cannot leave behind."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from heed.errors import ConfigError

NAME = "run.lock"


class Lock:
    """Held from `Lock(directory)` to `release()`.

    The system's own lock on an open file, so that it ends with its process however that ends. What the file says (host,
    process, since when) is for people, and for another machine that shares the directory, whose locks this one may not
    see. Raises ConfigError where somebody else holds it.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / NAME
        while True:
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise self._refused() from None
            if self._is_still_there():
                break
            os.close(self._file)  # its holder removed it between the two lines above
        holder = self._holder()
        if holder.get("host", socket.gethostname()) != socket.gethostname():
            raise self._refused()
        mine = {"host": socket.gethostname(), "process": os.getpid(), "since": datetime.now(UTC).isoformat()}
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, json.dumps(mine).encode(), 0)

    def release(self) -> None:
        """Let others have the directory."""
        self.path.unlink(missing_ok=True)
        os.close(self._file)

    def moved(self, directory: Path) -> None:
        """The directory was renamed while the lock was held."""
        self.path = directory / NAME

    def _is_still_there(self) -> bool:
        try:
            return self.path.stat().st_ino == os.fstat(self._file).st_ino
        except FileNotFoundError:
            return False

    def _holder(self) -> dict[str, str]:
        try:
            return dict(json.loads(os.pread(self._file, 4096, 0) or b"{}"))
        except ValueError:
            return {}

    def _refused(self) -> ConfigError:
        holder = self._holder()
        os.close(self._file)
        who = f"process {holder.get('process', '?')} on {holder.get('host', '?')} since {holder.get('since', '?')}"
        hint = f"wait for it, choose another directory, or, if that process is gone, remove {self.path}"
        return ConfigError("output", f"{self.path.parent} is being written by {who}", hint)
