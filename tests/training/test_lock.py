from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from heed.errors import ConfigError
from heed.training.lock import Lock

HOLDER = """
import sys, time
from pathlib import Path
from heed.training.lock import Lock
lock = Lock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        with pytest.raises(ConfigError, match=f"is being written by process {holder.pid} on "):
            Lock(tmp_path)
    finally:
        holder.send_signal(signal.SIGKILL)
        holder.wait()
    lock = Lock(tmp_path)  # the file that the killed process left is taken
    assert json.loads((tmp_path / "run.lock").read_text())["process"] == os.getpid()
    lock.release()
    assert not (tmp_path / "run.lock").exists()


def test_another_machines_lock_is_respected(tmp_path: Path) -> None:
    """Its process cannot be seen from here, and its lock on a shared disk perhaps not either."""
    (tmp_path / "run.lock").write_text(json.dumps({"host": "elsewhere", "process": 7, "since": "noon"}))
    with pytest.raises(ConfigError, match=r"process 7 on elsewhere since noon\nhint: .* remove .*run.lock"):
        Lock(tmp_path)
    (tmp_path / "run.lock").unlink()
    Lock(tmp_path).release()


def test_the_same_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    lock = Lock(tmp_path)
    with pytest.raises(ConfigError, match="is being written"):
        Lock(tmp_path)
    lock.release()
    Lock(tmp_path).release()
