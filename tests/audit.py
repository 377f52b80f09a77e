"""Known vulnerabilities of the exact versions in constraints.txt, as pip-audit finds them: `make audit`.

Exit code 0: none is known. 1: some are, and they are listed. 3: the database could not be asked, so nothing is known.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

PINNED = Path(__file__).parents[1] / "constraints.txt"
COMMAND = [sys.executable, "-m", "pip_audit", "--format", "json", "--progress-spinner", "off"]


def verdict(code: int, output: str, errors: str) -> tuple[int, str]:
    """The exit code and what to say, from pip-audit's own code and output."""
    try:
        packages = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = next(iter(reversed(errors.strip().splitlines())), f"pip-audit ended with {code}")
        return 3, f"NOT AUDITED: the database of vulnerabilities could not be asked: {last}"
    skipped = {package["name"]: package["skip_reason"] for package in packages if "skip_reason" in package}
    if len(skipped) == len(packages):
        told = next(iter(skipped.values()), "no package was looked up")
        return 3, f"NOT AUDITED: the database of vulnerabilities could not be asked: {told}"
    found = [
        f"{package['name']} {package['version']}: {fault['id']}, mended in {', '.join(fault['fix_versions']) or 'none'}"
        for package in packages
        for fault in package.get("vulns", [])
    ]
    told = [*found, f"{len(packages) - len(skipped)} packages were looked up, {len(found)} known vulnerabilities"]
    if skipped:
        told.append(f"not looked up: {', '.join(skipped)}")
    return (1 if found else 0), "\n".join(told)


def main() -> int:
    command = [*COMMAND, "--no-deps", "--disable-pip", "-r", str(PINNED)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    code, told = verdict(done.returncode, done.stdout, done.stderr)
    print(told)
    return code


if __name__ == "__main__":
    sys.exit(main())
