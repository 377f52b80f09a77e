"""Labels as files: the same bytes twice, read by what trains on them, harmless in a spreadsheet."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from heed.data.sources import read_demonstrations, read_rankings
from heed.errors import ConfigError
from heed.labeling import exports, files
from heed.labeling.export_rows import Export
from heed.labeling.exports import harmless, made
from heed.labeling.files import write_files
from heed.labeling.messages import Judged, Skip, Submission, Written
from heed.labeling.store.answers import keep_exchange, vote
from heed.labeling.store.database import Database
from heed.labeling.store.people import Labeler
from heed.records import Ranking, Turn, read_jsonl
from heed.settings.common import DataSettings

from .conftest import Room, room, task


def say(here: Room, labeler: Labeler, number: int, ranks: list[int], **more: Any) -> None:
    """Rank the task in hand, which must be `prompt number`, giving ranks by candidate."""
    found = here.desk.turnout(labeler.id).task
    assert found is not None and found.prompt[0].pieces[0].text == f"prompt {number}"
    slots = [int(card.text[-1]) for card in found.cards]
    judged = Judged(ranks=[ranks[k] for k in slots], **more)
    here.desk.rank(labeler.id, Submission(task=found.task, judged=judged, seconds=12.5))


@pytest.fixture
def labeled(sqlite: Database) -> Room:
    """Two tasks of three responses: Anna and Bert agree on the first and differ on the second; Cleo is held out."""
    gold = replace(task(9, 3), gold=(1, 2, 3))
    here = room(sqlite, [task(1, 3), task(2, 3), gold], reviewers=2, gold_every=2)
    anna, bert, cleo = here.welcome("anna"), here.welcome("bert"), here.welcome("cleo", group="held_out")
    say(here, anna, 1, [2, 1, 2], note="=1+1")
    say(here, bert, 1, [3, 1, 2])
    say(here, anna, 2, [1, 2, 3])
    say(here, bert, 2, [3, 2, 1], none_acceptable=True)
    say(here, cleo, 1, [1, 1, 1])
    say(here, anna, 9, [1, 2, 3])
    return here


def rows(database: Database, **export: Any) -> list[dict[str, Any]]:
    content, about = made(database, Export(**export))
    assert about["sha256"] == hashlib.sha256(content).hexdigest()
    lines = content.decode().splitlines()
    assert about["rows"] == len(lines)
    return [json.loads(line) for line in lines]


def test_rankings_are_what_was_said_without_gold_and_held_out(labeled: Room) -> None:
    found = rows(labeled.database)
    said = [(row["prompt"], row["ranks"], row["ties"]) for row in found]
    assert said == [
        ("prompt 1", [2, 1, 2], 1),
        ("prompt 1", [3, 1, 2], 0),
        ("prompt 2", [1, 2, 3], 0),
        ("prompt 2", [3, 2, 1], 0),
    ]
    assert found[0]["responses"] == ["response 1.0", "response 1.1", "response 1.2"]
    assert found[0]["models"] == ["model-0", "model-1", "model-2"]
    assert (found[0]["note"], found[0]["seconds"]) == ("=1+1", 12.5)
    assert found[3]["none_acceptable"] is True and "none_acceptable" not in found[0]
    assert found[0]["task"] == found[1]["task"] != found[2]["task"]


def test_labelers_are_pseudonyms(labeled: Room) -> None:
    found = rows(labeled.database)
    assert found[0]["labeler"] == found[2]["labeler"] != found[1]["labeler"] == found[3]["labeler"]
    for export in ("rankings", "pairs", "argilla"):
        content, _ = made(labeled.database, Export(format=export))  # type: ignore[arg-type]
        assert b"anna" not in content and b"bert" not in content


def test_groups_and_labelers_choose(labeled: Room) -> None:
    assert [row["ranks"] for row in rows(labeled.database, group="held_out")] == [[1, 1, 1]]
    assert len(rows(labeled.database, group="all")) == 5
    assert [row["ranks"] for row in rows(labeled.database, labelers=("bert",))] == [[3, 1, 2], [3, 2, 1]]


def test_agreement_chooses_tasks(labeled: Room) -> None:
    # task 1: untied by both are (0, 1) and (1, 2), alike both times: 1. Task 2: three pairs, all the other way: 0.
    assert [row["prompt"] for row in rows(labeled.database, agreement=0.9)] == ["prompt 1", "prompt 1"]
    assert rows(labeled.database, agreement=0.9, labelers=("anna",)) == []  # one person agrees with nobody


def test_pairs_by_hand_with_ties_dropped_or_halved(labeled: Room) -> None:
    dropped = rows(labeled.database, format="pairs", labelers=("anna",))
    pairs = [(row["chosen"], row["rejected"], row["rank_gap"]) for row in dropped]
    assert pairs == [
        ("response 1.1", "response 1.0", 1),
        ("response 1.1", "response 1.2", 1),
        ("response 2.0", "response 2.1", 1),
        ("response 2.0", "response 2.2", 2),
        ("response 2.1", "response 2.2", 1),
    ]
    halved = rows(labeled.database, format="pairs", labelers=("anna",), ties="half")
    tied = [(row["chosen"], row["rejected"], row["weight"]) for row in halved if row["rank_gap"] == 0]
    assert tied == [("response 1.0", "response 1.2", 0.5), ("response 1.2", "response 1.0", 0.5)]
    assert len(halved) == len(dropped) + 2


def test_pairs_of_a_dialogue_are_conversational(sqlite: Database) -> None:
    dialogue = (Turn("user", "hi"), Turn("assistant", "hello"), Turn("user", "prompt 1"))
    here = room(sqlite, [task(1, 2, prompt=dialogue)], mode="pairwise")
    anna = here.welcome("anna")
    found = here.desk.turnout(anna.id).task
    assert found is not None
    better = [1 if card.text == "response 1.1" else 2 for card in found.cards]
    here.desk.rank(anna.id, Submission(task=found.task, judged=Judged(ranks=better)))
    (row,) = rows(sqlite, format="pairs")
    assert row["prompt"] == [{"role": turn.role, "content": turn.content} for turn in dialogue]
    assert row["chosen"] == [{"role": "assistant", "content": "response 1.1"}]


def test_the_same_labels_give_the_same_bytes(labeled: Room, tmp_path: Path) -> None:
    for format in ("rankings", "pairs", "demonstrations", "argilla", "csv"):
        export = Export(format=format)  # type: ignore[arg-type]
        path = tmp_path / format
        exports.write(labeled.database, export, path)
        first = path.read_bytes(), Path(f"{path}.about.json").read_bytes()
        exports.write(labeled.database, export, path)
        assert (path.read_bytes(), Path(f"{path}.about.json").read_bytes()) == first
        assert sorted(file.name for file in tmp_path.iterdir() if "partial" in file.name) == []


def test_the_file_trains_a_reward_model_as_it_is(labeled: Room, tmp_path: Path) -> None:
    about = exports.write(labeled.database, Export(), tmp_path / "rankings.jsonl")
    assert about["rows"] == 4 and len(about["labelers"]) == 2
    read = read_rankings(DataSettings(path=str(tmp_path / "rankings.jsonl")), seed=0)
    assert [row.ranks for row in read] == [(2, 1, 2), (3, 1, 2), (1, 2, 3), (3, 2, 1)]
    assert [row.ranks for row in read_jsonl(tmp_path / "rankings.jsonl", Ranking)] == [row.ranks for row in read]
    assert read[0].seconds == 12.5
    exports.write(labeled.database, Export(format="pairs"), tmp_path / "pairs.jsonl")
    pairs = read_rankings(DataSettings(path=str(tmp_path / "pairs.jsonl")), seed=0)
    assert pairs[0].responses == ("response 1.1", "response 1.0") and pairs[0].ranks == (1, 2)


def test_ratings_alone_are_an_order(sqlite: Database) -> None:
    here = room(sqlite, [task(1, 3)], mode="likert")
    anna = here.welcome("anna")
    found = here.desk.turnout(anna.id).task
    assert found is not None
    rating = {"response 1.0": 3, "response 1.1": 7, "response 1.2": 3}
    here.desk.rank(anna.id, Submission(task=found.task, judged=Judged(likert=[rating[c.text] for c in found.cards])))
    (row,) = rows(sqlite)
    assert (row["ranks"], row["likert"]) == ([2, 1, 2], [3, 7, 3])


def test_demonstrations_are_what_was_written(sqlite: Database, tmp_path: Path) -> None:
    here = room(sqlite, [task(1, 2, kind="write"), task(2, 0)], mode="write")
    anna = here.welcome("anna")
    found = here.desk.turnout(anna.id).task
    assert found is not None
    slot = [card.text for card in found.cards].index("response 1.1")
    here.desk.write(anna.id, Written(task=found.task, text="my answer", edited_slot=slot, seconds=40))
    found = here.desk.turnout(anna.id).task
    assert found is not None and found.cards == []
    here.desk.write(anna.id, Written(task=found.task, text="another", seconds=20))
    first, second = rows(sqlite, format="demonstrations")
    assert (first["prompt"], first["response"], first["edited_from"]) == ("prompt 1", "my answer", "response 1.1")
    assert "edited_from" not in second
    write_files(sqlite, tmp_path)
    read = read_demonstrations(DataSettings(path=str(tmp_path / "demonstrations.jsonl")), seed=0)
    assert [row.response for row in read] == ["my answer", "another"]
    assert not (tmp_path / "rankings.jsonl").exists()


def test_a_vote_is_a_comparison(sqlite: Database) -> None:
    here = room(sqlite, [])
    anna, bert = here.welcome("anna"), here.welcome("bert")
    shown = {"prompt": [{"role": "user", "content": "hi"}], "responses": ["a", "b"], "finished": [True, False]}
    with sqlite.write() as connection:
        number = keep_exchange(connection, anna, {**shown, "models": ["ppo", "sft"]}, 1.0)
        assert vote(connection, bert, number, "second", 2.0, 3.0) is None  # not his
        assert vote(connection, anna, number, "second", 2.0, 3.0) == ["ppo", "sft"]
        assert vote(connection, anna, number, "second", 2.0, 3.0) == ["ppo", "sft"]
        assert vote(connection, anna, number, "first", 2.0, 3.0) is None
    (row,) = rows(sqlite)
    assert (row["responses"], row["ranks"], row["finished"]) == (["a", "b"], [2, 1], [True, False])
    assert row["models"] == ["ppo", "sft"]


def test_argilla_records_have_fields_and_a_ranking(labeled: Room) -> None:
    first = rows(labeled.database, format="argilla")[0]
    assert first["fields"]["response_2"] == "response 1.1"
    value = first["responses"]["ranking"][0]["value"]
    assert [(each["value"], each["rank"]) for each in value] == [
        ("response_1", 2),
        ("response_2", 1),
        ("response_3", 2),
    ]


@pytest.mark.parametrize("cell", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "  =1", "＝1"])
def test_no_cell_is_a_formula(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


def test_other_cells_stay_as_they_are() -> None:
    for cell in ("a = b", "1", "", 3, 2.5):
        assert harmless(cell) == cell


def test_csv_holds_no_formula_of_a_response(sqlite: Database) -> None:
    hostile = task(1, 2, candidates=tuple(replace(c, text="=cmd|' /C calc'!A0") for c in task(1, 1).candidates) * 2)
    here = room(sqlite, [hostile], mode="pairwise")
    assert here.answer(here.welcome("anna"), [1, 2]) is not None
    content, _ = made(sqlite, Export(format="csv"))
    table = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert [row["response"] for row in table] == ["'=cmd|' /C calc'!A0"] * 2
    assert sorted(row["rank"] for row in table) == ["1", "2"]


def test_files_beside_the_database_follow_it(labeled: Room, tmp_path: Path) -> None:
    assert write_files(labeled.database, tmp_path) == {"rankings.jsonl": 4, "rankings.held-out.jsonl": 1}
    labeled.desk.undo(labeled.welcome("cleo").id)
    assert write_files(labeled.database, tmp_path) == {"rankings.jsonl": 4, "rankings.held-out.jsonl": 0}


def test_while_the_page_is_open_a_process_of_its_own_writes_the_files(
    sqlite: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, until: Callable[[Callable[[], bool]], None]
) -> None:
    """In this process nothing is written before the end: an answer must not wait for an export."""
    here, place = room(sqlite, [task(1), task(2)]), tmp_path / "place"
    monkeypatch.setattr(files, "EVERY", 0.05)
    monkeypatch.setattr(files, "write_files", lambda *_: {})
    with files.kept_up_to_date(sqlite, place):
        assert here.answer(here.welcome("anna"), [1, 2, 3, 4]) is not None
        until(lambda: (place / "rankings.jsonl").exists())
    assert len((place / "rankings.jsonl").read_text().splitlines()) == 1


def test_files_that_cannot_be_written_while_the_page_is_open_are_told(
    sqlite: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    here = room(sqlite, [task(1)])
    assert here.answer(here.welcome("anna"), [1, 2, 3, 4]) is not None
    (tmp_path / "file").write_text("x")
    with caplog.at_level("WARNING", "heed"):
        assert not files._write_in_a_process(sqlite, tmp_path / "file")
    assert "the files of labels could not be written" in caplog.text and "cannot be written" in caplog.text


def test_a_place_that_cannot_be_written_is_told(labeled: Room, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"):
        exports.write(labeled.database, Export(), tmp_path / "file" / "rankings.jsonl")


def test_skips_are_not_exported(sqlite: Database) -> None:
    here = room(sqlite, [task(1)])
    anna = here.welcome("anna")
    found = here.desk.turnout(anna.id).task
    assert found is not None
    here.desk.skip(anna.id, Skip(task=found.task, reason="other", note="x"))
    assert rows(sqlite) == []
