"""Thinning, axes, labels, words, and which samples are chosen."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from heed.report.blocks import Figure
from heed.report.chart import Chart, Limit, Line, axes, drawn_limits, x_ticks
from heed.report.place import WIDTHS, Label, _box, placed
from heed.report.read import read_run
from heed.report.samples import samples
from heed.report.thin import listed, moving_mean, thin
from heed.report.words import duration, nice_ticks, rounded, short, size, visible
from heed.settings.common import DataSettings
from heed.settings.evaluate import EvaluateSettings

from .conftest import Write

VALUES = st.lists(st.none() | st.floats(-1e6, 1e6), min_size=1, max_size=3000)


@given(VALUES)
def test_a_thinned_line_keeps_its_ends_and_its_extremes(values: list[float | None]) -> None:
    kept = thin(values, most=40)
    assert kept == sorted(set(kept))
    assert len(kept) <= 40
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    known = [value for value in values if value is not None]
    if known:
        left = [values[i] for i in kept if values[i] is not None]
        assert (min(left), max(left)) == (min(known), max(known))  # type: ignore[type-var]


def test_every_bucket_keeps_its_own_spike() -> None:
    values = [0.0] * 1000
    values[137], values[861] = 5.0, -3.0
    assert {137, 861} <= set(thin(values, most=100))
    assert {137, 861} <= set(listed([values, [1.0] * 1000]))


def test_moving_mean_by_hand() -> None:
    # windows of three: (1, 2), (1, 2, –), (2, –, 6), (–, 6)
    assert moving_mean([1.0, 2.0, None, 6.0], 3) == [1.5, 1.5, 4.0, 6.0]
    assert moving_mean([None, None], 3) == [None, None]


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0.0, 1.0, 6, [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (-0.3, 0.31, 4, [-0.2, 0.0, 0.2]),
        (1.0, 2000.0, 5, [500.0, 1000.0, 1500.0, 2000.0]),
        (3.0, 3.0, 5, [3.0]),
    ],
)
def test_ticks_are_round(low: float, high: float, most: int, expected: list[float]) -> None:
    assert nice_ticks(low, high, most) == expected


@given(st.floats(-1e9, 1e9), st.floats(1e-6, 1e9), st.integers(2, 9))
def test_ticks_are_few_and_inside(low: float, reach: float, most: int) -> None:
    high = low + reach
    ticks = nice_ticks(low, high, most)
    if high > low:
        assert len(ticks) <= most
        assert all(low - reach * 1e-6 <= tick <= high + reach * 1e-6 for tick in ticks)


def test_a_limit_is_drawn_only_where_it_does_not_flatten_the_line() -> None:
    line = Line("a", [1.0, 2.0], [1.0, 2.0])
    near, far = Limit(2.5, "near"), Limit(25.0, "far")
    chart = Chart("c", "C", [line], limits=(near, far))
    assert drawn_limits(chart) == [near]
    assert axes(chart).top == pytest.approx(2.5 + 0.06 * 1.5)


def test_places_on_root_and_log_axes() -> None:
    root = Chart("c", "C", [Line("a", [0.0, 4.0], [0.0, 1.0])], scale="root", x_name="KL")
    assert axes(root).across(1.0) == pytest.approx(0.5)
    log = Chart("c", "C", [Line("a", [1.0, 16.0], [0.0, 1.0])], scale="log2", x_name="n")
    assert axes(log).across(4.0) == pytest.approx(0.5)
    assert x_ticks(log, axes(log)) == [1.0, 2.0, 4.0, 8.0, 16.0]


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(1, 16)), max_size=14))
def test_labels_never_cover_each_other(points: list[tuple[float, float, int]]) -> None:
    found = placed([Label("x" * long, across, down, "c0") for across, down, long in points])
    for width in WIDTHS:
        boxes = [_box(label, width) for label in found]
        for i, a in enumerate(boxes):
            assert a[0] >= 0
            assert a[2] <= width
            assert not any(a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3] for b in boxes[i + 1 :])


def test_words() -> None:
    assert [short(value) for value in (0.123456, -2.0, 12345.6, 4.5e-6, None, float("nan"), 0.0)] == [
        "0.1235", "−2", "12,346", "4.5e−6", "–", "–", "0",
    ]  # fmt: skip
    assert [duration(value) for value in (3.21, 245.0, 12_000.0, None)] == ["3.2 s", "4 min 05 s", "3 h 20 min", "–"]
    assert [size(value) for value in (12, 3_400, 5_600_000, 7_800_000_000)] == ["12 B", "3.4 kB", "5.6 MB", "7.8 GB"]
    assert visible("a\u202eb\x00\nc\u200b") == "a‹U+202E›b‹U+0000›\nc‹U+200B›"


def test_figures_have_two_digits_of_their_interval() -> None:
    assert rounded(0.12345, 0.16) == "0.12"
    assert Figure("a", 34.32, 31.93, 36.86, 600).words == "34.3"
    assert Figure("a", -0.0486, -0.13, 0.0288, 600).interval == "−0.13 to 0.03"
    assert Figure("a", 1.0, 0.9936, 1.0, 600).interval == "0.994 to 1.000"
    assert Figure("a", 10.19).words == "10.19"


def test_the_biggest_gains_and_losses_and_the_worst_are_chosen(write_run: Write) -> None:
    models = {"sft": "runs/sft", "ppo": "runs/ppo"}
    settings = EvaluateSettings(output="e", models=models, prompts=DataSettings(path="p.jsonl"))
    rows = [
        {"prompt": f"p{i}", "responses": {"sft": "s", "ppo": "q"}, "kl": {"sft": 0.0, "ppo": 0.5},
         "finished": {"ppo": i != 3}, "scores": {"sft": {"r": 0.0}, "ppo": {"r": (i - 25) / 10}}}
        for i in range(50)
    ]  # fmt: skip
    found = samples(read_run(write_run("e", settings, samples=rows, report={"baseline": "sft"})))
    assert found is not None
    tagged = {tag: [row.prompt for row in found.rows if tag in row.tags] for tag in found.tags}
    assert tagged["biggest gain"] == [f"p{i}" for i in range(49, 39, -1)]
    assert tagged["biggest loss"] == [f"p{i}" for i in range(10)]
    assert set(tagged["worst ten"]) == {f"p{i}" for i in range(10)}
    assert set(tagged["unselected"]) == {f"p{i}" for i in range(20)}
    assert len(found.rows) == len({row.prompt for row in found.rows}) == 30
    (third,) = [row for row in found.rows if row.prompt == "p3"]
    assert third.gain == pytest.approx(-2.2)
    assert third.answers["ppo"].words == ["did not end"]
    assert third.answers["ppo"].kl == 0.5


def test_nothing_heavy_is_imported() -> None:
    code = (
        "import sys, heed.flows.report, heed.flows.watch\n"
        "found = {'torch', 'transformers', 'datasets', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=Path.cwd())
    assert done.returncode == 0, done.stderr
