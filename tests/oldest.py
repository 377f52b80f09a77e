"""The lowest version of every range in pyproject.toml, as constraints for pip: `make test-oldest` installs them.

    python tests/oldest.py > lowest.txt

A range without a lower end is an error: nobody could say with what it was ever tried.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
RANGE = re.compile(r"([\w.-]+)(?:\[[\w,]+\])?>=([\w.]+)(?:,|$)")


def lowest(requirements: Iterable[str]) -> list[str]:
    """`torch==2.13` for `torch>=2.13,<3`."""
    found = []
    for requirement in requirements:
        match = RANGE.match(requirement.replace(" ", ""))
        if match is None:
            raise ValueError(f"{requirement} names no lowest version")
        found.append(f"{match[1]}=={match[2]}")
    return found


def main() -> int:
    project = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    used = [requirement for name, some in extras.items() if name != "dev" for requirement in some]
    print("\n".join(lowest([*project["dependencies"], *used])))
    return 0


if __name__ == "__main__":
    sys.exit(main())
