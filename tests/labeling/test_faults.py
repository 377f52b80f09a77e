"""A real server that is killed while people work: what was acknowledged is there, and nothing twice.

The long storm is `make label-load`. A server that acknowledges before it commits must be found out by the same storm.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heed.records import Ranking, read_jsonl

from .conftest import empty_database, free_port, write_candidates
from .storm import BROKEN, WORKING, Server, damage, storm

NAMES = [f"labeler-{k}" for k in range(6)]


def arguments(tmp_path: Path, url: str = "") -> list[str]:
    candidates = write_candidates(tmp_path / "candidates.jsonl", 200)
    where = ["--database", url] if url else []
    return [str(candidates), "--port", str(free_port()), "--reviewers", "2", "--likert", "false", *where]


def sqlite_of(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'candidates.labels' / 'labels.sqlite'}"


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_nothing_acknowledged_is_lost_and_nothing_is_doubled(
    tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    url = empty_database(request.getfixturevalue("postgres")) if kind == "postgresql" else ""
    with Server(WORKING, arguments(tmp_path, url), tmp_path / "log") as server:
        found = storm(server, NAMES, submissions=120, kills=2, think=0.02)
        assert server.stop() == 0
    assert found.total >= 120
    assert not damage(url or sqlite_of(tmp_path), found, reviewers=2).any
    rankings = read_jsonl(tmp_path / "candidates.labels" / "rankings.jsonl", Ranking)
    assert len(rankings) >= found.total
    about = json.loads((tmp_path / "candidates.labels" / "rankings.jsonl.about.json").read_text())
    assert about["rows"] == len(rankings)


def test_a_server_that_acknowledges_before_it_commits_is_found_out(tmp_path: Path) -> None:
    with Server(BROKEN, arguments(tmp_path), tmp_path / "log") as server:
        found = storm(server, NAMES, submissions=120, kills=2, think=0.02)
    assert damage(sqlite_of(tmp_path), found, reviewers=2).lost > 0
