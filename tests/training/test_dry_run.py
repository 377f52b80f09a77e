from __future__ import annotations

from pathlib import Path

from heed.training.dry_run import DryRun, duration, heaviest_first


def test_the_heaviest_batch_is_first_and_every_batch_is_there_once() -> None:
    batches = [[3, 1], [2, 9], [4, 4], [9, 1]]
    assert heaviest_first(batches, list) == [[2, 9], [3, 1], [4, 4], [9, 1]]


def test_the_first_step_is_not_timed() -> None:
    dry = DryRun(Path("run"), kept_states=2, planned=10)
    for seconds, tokens in ((60.0, 10), (2.0, 20), (4.0, 30)):
        dry.took(seconds, {"rollout": 1.0, "evaluation": 5.0}, tokens)
    dry.evaluations = 3
    (dry.place / "state").mkdir()
    (dry.place / "state" / "file").write_bytes(bytes(1000))
    (dry.place / "metrics.jsonl").write_bytes(bytes(10))
    found = dry.estimate({"parameters": 100, "trained_parameters": 7})
    assert found["step_seconds"] == 3.0 and found["seconds"] == 10 * 3.0 + 3 * 5.0 and found["tokens"] == 200
    assert found["disk_while_training"] == 3 * 1000 + 10 + 4 * 7 and found["disk"] == 10 + 4 * 7
    dry.remove()
    assert not dry.place.exists()


def test_durations_are_read_at_once() -> None:
    assert [duration(x) for x in (0.5, 12, 200, 7500)] == ["0.5 s", "12 s", "3 min 20 s", "2 h 5 min"]
