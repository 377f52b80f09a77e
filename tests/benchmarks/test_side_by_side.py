"""heed beside its peers: what is counted, that sides take turns, and what the page says. Nothing is timed here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import GPT2Config, GPT2LMHeadModel

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def test_the_floor_is_what_torch_counts() -> None:
    from sides.floor import operations, predicting, reading, total, updating
    from sides.inputs import Shape

    shape = Shape(layers=2, width=64, heads=2, vocab=500, context=64, batch=4, response=8)
    config = GPT2Config(vocab_size=500, n_positions=64, n_embd=64, n_layer=2, n_head=2)
    model = GPT2LMHeadModel(config).requires_grad_(False)
    tokens = torch.randint(500, (3, 16))
    counter = FlopCounterMode(display=False)
    with counter:
        model(tokens)
    ours = total(reading(shape, 48, 2 * 16), predicting(shape, 48))  # torch counts the whole square of attention
    assert sum(ours.values()) == counter.get_total_flops()
    model.transformer.wte.weight.requires_grad_(True)
    embedded = model.transformer.wte(tokens)
    model.transformer.wte.weight.requires_grad_(False)
    with counter:
        model(inputs_embeds=embedded).logits.sum().backward()
    ours = total(reading(shape, 48, 2 * 16, backward=True), predicting(shape, 48, backward=True))
    assert sum(ours.values()) - 48 * 6 * shape.adapters() == counter.get_total_flops()
    whole = operations("ppo", shape, {"rows": 3, "prompts": 24, "responses": 24})
    update = whole["rows"]
    policy = operations("sft", shape, {"rows": 3, "prompts": 24, "responses": 24})["rows"]
    reading_once = operations("score", shape, {"rows": 3, "prompts": 24, "responses": 24})["rows"]
    assert update == pytest.approx(8 * policy + 5 * reading_once, rel=0.02)  # 4 epochs of two models; 4 roles, prefill
    alone = updating(shape, {"rows": 3, "prompts": 24, "responses": 24})
    assert (
        alone["rows"] == pytest.approx(8 * policy) and alone["head"] == whole["head"] * 4 / 5
    )  # scored by two of them


def test_two_sides_take_turns_and_the_page_tells(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(BENCHMARKS / "side_by_side.py"),
        "rollout-ends",
        "--shape",
        "pocket",
        "--rounds",
        "2",
    ]
    done = subprocess.run(
        [*command, "--place", str(tmp_path), "--results", str(tmp_path / "results.json")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    turns = [line.split(":")[0].split(maxsplit=1) for line in done.stdout.splitlines() if line[2].isdigit()]
    assert turns == [["1", "heed"], ["1", "generate, float32"], ["2", "heed"], ["2", "generate, float32"]]
    (found,) = json.loads((tmp_path / "results.json").read_text()).values()
    for side in found["sides"]:
        for piece in side["pieces"]:
            assert piece["rows"] == 64 and 64 * 8 < piece["responses"] < 64 * 24
            assert 0 < piece["floor"] < piece["seconds"]
    page = (tmp_path / "results.md").read_text()
    assert "| pocket |" in page and found["commit"][:10] in page


@pytest.mark.parametrize("others", [0.0, 0.5])
def test_a_piece_beside_other_work_is_marked(others: float) -> None:
    from sides.programs import Piece
    from sides.table import page, told

    piece = Piece({}, others, load=1.0)
    row = {"seconds": 2.0, "memory": 1e9, "rows": 16, "prompts": 10, "responses": 10, "floor": 1.0, "load": 1.0}
    host = {"processor": "p", "threads": 2, "bfloat16": True}
    sides = [{"name": name, "pieces": [row | {"disturbed": piece.disturbed}]} for name in ("heed", "trl")]
    found = {
        "work": "sft", "shape": "gpt2", "commit": "c", "when": "w", "host": host, "rates": {"rows": 1e9},
        "settings": {}, "sides": sides,
    }  # fmt: skip
    assert any("no measurement" in line for line in told(found)) == (others > 0)
    assert not any("update phase" in line for line in told(found))
    sides[0]["pieces"][0] |= {"update": 1.5, "update floor": 0.9}
    assert "  update phase 1.50 s, 60% used" in told(found) and "update phase 1.50 s, 60% used" in page({"a": found})
    assert ("only **!**" in page({"a": found}).replace("completion ", "")) == (others > 0)


def test_a_step_of_a_stage_is_a_piece(tmp_path: Path) -> None:
    from sides.heed_side import stage
    from sides.inputs import Shape, write

    class Asked:
        """Two steps are asked for."""

        def __init__(self) -> None:
            self.counted: list[tuple[float, ...]] = []
            self.done_steps = 0

        def begin(self) -> None:
            if self.done_steps == 2:
                raise StopIteration("no more is asked for")

        def count(self, *numbers: float) -> None:
            self.counted.append(numbers)

        def done(self, **measured: float) -> None:
            self.done_steps += 1
            self.measured = measured

    shape = Shape(layers=1, width=16, heads=2, vocab=96, context=96, batch=8, response=8, shorter=4)
    write(tmp_path, shape)
    for work, rows in (("sft", 16), ("reward", 1), ("ppo", 8)):
        asked = Asked()
        with pytest.raises(RuntimeError, match="StopIteration"):
            stage(work, tmp_path, shape, asked)
        steps = asked.counted[-2:] if work != "reward" else asked.counted
        assert len(steps) == (32 if work == "reward" else 2) and {row[0] for row in steps} == {rows}
        assert all(prompts > 0 and responses > 0 for _, prompts, responses in steps)
        assert (asked.measured.get("update", 0) > 0) == (work == "ppo")
