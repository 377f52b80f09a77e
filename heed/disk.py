"""A full disk: recognised in whatever a library makes of it, and told with the disk that it is."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT)
TEXTS = ("No space left on device", "Disk quota exceeded", "database or disk is full")
NOTHING = 1 << 20
"""Bytes; with fewer of them free a disk is called full."""


def is_full(error: BaseException) -> bool:
    """Whether an error, or one that it was made from, says that a disk is full.

    safetensors and tokenizers have errors of their own, without a number; SQLite has a text of its own.
    """
    return any(
        error.errno in FULL if isinstance(error, OSError) else any(text in str(error) for text in TEXTS)
        for error in _with_causes(error)
    )


def told(error: BaseException, path: Path) -> str:
    """`no space left on the disk mounted at /home, where runs/ppo lies (0.2 MB free)`.

    The disk is that of the file which the error names, else that of `path`, else that of temporary files: the first of
    them that is full.
    """
    named = [found.filename for found in _with_causes(error) if isinstance(found, OSError)]
    places = [*(Path(name) for name in named if isinstance(name, str)), path, Path(tempfile.gettempdir())]
    place = next((place for place in places if free(place) < NOTHING), places[0])
    return f"no space left on the disk mounted at {mount(place)}, where {place} lies ({free(place) / 1e6:.1f} MB free)"


def free(path: Path) -> int:
    """Bytes that are free where a path lies, or would lie."""
    return shutil.disk_usage(_there(path)).free


def mount(path: Path) -> Path:
    """Where the disk of a path is mounted."""
    place = _there(path).resolve()
    return next(parent for parent in (place, *place.parents) if os.path.ismount(parent))


def append_whole(file: BinaryIO, line: bytes) -> None:
    """Append to an unbuffered file all of `line`, or nothing: of a row that did not fit no half is left."""
    before, rest = os.fstat(file.fileno()).st_size, memoryview(line)
    try:
        while rest:
            rest = rest[file.write(rest) :]
    except OSError:
        os.ftruncate(file.fileno(), before)
        raise


def _there(path: Path) -> Path:
    whole = path.expanduser().absolute()
    return next(parent for parent in (whole, *whole.parents) if parent.exists())


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    found: BaseException | None = error
    for _ in range(10):
        if found is None:
            return
        yield found
        found = found.__cause__ or found.__context__
