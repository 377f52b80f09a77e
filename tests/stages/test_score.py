"""`heed score`: every response's score, the pairs that the reward model gets wrong, and their way back to people."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch

from heed import cli
from heed.data.encode import encode_prompt, encode_response
from heed.data.template import Template
from heed.errors import ConfigError, DataError
from heed.labeling.queue import open_labels
from heed.labeling.store import tasks
from heed.models.roles import Shelf
from heed.models.scores import score_texts
from heed.records import Turn
from heed.settings.common import LoraSettings, OptimizerSettings, SamplingSettings
from heed.settings.reward import RewardSettings, ScoreSettings
from heed.stages import reward, score

from ..labeling.conftest import write_candidates

Row = dict[str, Any]


def lines(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write(path: Path, rows: list[Row]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def rankings(count: int, first: int = 0) -> list[Row]:
    """The best has a `!`; two people rank each, and the second finds two of three alike."""
    rows = []
    for i in range(first, first + count):
        responses = [f"so {i}", f"yes! {i}", "may" + "be" * (i % 3)]
        rows.append({"prompt": f"q{i}", "responses": responses, "ranks": [3, 1, 2], "labeler": "ann", "source": "x"})
        rows.append({"prompt": f"q{i}", "responses": responses, "ranks": [2, 1, 2], "labeler": "ben", "source": "x"})
    return rows


@pytest.fixture(scope="module")
def trained(tiny_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> RewardSettings:
    """A reward model, and `held-out.jsonl` that it was measured on."""
    place = tmp_path_factory.mktemp("score")
    settings = RewardSettings(
        model=str(tiny_directory), data=write(place / "train.jsonl", rankings(40)), output=str(place / "reward"),
        validation=write(place / "held-out.jsonl", rankings(25, 100)), max_tokens=48, batch=8, evaluations=1,
        lora=LoraSettings(rank=4, alpha=8), optimizer=OptimizerSettings(learning_rate=3e-3), normalise_prompts=16,
        sampling=SamplingSettings(max_new_tokens=8, batch=8), microbatch_tokens=200,
    )  # fmt: skip
    reward.run(settings)
    return settings


@pytest.fixture(scope="module")
def scored(trained: RewardSettings, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("scores") / "run"
    return score.run(ScoreSettings(model=trained.output, data=trained.validation, output=str(output), max_tokens=48))


def test_its_accuracy_is_that_of_the_training_run(trained: RewardSettings, scored: Path) -> None:
    measured, found = (json.loads(Path(run, "report.json").read_text()) for run in (trained.output, scored))
    assert 0 < found["accuracy"]["estimate"] < 1
    assert found["accuracy"] == measured["accuracy"]
    assert found["nll"]["estimate"] == pytest.approx(measured["nll"]["estimate"], abs=1e-5)


def test_each_response_has_its_normalised_score(trained: RewardSettings, scored: Path) -> None:
    model = Shelf(lambda _: torch.float32, torch.device("cpu")).reward_model(trained.output, "reward")
    template, tokenizer = Template.named("dialogue", model.trunk.tokenizer), model.trunk.tokenizer
    rows = lines(scored / "scores.jsonl")
    assert len(rows) == 50 and [row["labeler"] for row in rows[:2]] == ["ann", "ben"]
    row = rows[6]
    prompt = encode_prompt((Turn("user", row["prompt"]),), template, tokenizer)
    texts = [prompt + encode_response(response, template, tokenizer) for response in row["responses"]]
    assert row["scores"] == pytest.approx(score_texts(model, texts, 500).tolist(), abs=1e-5)


def test_wrong_are_the_pairs_that_people_order_otherwise(scored: Path) -> None:
    rows = lines(scored / "scores.jsonl")
    wrong = right = 0
    for row in rows:
        places = range(len(row["ranks"]))
        ordered = [(i, j) for i in places for j in places if row["ranks"][i] < row["ranks"][j]]
        assert row["wrong"] == [[i, j] for i, j in ordered if row["scores"][i] < row["scores"][j]]
        wrong, right = wrong + len(row["wrong"]), right + len(ordered) - len(row["wrong"])
    assert wrong and right
    assert json.loads((scored / "report.json").read_text())["wrong"]["pairs"] == wrong
    worst = lines(scored / "wrong.jsonl")
    assert len(worst) == len({row["prompt"] for row in rows if row["wrong"]})
    margins = [pair["scores"][1] - pair["scores"][0] for pair in worst]
    assert margins == sorted(margins, reverse=True) and margins[-1] > 0
    widest = max(row["scores"][j] - row["scores"][i] for row in rows for i, j in row["wrong"])
    assert margins[0] == widest


def test_candidates_are_scored_without_a_ranking(trained: RewardSettings, tmp_path: Path) -> None:
    data = write(tmp_path / "c.jsonl", [{"prompt": "q", "responses": ["a", "b", "b"], "finished": [True] * 3}] * 5)
    run = score.run(ScoreSettings(model=trained.output, data=data, output=str(tmp_path / "run")))
    rows = lines(run / "scores.jsonl")
    assert [len(row["scores"]) for row in rows] == [3] * 5
    assert not any("wrong" in row or "ranks" in row for row in rows)
    assert "accuracy" not in json.loads((run / "report.json").read_text())


def test_the_worst_pairs_go_back_to_the_labels(
    trained: RewardSettings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labeled = str(write_candidates(tmp_path / "candidates.jsonl", 3))
    command = ["score", "--model", trained.output, "--data", trained.validation.path, "--queue", labeled]
    command += ["--queue_most", "2", "--max_tokens", "48"]
    assert cli.main([*command, "--output", str(tmp_path / "first")]) == 2
    assert "label first: heed label" in capsys.readouterr().err
    assert cli.main(["label", labeled, "--simulate", "long", "--port", "0", "--no-browser"]) == 0
    for run in ("first", "again"):
        assert cli.main([*command, "--output", str(tmp_path / run), "--overwrite"]) == 0
    with closing(open_labels(labeled)) as database, database.read() as connection:
        queued = [task for task in tasks.read_all(connection) if len(task.candidates) == 2]
        asked = connection.exec_driver_sql("SELECT task_id, labeler_group, wanted, done FROM quotas").all()
    worst = lines(tmp_path / "first" / "wrong.jsonl")[:2]
    assert [[c.text for c in task.candidates] for task in queued] == [pair["responses"] for pair in worst]
    numbers = {task.id for task in queued}
    assert {tuple(row[1:]) for row in asked if row[0] in numbers} == {("train", 1, 0), ("held_out", 1, 0)}
    assert cli.main(["label", labeled, "--simulate", "long", "--port", "0", "--no-browser"]) == 0
    assert len(lines(tmp_path / "candidates.labels" / "rankings.jsonl")) == 5


def test_nothing_to_score_is_told(trained: RewardSettings) -> None:
    with pytest.raises(ConfigError, match="nothing to score is named"):
        score.run(ScoreSettings(model=trained.output, output="run"))


@pytest.mark.parametrize(
    ("responses", "helps"), [(["a", "a"], "a temperature above 0"), (["a " * 60, "b " * 60], "raise `max_tokens`")]
)
def test_the_hint_is_of_the_reason_for_which_all_are_lost(
    trained: RewardSettings, tmp_path: Path, responses: list[str], helps: str
) -> None:
    data = write(tmp_path / "c.jsonl", [{"prompt": "q", "responses": responses, "finished": [True] * 2}] * 3)
    with pytest.raises(DataError, match="nothing is left to score") as caught:
        score.run(ScoreSettings(model=trained.output, data=data, output=str(tmp_path / "run"), max_tokens=24))
    assert helps in caught.value.hint
