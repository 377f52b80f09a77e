"""A storm that proves nothing is refused: labelers who die, and labelers to whom nothing was acknowledged."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from heed.labeling.simulated import Answered

from . import storm as storms

NAMES = ["ann", "ben", "cid"]


def answers(many: int) -> Iterator[Answered]:
    return (Answered(task, ("a", "b"), (1, 2), 0.01) for task in range(many))


def weather(
    monkeypatch: pytest.MonkeyPatch, work: Callable[[str], Iterator[Answered]], submissions: int
) -> storms.Storm:
    """A storm over labelers who do as `work` says; no server is needed for that."""

    def labeler(link: str, taste: object, patience: float) -> SimpleNamespace:
        return SimpleNamespace(work=lambda think: work(link), close=lambda: None)

    monkeypatch.setattr(storms, "SimulatedLabeler", labeler)
    server = SimpleNamespace(start=lambda *more: {name: name for name in NAMES}, kill=lambda: None)
    return storms.storm(server, NAMES, submissions, kills=0, think=0.0)  # type: ignore[arg-type]


def test_a_storm_in_which_everybody_works_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert weather(monkeypatch, lambda name: answers(4), 12).total == 12


def test_nothing_acknowledged_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(storms.StormError, match="nothing was acknowledged to ann, ben, cid"):
        weather(monkeypatch, lambda name: answers(0), 0)


def test_one_labeler_to_whom_nothing_was_acknowledged_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(storms.StormError, match="nothing was acknowledged to ben"):
        weather(monkeypatch, lambda name: answers(0 if name == "ben" else 6), 12)


def test_too_few_acknowledged_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(storms.StormError, match="9 submissions were acknowledged, not 12"):
        weather(monkeypatch, lambda name: answers(3), 12)


def test_a_labeler_who_dies_is_told_by_name_and_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(name: str) -> Iterator[Answered]:
        yield from answers(6)
        if name == "cid":
            raise ValueError("the page was no JSON")

    with pytest.raises(storms.StormError, match="cid died: ValueError: the page was no JSON") as caught:
        weather(monkeypatch, work, 18)
    assert isinstance(caught.value.__cause__, ValueError)
