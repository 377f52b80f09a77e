"""The page of a directory with runs of several stages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from heed.report.blocks import Block, FigureTable, Page
from heed.report.command import page_of
from heed.settings.reward import RewardSettings
from heed.settings.sft import SFTSettings

from .conftest import Write, estimate, ppo_row, ppo_settings


@pytest.fixture
def loop(write_run: Write, tmp_path: Path) -> Path:
    """SFT, a reward model and PPO, each begun by a command of its own."""
    bleu = {"base": estimate(3.5), "few_shot": estimate(3.625), "sft": estimate(4.25)}
    loss = {"before": estimate(3.2), "after": estimate(3.1), "difference": estimate(-0.1)}
    write_run("loop/sft", SFTSettings(output="s", model="base"), [{"step": 1, "loss/train": 3.0}],
              report={"bleu": bleu, "validation_loss": loss}, command="heed sft sft.yaml")  # fmt: skip
    calibration = {"ece": estimate(0.04, 0.02), "temperature": estimate(40.0, 30.0), "reliability": []}
    write_run("loop/reward", RewardSettings(output="r", model="s"), [{"step": 1, "loss/ranking": 0.7}],
              report={"accuracy": estimate(0.7), "calibration": calibration}, command="heed reward r.yaml")  # fmt: skip
    write_run("loop/ppo", ppo_settings(), [ppo_row(1), ppo_row(2)], command="heed ppo ppo.yaml")
    return tmp_path / "loop"


def blocks(page: Page, id: str) -> list[Block]:
    return [block for part in page.sections if part.id.startswith(id) for block in part.blocks]


def test_it_says_where_the_loop_began_and_what_its_runs_share(loop: Path) -> None:
    page = page_of(loop)
    assert page.sentence == "The whole loop: from demonstrations to a policy that people prefer"
    facts = dict(page.facts)
    assert facts["commit"] == "0123456789ab" and "command" not in facts


def test_it_shows_what_sft_changed(loop: Path) -> None:
    tables: dict[str, Any] = {
        block.title: {figure.name: figure.estimate for figure in block.figures}
        for block in blocks(page_of(loop), "sft") if isinstance(block, FigureTable)
    }  # fmt: skip
    assert tables["BLEU, 0 to 100"] == {"base": 3.5, "few_shot": 3.625, "sft": 4.25}
    assert tables["Held-out loss, nats a token"] == {"before": 3.2, "after": 3.1}


def test_figures_of_other_units_have_scales_of_their_own(loop: Path) -> None:
    """A calibration error of 0.04 beside a temperature of 40 would be a dot at the edge."""
    tables = [block for block in blocks(page_of(loop), "reward") if isinstance(block, FigureTable)]
    for table in tables:
        assert {figure.estimate for figure in table.figures} != {0.04, 40.0}
    assert {"Calibration error", "Best temperature"} <= {table.title for table in tables}
