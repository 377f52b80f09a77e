"""The scripts of the negative KL: every variant for two steps on a tiny model, and the figure."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from pathlib import Path
from runpy import run_path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch

from heed.doctor.verdict import FINDINGS
from heed.models.answers import left_padded
from heed.models.roles import Shelf
from heed.settings.doctor import DoctorSettings
from heed.stages import doctor

SCRIPTS = Path(__file__).parents[2] / "experiments" / "negative-kl"
VARIANTS = ("right", "scoring", "minimum", "dropout")  # between them they have every fault


def python(script: str, *arguments: str | Path) -> None:
    found = subprocess.run(
        [sys.executable, str(SCRIPTS / script), *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert found.returncode == 0, found.stderr[-2000:]


@pytest.fixture(scope="module")
def output(tiny_runs: tuple[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `founding.py` leaves."""
    place = tmp_path_factory.mktemp("founding")
    (place / "prompts").mkdir()
    for split, count in (("train", 80), ("val", 9)):
        rows = [{"prompt": f"{split} {i}{'?' * (i % 9)}", "source": "alpaca"} for i in range(count)]
        with gzip.open(place / "prompts" / f"prompts.{split}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    python(
        "founding.py", "--data", place, "--models", Path(tiny_runs[0]).parent, "--output", place, "--steps", "2",
        "--variants", *VARIANTS,
    )  # fmt: skip
    return place


def curves(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((output / "curves.json").read_text())
    return found


def test_the_right_run_is_left_alone_and_its_kl_is_positive(output: Path) -> None:
    right = curves(output)["right"]
    first, second = right["steps"]
    assert right["live"] == []
    assert (first["k1"], first["exact"]) == (0, 0) and second["exact"] > 0
    assert abs(second["k1"] - second["exact"]) < 5 * second["k1_se"]


@pytest.mark.parametrize(("variant", "cause"), [("scoring", "NK8"), ("dropout", "NK6")])
def test_a_wrong_scorer_is_named_at_once(output: Path, variant: str, cause: str) -> None:
    assert curves(output)[variant]["live"] == [f"{cause} at step 1"]


def test_dropout_in_the_policy_alone_makes_kl_negative(output: Path) -> None:
    for step in curves(output)["dropout"]["steps"]:
        assert step["k1"] < -5 * step["k1_se"] and step["exact"] >= 0


def test_no_response_is_shorter_than_the_minimum(tiny_directory: Path) -> None:
    founding = run_path(str(SCRIPTS / "founding.py"), run_name="founding")
    trunk = Shelf(lambda _: torch.float32, torch.device("cpu")).policy(str(tiny_directory), "policy").trunk
    weight, eos = trunk.model.transformer.wte.weight, trunk.tokenizer.eos_token_id
    with torch.no_grad():  # so that about one token in ten ends a response
        hidden = trunk.body(torch.randint(2, 258, (32, 12))).last_hidden_state
        usual, normaliser = hidden.mean((0, 1)), trunk.head(hidden).logsumexp(-1).mean()
        weight[eos] = (normaliser - 2.3) * usual / usual.square().sum()
    prompts = left_padded([[5 + i, 6] for i in range(32)], 1, torch.device("cpu"))
    shortest = {
        minimum: int(
            founding["Sampler"](trunk, None, minimum).generate(prompts, 40, 1.0, torch.Generator()).lengths.min()
        )
        for minimum in (False, True)
    }
    assert shortest[True] > 20 >= shortest[False]


def test_the_doctor_finds_in_the_file_what_is_wrong(output: Path, tiny_runs: tuple[str, str]) -> None:
    place = output / "scoring"
    told = output / "findings.json"
    settings = DoctorSettings(
        rollouts=str(place / "rollouts.jsonl"), model=str(place / "policy"), reference=tiny_runs[0], json=str(told)
    )
    assert doctor.run(settings) == FINDINGS
    assert "NK8" in [found["id"] for found in json.loads(told.read_text())["findings"]]


def test_the_figure_has_a_line_for_each_variant_and_measure(output: Path) -> None:
    python("curves.py", output / "curves.json", output / "figure.svg")
    figure = ElementTree.parse(output / "figure.svg").getroot()
    assert len(figure.findall("{http://www.w3.org/2000/svg}polyline")) == 3 * len(VARIANTS)
