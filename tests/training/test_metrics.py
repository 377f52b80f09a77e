from __future__ import annotations

import io
import logging
import math
import sys
from itertools import pairwise
from types import SimpleNamespace

import pytest
from rich.console import Console

from heed.training import metrics
from heed.training.metrics import Progress, completions_table, filled, print_completions, short


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def lines(caplog: pytest.LogCaptureFixture, total: int, every: int = 0, seconds: float = 0.0) -> list[str]:
    """Plain lines of a run of `total` steps, each of which takes `seconds` by a clock of the test's own."""
    with caplog.at_level(logging.INFO, "heed"), Progress("ppo", total, every) as progress:
        for step in range(1, total + 1):
            CLOCK[0] += seconds
            progress.update(step, {"score": 0.312345, "kl": math.nan})
    return caplog.messages


CLOCK = [0.0]


@pytest.fixture(autouse=True)
def _clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "time", SimpleNamespace(monotonic=lambda: CLOCK[0]))


class TestPlainLines:
    def test_a_line(self, caplog: pytest.LogCaptureFixture) -> None:
        assert lines(caplog, 4, every=2, seconds=35.0)[0] == "ppo 1/4  score 0.3123  kl –  eta 1:45"

    def test_every_n_steps_and_the_last(self, caplog: pytest.LogCaptureFixture) -> None:
        assert [line.split()[1] for line in lines(caplog, 10, every=4)] == ["4/10", "8/10", "10/10"]

    def test_about_twenty_lines_by_default(self, caplog: pytest.LogCaptureFixture) -> None:
        assert 15 <= len(lines(caplog, 999)) <= 22

    def test_no_silence_of_more_than_ten_seconds(self, caplog: pytest.LogCaptureFixture) -> None:
        shown = [int(line.split()[1].partition("/")[0]) for line in lines(caplog, 100, every=100, seconds=4.0)]
        assert shown[0] == 3
        assert max(later - earlier for earlier, later in pairwise(shown)) == 3


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    assert lines(caplog, 3) == []
    assert "3/3" in terminal.getvalue()
    assert "score 0.3123" in terminal.getvalue()


def test_figures_fill_lines_and_stay_whole() -> None:
    assert filled(["a 1", "bb 2", "ccc 3"], 9) == "a 1  bb 2\nccc 3"
    assert filled(["a 1", "bb 2", "ccc 3"], 80) == "a 1  bb 2  ccc 3"
    assert filled(["longer than it"], 5) == "longer than it"


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.123456, "0.1235"), (12, "12"), (1e-05, "1e-05"), (math.nan, "–"), (math.inf, "–"), (None, "–")],
)
def test_four_digits(value: float | None, expected: str) -> None:
    assert short(value) == expected


class TestCompletions:
    def test_columns_come_from_the_rows_and_text_is_shown_as_it_is(self) -> None:
        rows = [
            {"prompt": "[bold]x[/bold]", "sft": "a\x1b[31mred"},
            {"prompt": "second", "ppo": "b", "score": 0.123456},
        ]
        console = Console(width=100, file=io.StringIO(), force_terminal=True)
        console.print(completions_table(rows, "three [models]"))
        shown = console.file.getvalue()  # type: ignore[attr-defined]
        for expected in ("three [models]", "[bold]x[/bold]", "a·[31mred", "second", "0.1235", "ppo"):
            assert expected in shown
        assert "\x1b[31m" not in shown

    def test_printing(self, capsys: pytest.CaptureFixture[str]) -> None:
        print_completions([{"prompt": "a", "sft": "b"}], title="[x]")
        shown = capsys.readouterr().out
        assert "[x]" in shown
        assert "prompt" in shown
