from __future__ import annotations

import json
from pathlib import Path

from heed.data.tally import MOST_TOLD, Tally


def test_in_one_line_and_whole(tmp_path: Path) -> None:
    tally, path = Tally(), tmp_path / "dropped.jsonl"
    tally.write(path)
    assert (str(tally), len(tally), path.exists()) == ("", 0, False)
    for line, reason in enumerate(["empty responses", "identical pairs", "identical pairs"], start=1):
        tally.add(reason, f"a.jsonl:{line}")
    assert str(tally) == "2 identical pairs (first at a.jsonl:2), 1 empty responses (first at a.jsonl:1)"
    tally.write(path)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"where": "a.jsonl:1", "reason": "empty responses"},
        {"where": "a.jsonl:2", "reason": "identical pairs"},
        {"where": "a.jsonl:3", "reason": "identical pairs"},
    ]
    assert list(tmp_path.iterdir()) == [path]
    Tally().write(path)  # a run in the same directory that drops nothing
    assert not path.exists()


def test_a_line_has_an_end() -> None:
    tally = Tally()
    for number in range(MOST_TOLD + 5):
        tally.add(f"turns of `{number}`", "")
    assert str(tally).count("turns of") == MOST_TOLD
    assert str(tally).endswith(", 5 of other kinds")
