"""A stage as one of several in a row: what is finished stays, what was stopped goes on."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from heed.settings.common import StageSettings
from heed.training.claim import described

log = logging.getLogger("heed")


def go(run: Callable[[Any], object], settings: StageSettings) -> None:
    """Run a stage; with `resume` a finished one is left as it is, and a stopped one goes on."""
    before = described(Path(settings.output)) if settings.resume else {}
    if before.get("finished"):
        log.info("done   %s", settings.output)
        return
    run(settings.model_copy(update={"resume": bool(before)}))
