"""Every family is read, drawn from, saved and opened as stock transformers would, or refused; the page says which."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest
from families import FAMILIES, build
from findings import find
from page import HEAD, PAGE, line

from heed import cli

CONSTRAINTS = Path(__file__).parents[2] / "constraints.txt"
FRUITS, COLOURS = ("apple", "pear", "plum", "fig"), ("red", "blue", "green", "grey")
LOOP = ("OPT 350M", "Gemma 2", "Granite")
"""Families whose loop is run with every other test: projected embeddings, capped and scaled logits, own layouts."""


@pytest.fixture(scope="session")
def page() -> str:
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_is_right_or_refused_as_the_page_says(family: str, tmp_path: Path, page: str) -> None:
    found = find(family, tmp_path)
    if found.refused and f"transformers=={version('transformers')}\n" not in CONSTRAINTS.read_text():
        return  # the page is of the version in constraints.txt; another's may be refused, but not read wrongly
    assert line(family, found) in page.splitlines(), "write it again: make architectures"


def test_the_page_names_no_family_that_is_not_tried(page: str) -> None:
    assert page.startswith(HEAD)
    rows = [row.split(" | ")[0].removeprefix("| ") for row in page.splitlines() if row.startswith("| ")]
    assert sorted(row for row in rows if row != "family") == sorted(FAMILIES)


@pytest.mark.parametrize("family", LOOP)
def test_the_loop_of_a_few(family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_loop(family, tmp_path, capsys, rank=2)


@pytest.mark.slow
@pytest.mark.parametrize("rank", [2, 0], ids=["adapters", "whole"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_loop_of_all(family: str, rank: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_loop(family, tmp_path, capsys, rank)


def run_loop(family: str, place: Path, capsys: pytest.CaptureFixture[str], rank: int) -> None:
    """sft, reward, ppo, evaluate, doctor, two steps each; or refused by the first command in two lines."""
    base, data = build(family, place / "base"), write_data(place)
    heed = command(place, capsys, rank)
    code, told = heed(
        "sft", "--model", base, "--data", data["demonstrations"], "--batch", 8, "--epochs", 1, "--completions", 0,
        "--evaluations", 1,
    )  # fmt: skip
    if code == 2:
        assert family in PAGE.read_text(encoding="utf-8").split("## Refused at load")[1]
        assert told.splitlines()[-1].startswith("hint: ")
        return
    short = ("--sampling.max_new_tokens", 8)
    heed(
        "reward", "--model", place / "sft", "--data", data["rankings"], "--batch", 8, "--normalise_prompts", 8,
        "--max_tokens", 120, "--evaluations", 1, *short,
    )  # fmt: skip
    heed(
        "ppo", "--model", place / "sft", "--reward_model", place / "reward", "--prompts", data["prompts"], "--steps", 2,
        "--batch", 8, "--minibatch", 8, "--critic_warmup", 0, "--evaluations", 2, *short,
    )  # fmt: skip
    first = json.loads((place / "ppo" / "metrics.jsonl").read_text().splitlines()[0])
    assert first["kl/exact"] == 0
    assert first["rescore/max"] < 1e-3
    heed(
        "evaluate", "--models.sft", place / "sft", "--models.ppo", place / "ppo", "--reward_models.own",
        place / "reward", "--prompts", data["prompts"], *short,
    )  # fmt: skip
    heed("doctor", place / "ppo", "--json", place / "verdict.json")
    found = json.loads((place / "verdict.json").read_text())["findings"]
    assert not [finding for finding in found if finding["id"].startswith("NK")], found


def command(place: Path, capsys: pytest.CaptureFixture[str], rank: int) -> Callable[..., tuple[int, str]]:
    """Runs a command, which ends well or, the first, with what a person can mend."""

    def run(name: str, *arguments: object) -> tuple[int, str]:
        output = () if name == "doctor" else ("--output", place / name)
        lora = ("--lora.rank", rank) if name in ("sft", "reward", "ppo") else ()
        code = cli.main([name, *map(str, (*arguments, *output, *lora))])
        told = capsys.readouterr().err
        allowed = {"sft": (0, 2), "doctor": (0, 3, 4)}.get(name, (0,))  # health is not what is asked of two steps
        assert code in allowed, told
        return code, told

    return run


def write_data(place: Path) -> dict[str, Path]:
    asked = [(f"Is the {fruit} {colour}?", f"The {fruit} is {colour}.") for fruit in FRUITS for colour in COLOURS]
    rows = {
        "demonstrations": [{"prompt": question, "response": answer} for question, answer in asked],
        "rankings": [{"prompt": question, "chosen": answer, "rejected": "No."} for question, answer in asked],
        "prompts": [{"prompt": question} for question, _ in asked],
    }
    for name, lines in rows.items():
        (place / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
    return {name: place / f"{name}.jsonl" for name in rows}
