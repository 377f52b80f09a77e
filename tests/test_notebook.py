"""docs/notebook.ipynb, executed from top to bottom in a kernel of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "notebook.ipynb"


def executed(place: Path, size: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("HEED_NOTEBOOK_SIZE", size)
    monkeypatch.setenv("HEED_NOTEBOOK_PLACE", str(place))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(NOTEBOOK.parents[1]), os.environ.get("PYTHONPATH", "")]))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=1200, kernel_name="python3", resources={"metadata": {"path": place}}).execute()
    return notebook


def shown(notebook: Any) -> str:
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    return "".join(output.get("text", "") or output.get("data", {}).get("text/plain", "") for output in outputs)


def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    told = shown(executed(tmp_path, "0.01", monkeypatch))
    assert "ppo 5/5" in told  # progress is heard
    assert all((tmp_path / name / "checkpoint").is_dir() for name in ("base", "sft", "reward", "ppo"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_is_called_healthy_is_what_comes_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import heed

    told = shown(executed(tmp_path, "1", monkeypatch))
    assert "\ngrave:" not in told
    loss = heed.read_run(tmp_path / "sft").report["validation_loss"]
    assert loss["difference"]["high"] < 0
    reward = heed.read_run(tmp_path / "reward").metrics.iloc[-1]
    assert reward["validation/accuracy_low"] > 0.5
    steps = heed.read_run(tmp_path / "ppo").metrics
    assert steps["kl/exact"].min() >= 0
    assert (steps["kl/k1"] > -4 * steps["kl/k1_se"]).all()
    assert steps["score/mean"].iloc[-1] > steps["score/mean"].iloc[0]


def test_it_is_stored_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    assert all(cell.execution_count is None and not cell.outputs for cell in notebook.cells if cell.cell_type == "code")
