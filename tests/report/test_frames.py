"""A run directory as tables, at every time of a run's life."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from heed.errors import ConfigError
from heed.report.frames import read_run


def written(path: Path, finished: bool, last_line: str = "") -> Path:
    path.mkdir()
    (path / "run.json").write_text(json.dumps({"stage": "ppo", "settings": "PPOSettings", "finished": finished}))
    (path / "config.yaml").write_text("kl_coef: 0.05\nlora:\n  rank: 8\n")
    rows = [{"step": 1, "score/mean": 0.5, "kl/exact": 0.0}, {"step": 2, "score/mean": None, "kl/exact": 0.25}]
    (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + last_line)
    (path / "timings.jsonl").write_text('{"step": 1, "time/step": 2.0}\n{"step": 2, "time/step": 3.0}\n')
    (path / "samples.jsonl").write_text('{"step": 1, "response": "a"}\n{"step": 1, "response": "b"}\n')
    return path


def test_tables_of_a_finished_run(tmp_path: Path) -> None:
    path = written(tmp_path / "ppo", finished=True)
    (path / "report.json").write_text('{"win_rate": {"estimate": 0.75}}')
    run = read_run(path)
    assert run.finished
    assert run.metrics.index.name == "step"
    assert list(run.metrics.index) == [1, 2]
    assert run.metrics.loc[2, "kl/exact"] == 0.25
    assert run.metrics["score/mean"].isna().tolist() == [False, True]  # null: there was no number
    assert run.timings["time/step"].sum() == 5.0
    assert run.samples["response"].tolist() == ["a", "b"]
    assert run.report["win_rate"]["estimate"] == 0.75
    assert run.settings["lora"]["rank"] == 8
    assert run.about["stage"] == "ppo"
    assert run.problems == []


def test_a_run_that_is_being_written(tmp_path: Path) -> None:
    run = read_run(written(tmp_path / "ppo", finished=False, last_line='{"step": 3, "score/me'))
    assert not run.finished
    assert list(run.metrics.index) == [1, 2]
    assert run.findings.empty
    assert run.report == {}
    assert run.problems == []


def test_a_run_before_its_first_step(tmp_path: Path) -> None:
    path = tmp_path / "ppo"
    path.mkdir()
    (path / "run.json").write_text('{"stage": "ppo", "finished": false}')
    run = read_run(path)
    assert run.metrics.empty
    assert run.timings.empty
    assert run.samples.empty


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no run"):
        read_run(tmp_path)
