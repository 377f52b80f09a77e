"""Runs beside each other: which differ in what, and what seeds have in common."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from heed import cli
from heed.report import compare
from heed.report.blocks import FigureTable, Panels, Table
from heed.report.command import page_of, pages
from heed.report.differences import differing, settings_hash
from heed.report.html import html
from heed.report.read import Run, read_run

from .conftest import Write, estimate, ppo_row, ppo_settings


def run_of(write_run: Write, name: str, kl: Sequence[float], **settings: Any) -> Run:
    rows = [ppo_row(step, **{"kl/exact": value}) for step, value in enumerate(kl, start=1)]
    chosen = ppo_settings(output=f"runs/{name}", **settings)
    return read_run(write_run(name, chosen, rows, report={"win_rate": estimate(kl[-1] / 10)}))


@pytest.fixture
def sweep(write_run: Write) -> list[Run]:
    """Two prices of KL with two seeds each."""
    return [
        run_of(write_run, "sweep/a", [1.0, 2.0, 3.0], kl_coef=0.1, seed=0),
        run_of(write_run, "sweep/b", [1.0, 4.0, 6.0], kl_coef=0.1, seed=1),
        run_of(write_run, "sweep/c", [5.0, 6.0, 8.0], kl_coef=0.2, seed=0),
        run_of(write_run, "sweep/d", [5.0, 8.0], kl_coef=0.2, seed=1),
    ]


def test_seeds_are_one_line_their_mean_and_standard_deviation(sweep: list[Run]) -> None:
    found = compare.groups(sweep)
    assert [group.name for group in found] == ["kl_coef 0.1, mean ± sd of 2 seeds", "kl_coef 0.2, mean ± sd of 2 seeds"]
    line = compare.group_line(found[0], "kl/exact")
    # steps 2 and 3: mean of 2, 4 and of 3, 6; sd with n − 1 of a pair is |difference|/√2
    assert list(line.y) == pytest.approx([1.0, 3.0, 4.5])
    assert list(line.high) == pytest.approx([1.0, 3.0 + 2**0.5, 4.5 + 3 / 2**0.5])
    assert list(line.low) == pytest.approx([1.0, 3.0 - 2**0.5, 4.5 - 3 / 2**0.5])
    assert list(compare.group_line(found[1], "kl/exact").x) == [1.0, 2.0]  # what both seeds have


def test_of_many_runs_a_few_figures_are_drawn_and_the_others_are_folded(write_run: Write) -> None:
    """A row a run and figure: 12 runs of 20 figures would fill a phone's screen thirty times."""
    for count, drawn in ((2, 14), (12, 5), (24, 4)):
        names = [f"sweep{count}/{i}" for i in range(count)]
        report = {f"figure_{k}": estimate(0.1 * k) for k in range(20)}
        runs = [
            read_run(write_run(name, ppo_settings(output=name, kl_coef=i // 2 / 10, seed=i % 2), [], report=report))
            for i, name in enumerate(names)
        ]
        first, *_ = compare.page(runs, "sweep").sections
        tables = [block for block in first.blocks if isinstance(block, Table)]
        assert sum(isinstance(block, FigureTable) for block in first.blocks) == drawn
        assert [(table.open, len(table.rows)) for table in tables] == [
            (True, drawn * count // 2), (False, (20 - drawn) * count // 2), (False, 20 - drawn),
        ]  # fmt: skip


def test_settings_that_differ_come_first_and_are_marked(sweep: list[Run]) -> None:
    assert differing(sweep) == ["kl_coef"]
    assert differing(sweep[:2]) == []
    table, same = [
        block for part in compare.page(sweep, "sweep").sections for block in part.blocks
        if isinstance(block, Table) and block.title.startswith("Settings")
    ]  # fmt: skip
    assert table.rows == [("kl_coef", "0.1", "0.1", "0.2", "0.2"), ("seed", "0", "1", "0", "1")]
    assert list(table.marked) == [0]
    assert ("clip_range", "0.2") in same.rows and not same.open
    assert not {"kl_coef", "seed", "output"} & {row[0] for row in same.rows}


def test_figures_of_every_run_with_intervals_and_of_seeds_their_spread(sweep: list[Run]) -> None:
    blocks = [block for part in compare.page(sweep, "sweep").sections for block in part.blocks]
    (figures,) = [block for block in blocks if isinstance(block, FigureTable)]
    assert figures.title == "win rate"
    assert [(row.name, row.estimate, row.n) for row in figures.figures][:2] == [("a", 0.3, 50), ("b", 0.6, 50)]
    (spread,) = [block for block in blocks if isinstance(block, Table) and "Mean ±" in block.title]
    assert spread.rows[0] == ("win rate", "kl_coef 0.1, mean ± sd of 2 seeds", "0.45", "0.2121", "2")


def test_one_chart_a_metric(sweep: list[Run]) -> None:
    charts = [
        chart for part in compare.page(sweep, "sweep").sections for block in part.blocks if isinstance(block, Panels)
        for chart in block.charts if not chart.id.startswith("all-")
    ]  # fmt: skip
    assert len({chart.title for chart in charts}) == len(charts)
    assert "kl/exact" in {chart.title for chart in charts}
    assert all(len(chart.lines) == 2 for chart in charts)


def test_runs_that_differ_in_settings_alone_keep_their_names(sweep: list[Run]) -> None:
    assert [group.name for group in compare.groups([sweep[0], sweep[2]])] == ["a", "c"]


def test_hash_ignores_where_a_run_lies(sweep: list[Run], write_run: Write) -> None:
    twin = run_of(write_run, "elsewhere", [1.0, 1.0], kl_coef=0.1, seed=0)
    assert settings_hash(twin) == settings_hash(sweep[0])
    assert settings_hash(sweep[0]) != settings_hash(sweep[1])


def test_a_directory_of_runs_of_one_stage_is_a_comparison(sweep: list[Run], tmp_path: Path) -> None:
    page = page_of(tmp_path / "sweep")
    assert page.sentence == "4 runs compared"
    assert len(html(page)) < 1_000_000


def test_runs_of_the_same_name_are_told_apart(sweep: list[Run], write_run: Write, tmp_path: Path) -> None:
    run_of(write_run, "other/a", [2.0, 3.0], kl_coef=0.4)
    (page,) = pages([tmp_path / "sweep" / "a", tmp_path / "other" / "a"], tmp_path / "out.html").values()
    assert dict(page.facts)["runs"] == "sweep/a, other/a"


def test_command_writes_the_pages_and_says_where(
    ppo_run: Path, sweep: list[Run], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["report", str(ppo_run)]) == 0
    assert (ppo_run / "report.html").read_text().startswith("<!doctype html>")
    assert f"wrote  {ppo_run / 'report.html'}" in capsys.readouterr().err
    assert (
        cli.main(["report", str(tmp_path / "sweep" / "a"), str(ppo_run), "--output", str(tmp_path / "new" / "x.html")])
        == 0
    )
    assert (tmp_path / "new" / "x.html").exists()
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["report"], "runs: no run is named"),
        (["report", "nowhere"], "nowhere: there is no such directory"),
        (["watch"], "run: no run is named"),
        (["watch", "nowhere"], "nowhere: there is no such directory"),
    ],
)
def test_mistakes_are_told(arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("length_bias · longer_wins", "length bias · longer wins"),
        ("calibration · ece", "calibration · expected error"),
        ("score · difference", "score · difference"),
    ],
)
def test_figures_are_called_by_words(name: str, words: str) -> None:
    assert compare.titled(name) == words
