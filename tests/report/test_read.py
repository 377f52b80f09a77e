"""What files say, and what is told of files that are damaged, missing, or somewhere else."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from heed.errors import ConfigError
from heed.report.command import page_of
from heed.report.html import html
from heed.report.read import read_run, runs_in, series

from .conftest import Write, ppo_row, ppo_settings


def test_a_whole_run(ppo_run: Path) -> None:
    run = read_run(ppo_run)
    assert (run.name, run.stage, run.finished, run.seconds, run.last_step) == ("ppo", "ppo", True, 125.0, 30)
    assert len(run.rows) == len(run.samples) == 30
    assert run.settings["kl_coef"] == 0.05
    assert run.problems == []
    assert [file.name for file in run.files] == [
        "config.yaml",
        "metrics.jsonl",
        "report.json",
        "run.json",
        "samples.jsonl",
    ]


def test_a_cut_last_line_is_left_out_and_told(ppo_run: Path) -> None:
    with (ppo_run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "score/me')
    run = read_run(ppo_run)
    assert run.last_step == 30
    assert run.problems == ["metrics.jsonl: the last line is not whole, as of a run that was stopped; it is left out"]
    assert read_run(ppo_run, live=True).problems == []  # while it is being written that is no news


def test_broken_lines_in_the_middle_are_counted_and_the_first_is_named(ppo_run: Path) -> None:
    rows = (ppo_run / "metrics.jsonl").read_text().splitlines()
    rows[3], rows[7] = "nonsense", "[1, 2]"
    (ppo_run / "metrics.jsonl").write_text("\n".join(rows) + "\n")
    run = read_run(ppo_run)
    assert len(run.rows) == 28
    assert run.problems == ["metrics.jsonl: 2 lines cannot be read, the first is line 4"]


def test_a_stopped_run_without_report_or_samples(write_run: Write) -> None:
    path = write_run("ppo", ppo_settings(), [ppo_row(1), ppo_row(2)], finished=False, seconds=None)
    (path / "timings.jsonl").write_text('{"step": 1, "time/step": 1.5}\n{"step": 2, "time/step": 2.0}\n')
    run = read_run(path)
    assert (run.finished, run.seconds, run.report, list(run.samples)) == (False, 3.5, {}, [])
    assert "step 2 of 30" in html(page_of(path))


def test_lost_run_json_and_damaged_settings(ppo_run: Path) -> None:
    (ppo_run / "run.json").unlink()
    assert read_run(ppo_run).stage == "ppo"  # its settings tell
    (ppo_run / "config.yaml").write_text("{[")
    (ppo_run / "report.json").write_text("{")
    run = read_run(ppo_run)
    assert run.stage == "run"
    assert run.problems == [
        "run.json cannot be read: No such file or directory",
        "config.yaml is damaged: nothing of it is shown",
        "report.json is damaged: nothing of it is shown",
    ]
    assert "damaged" in html(page_of(ppo_run))


def test_of_a_step_that_was_written_twice_the_last_counts(write_run: Write) -> None:
    rows = [ppo_row(1), ppo_row(2, **{"kl/exact": 7.0}), ppo_row(2, **{"kl/exact": 8.0}), ppo_row(3)]
    run = read_run(write_run("ppo", ppo_settings(), rows))
    steps, values = series(run.rows, "kl/exact")
    assert steps == [1.0, 2.0, 3.0]
    assert values[1] == 8.0
    assert run.problems == ["1 rows have no step of their own: the last of each step is shown"]


def test_null_and_nan_are_gaps(write_run: Write) -> None:
    rows = [ppo_row(1, **{"kl/exact": None}), ppo_row(2, **{"kl/exact": float("nan")}), ppo_row(3, **{"kl/exact": 2.0})]
    run = read_run(write_run("ppo", ppo_settings(), rows))
    assert series(run.rows, "kl/exact")[1] == [None, None, 2.0]


def test_a_directory_that_is_no_run_is_told_with_what_is_near(ppo_run: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as missing:
        read_run(tmp_path / "pop")
    assert str(ppo_run) in missing.value.hint
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"neither run\.json nor metrics\.jsonl"):
        read_run(tmp_path / "empty")


def test_a_copied_run_has_the_same_page(ppo_run: Path, tmp_path: Path) -> None:
    here = html(page_of(ppo_run))
    there = tmp_path / "another" / "machine" / "ppo"
    shutil.copytree(ppo_run, there)
    shutil.rmtree(ppo_run)
    assert html(page_of(there)) == here


def test_runs_are_found_below_and_not_inside_each_other(ppo_run: Path, tmp_path: Path) -> None:
    shutil.copytree(ppo_run, tmp_path / "sweep" / "rate" / "seed-1")
    shutil.copytree(ppo_run, ppo_run / "checkpoint")
    found = [path.relative_to(tmp_path).as_posix() for path in runs_in(tmp_path)]
    assert found == ["ppo", "sweep/rate/seed-1"]
