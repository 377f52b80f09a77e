"""Models of another trainer, built and taught once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside this file are found by nothing else

from foreign_trainer import Models, build


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return build("gpt2", 0, tmp_path_factory.mktemp("foreign"))
