"""Several stages in a row: each is announced, what is finished stays, what was stopped goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from heed.settings.common import StageSettings
from heed.training.claim import described
from heed.training.whole import WholeRun

log = logging.getLogger("heed")


@dataclass(frozen=True)
class Step:
    """One of several in a row: the sentence that announces it, what it does, and its cost beside that of the others."""

    sentence: str
    do: Callable[[], object]
    cost: float = 1.0


def walk(steps: Sequence[Step], before: str = "", whole: str = "whole run") -> None:
    """Every step, with `[3/8]` and its sentence; `before` stands before the number, `whole` is what all are called."""
    with WholeRun([step.cost for step in steps], whole) as run:
        for number, step in enumerate(steps, start=1):
            log.info("\n[%s%d/%d] %s", before, number, len(steps), step.sentence)
            run.begin_step()
            step.do()


def go(run: Callable[[Any], object], settings: StageSettings) -> None:
    """Run a stage; with `resume` a finished one is left as it is, and a stopped one goes on."""
    before = described(Path(settings.output)) if settings.resume else {}
    if before.get("finished"):
        log.info("done   %s", settings.output)
        return
    run(settings.model_copy(update={"resume": bool(before)}))
