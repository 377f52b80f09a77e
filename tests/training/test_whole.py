"""What is left of several stages in a row: a clock of the test's own, stages that take as long as they are told."""

from __future__ import annotations

import io
import logging
import sys
from types import SimpleNamespace

import pytest

from heed.flows.going_on import Step, walk
from heed.stages import ppo
from heed.training import metrics, whole
from heed.training.metrics import Progress
from heed.training.whole import WholeRun


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (metrics, whole):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    return clock


def test_the_rest_is_told_at_the_pace_so_far(clock: Clock) -> None:
    """Steps of 10, 30 and 20, a second a unit; then everything takes twice as long."""
    with WholeRun([10, 30, 20]) as run:
        run.begin_step()
        clock.now = 5
        assert run.seconds_left(0, 0.5) == pytest.approx(55)
        clock.now = 10
        assert run.seconds_left(0, 1) == pytest.approx(50)
        run.begin_step()
        clock.now = 10 + 2 * 30
        assert run.seconds_left(0, 1) == pytest.approx(20 * 70 / 40)
        run.begin_step()
        assert run.seconds_left(0, 0) == pytest.approx(20 * 70 / 40)
        clock.now += 2 * 20
        assert run.seconds_left(0, 1) == 0


def test_what_was_done_before_gives_no_pace(clock: Clock) -> None:
    """The first step was finished by an earlier process, the second half done."""
    with WholeRun([1000, 30, 20]) as run:
        run.begin_step()
        run.begin_step()
        assert run.seconds_left(0.5, 0.5) is None
        clock.now = 3
        assert run.seconds_left(0.5, 0.6) == pytest.approx(12 + 20)


def test_a_step_without_a_loop_does_not_count_for_the_pace(clock: Clock) -> None:
    with WholeRun([1, 10, 10]) as run:
        run.begin_step()
        clock.now = 100
        run.begin_step()
        clock.now = 110
        assert run.seconds_left(0, 1) == pytest.approx(10)


def stages(clock: Clock) -> list[Step]:
    def stage(seconds: float, figures: dict[str, float]) -> None:
        with Progress("ppo", 4, every=4, whole=WholeRun.current) as progress:
            for step in range(1, 5):
                clock.now += seconds / 4
                progress.update(step, figures)

    told = dict.fromkeys((*ppo.SHOWN, "tokens/s", "findings"), -0.0123456789)
    return [Step("first", lambda: stage(10, {}), 10), Step("second", lambda: stage(100, told), 100)]


def test_lines_say_what_is_left_of_all_stages(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "heed"):
        walk(stages(clock), "round 2, ", "round 2")
    sentence, first, _, *others = caplog.messages
    assert sentence == "\n[round 2, 1/2] first"
    assert first == "ppo 4/4    eta 0:00, round 2 1:40"
    assert others[0].endswith("eta 1:15, round 2 1:15")
    assert others[-1].endswith("eta 0:00, round 2 0:00")
    assert WholeRun.current is None


def test_the_panel_fits_eighty_columns(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stage, step and time left; then what is left of the whole run and every figure of PPO, none of them broken."""
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("TERM", "dumb")
    walk(stages(clock))
    *_, panel = terminal.getvalue().rpartition("ppo")
    lines = [line.rstrip() for line in panel.splitlines()]
    assert max(map(len, lines)) <= 80
    for figure in (*ppo.SHOWN, "tokens/s", "findings"):
        assert f"{figure} -0.01235" in panel
    assert "policy/entropy" in panel and "whole run 0:00" in panel
