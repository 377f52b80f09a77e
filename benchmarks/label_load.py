"""The long storm: 50 labelers, 5,000 submissions, ten power failures, on SQLite and on PostgreSQL; and the control.

python benchmarks/label_load.py                     # SQLite, and the broken server that must be found out
python benchmarks/label_load.py --database URL      # the same on an empty PostgreSQL database
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.labeling.conftest import free_port, write_candidates  # noqa: E402
from tests.labeling.storm import BROKEN, WORKING, Server, damage, storm  # noqa: E402


def main() -> int:
    """Run the storms, print what they found; 1 where a promise was broken, or the broken server was not found out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labelers", type=int, default=50)
    parser.add_argument("--submissions", type=int, default=5000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--think", type=float, default=1.0, help="seconds before each submission, on average")
    parser.add_argument("--database", default="", help="URL of an empty database; SQLite where none is given")
    parser.add_argument("--skip-control", action="store_true", help="without the broken server")
    wanted = parser.parse_args()
    is_sound = not weather(wanted, WORKING, wanted.database)
    if wanted.skip_control or wanted.database:
        return 0 if is_sound else 1
    print("a server that acknowledges before it commits:")
    return 0 if weather(wanted, BROKEN, "") and is_sound else 1


def weather(wanted: argparse.Namespace, program: list[str], database: str) -> bool:
    """One storm; returns whether it did damage."""
    with tempfile.TemporaryDirectory() as place:
        candidates = write_candidates(Path(place, "candidates.jsonl"), wanted.submissions)
        url = database or f"sqlite:///{place}/candidates.labels/labels.sqlite"
        arguments = [str(candidates), "--port", str(free_port()), "--reviewers", "2", "--database", url]
        names = [f"labeler-{k}" for k in range(wanted.labelers)]
        with Server(program, arguments, Path(place, "log")) as server:
            found = storm(server, names, wanted.submissions, wanted.kills, wanted.think)
        done = damage(url, found, reviewers=2)
    calm = sorted(found.calm())
    print(f"{found.total:,} acknowledged in {found.seconds:.0f} s by {wanted.labelers} labelers, {wanted.kills} kills")
    outage = sum(ended - began for began, ended in found.outages)
    print(f"lost {done.lost}, doubled {done.doubled}, miscounted {done.uncounted}; server dead for {outage:.0f} s")
    if calm:
        marks = {"median": statistics.median(calm), "p99": calm[int(0.99 * len(calm))], "longest": calm[-1]}
        print(
            f"outside restarts: {', '.join(f'{name} {1000 * s:.0f} ms' for name, s in marks.items())} ({len(calm):,})"
        )
    return done.any


if __name__ == "__main__":
    sys.exit(main())
