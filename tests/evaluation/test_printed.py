from __future__ import annotations

from typing import Any

import pytest
import torch

from heed.evaluation import printed
from heed.evaluation.printed import blocks, print_answers, print_compared, print_in_blocks, with_interval
from heed.evaluation.side_by_side import Answered, compared
from heed.records import Prompt, Turn

NAMES = ["sft", "base", "base-4-shot", "ppo", "ppo-ptx", "best-of-16"]


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(printed, "PLAIN_WIDTH", 80)


def answers(seed: int, count: int = 40) -> Answered:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1000, 3000, (count,), generator=generator).tolist()
    scores = {"rm": -10 * torch.rand(count, generator=generator)}
    texts = [f"an answer of many words {i % 7} to a question, " * 4 + "END." for i in range(count)]
    return Answered(texts, [i % 3 > 0 for i in range(count)], lengths, scores, None, torch.rand(9, generator=generator))


@pytest.mark.usefixtures("narrow")
@pytest.mark.parametrize("count", range(2, 7))
def test_an_evaluation_of_two_to_six_models_fits_80_columns(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    records = [Prompt((Turn("user", f"what is {i}?"),), "an answer of three words") for i in range(40)]
    answered = {name: answers(i) for i, name in enumerate(NAMES[:count])}
    told: dict[str, Any] = {**compared(records, answered, 0, ["bleu"], {}), "prompts": 40, "judge": "rm"}
    print_compared(told, records, answered)
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    figures = shown.partition("intervals]")[2]
    for name, model in told["models"].items():
        for figure in (
            model["score"]["rm"],
            model["length"],
            model["eos_rate"],
            model["bleu"],
            model["nats_per_token"],
        ):
            assert with_interval(figure) in figures  # whole, on one line
        lines = [line for line in figures.splitlines() if line.split()[:1] == [name]]
        assert len(lines) == figures.count("model ")  # one line of each block
    assert shown.count("END.") == 6 * count  # answers are whole too
    for title in ("score", "win rate", "KL", "length", "EOS", "BLEU", "distinct-2", "nats/token"):
        assert figures.count(title) == 1


def test_a_block_holds_what_fits_and_no_more() -> None:
    rows = [{"model": "abc", "x": "1" * 10, "y": "2" * 10, "z": "3" * 10}]
    for width, expected in ((41, [["x", "y", "z"]]), (40, [["x", "y"], ["z"]]), (28, [["x"], ["y"], ["z"]])):
        found = [list(block[0]) for block in blocks(rows, width)]
        assert found == [["model", *names] for names in expected]
    long = [{"model": "m" * 60, "x": "1" * 30, "y": "2" * 30}]  # a name is broken before a block is
    assert len(list(blocks(long, 88))) == 1
    assert len(list(blocks(long, 87))) == 2


@pytest.mark.usefixtures("narrow")
def test_long_names_are_broken_and_stay_whole(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a-model-of-a-name-that-nobody-would-want-to-type"
    print_in_blocks([{"model": name, "score": "0.1 [0, 0.2]", "KL": "1 [0, 2]"}])
    print_answers([{"prompt": "q", name: "text " * 30, f"{name}: score": 0.25}], "first")
    shown = capsys.readouterr().out
    assert max(map(len, shown.splitlines())) <= 80
    assert "0.1 [0, 0.2]" in shown and "0.25" in shown
    assert shown.count(name[:24]) == 2 and shown.count(name[24:48]) == 2


def test_intervals_are_short() -> None:
    assert with_interval({"estimate": 0.61234, "low": -0.5, "high": 1234.56}) == "0.612 [-0.5, 1235]"
    assert with_interval({"estimate": None, "low": 0.0, "high": 1.0}) == "– [0, 1]"
    assert with_interval(None) == "–"
