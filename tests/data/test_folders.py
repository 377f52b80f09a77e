"""Directories: the hub's layout, saved data sets, and what leads out of them."""

from __future__ import annotations

import json
from pathlib import Path

import datasets
import pytest

from heed.data.sources import read_demonstrations
from heed.errors import DataError
from heed.settings.common import DataSettings

ROWS = [{"prompt": f"Question {i}?", "response": f"Answer {i}."} for i in range(3)]
SECRET = json.dumps({"prompt": "secret", "response": "secret"}) + "\n"


def read(folder: Path, split: str = "train") -> list[str]:
    return [record.response for record in read_demonstrations(DataSettings(path=str(folder), split=split), 0)]


def test_saved_data_sets(tmp_path: Path) -> None:
    whole = datasets.Dataset.from_list(ROWS)
    whole.save_to_disk(tmp_path / "one", num_shards=2)
    datasets.DatasetDict({"train": whole, "test": whole.select([2])}).save_to_disk(tmp_path / "several")
    expected = [row["response"] for row in ROWS]
    assert read(tmp_path / "one") == read(tmp_path / "several") == expected
    assert read(tmp_path / "several", "test") == expected[2:]
    with pytest.raises(DataError, match="no rows of split `validation` in this directory: saved there are train, test"):
        read(tmp_path / "several", "validation")


def test_a_row_of_a_directory_is_named_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "train.jsonl").write_text(json.dumps(ROWS[0]) + "\nnonsense\n")
    with pytest.raises(DataError) as caught:
        read(tmp_path)
    assert caught.value.where == f"{tmp_path / 'train.jsonl'}:2"


def test_csv_in_a_directory(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "train.csv").write_text("prompt,response\np,r\n")
    assert read(tmp_path) == ["r"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory whose neighbour is nobody's business."""
    (tmp_path / "secret.jsonl").write_text(SECRET)
    (tmp_path / "folder").mkdir()
    return tmp_path / "folder"


@pytest.mark.parametrize("path", ["../secret.jsonl", "{}/secret.jsonl"])
def test_a_card_cannot_lead_out(folder: Path, path: str) -> None:
    path = path.format(folder.parent)
    card = f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {path}\n---\n"
    (folder / "README.md").write_text(card)
    with pytest.raises(DataError, match=r"secret.jsonl' lies outside of it"):
        read(folder)


def test_a_link_cannot_lead_out(folder: Path) -> None:
    (folder / "train.jsonl").symlink_to(folder.parent / "secret.jsonl")
    with pytest.raises(DataError, match="lies outside of it"):
        read(folder)
    (folder / "train.jsonl").unlink()
    (folder / "train.jsonl").write_text(SECRET)  # as the hint says
    assert read(folder) == ["secret"]


def test_the_hubs_cache_links_to_its_blobs(tmp_path: Path) -> None:
    blobs, snapshot = tmp_path / "datasets--a--b" / "blobs", tmp_path / "datasets--a--b" / "snapshots" / "1f2e" / "data"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "abc").write_text(json.dumps(ROWS[0]) + "\n")
    (snapshot / "train.jsonl").symlink_to(blobs / "abc")
    assert read(snapshot.parent) == ["Answer 0."]


@pytest.mark.parametrize("name", ["../secret.jsonl", "/etc/passwd", "..", "", 3, None, "a\\b"])
def test_a_saved_data_set_cannot_lead_out(folder: Path, name: object) -> None:
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name}]}))
    with pytest.raises(DataError, match="is not the name of a file beside it"):
        read(folder)
    (folder / "dataset_dict.json").write_text(json.dumps({"splits": ["train", "../folder"]}))
    with pytest.raises(DataError):
        read(folder, "../folder")


@pytest.mark.parametrize("told", ["{", "[]", "{}", '{"_data_files": 3}', '{"_data_files": [3]}'])
def test_descriptions_that_are_none(folder: Path, told: str) -> None:
    (folder / "state.json").write_text(told)
    with pytest.raises(DataError) as caught:
        read(folder)
    assert caught.value.where.startswith(str(folder / "state.json"))


def test_a_data_set_saved_with_an_index(folder: Path) -> None:
    (folder / "state.json").write_text('{"_data_files": [], "_indices_data_files": [{"filename": "indices.arrow"}]}')
    with pytest.raises(DataError, match="with an index of its rows"):
        read(folder)
