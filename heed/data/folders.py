"""A directory → the data files of one split in it. Nothing outside the directory is ever read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from heed.errors import DataError
from heed.jsonl import decoded, parse_json, read_bytes
from heed.words import listed, reason, short


def split_files(folder: Path, split: str) -> list[Path]:
    """Files of a split, in the layout of the hub or as `datasets` saves (`save_to_disk`), one split or several."""
    if (folder / "dataset_dict.json").is_file():
        return _saved_files(_saved_split(folder, split))
    if (folder / "state.json").is_file():
        return _saved_files(folder)
    return _hub_files(folder, split)


def _saved_split(folder: Path, split: str) -> Path:
    told = _description(folder / "dataset_dict.json")
    splits = told.get("splits")
    if not isinstance(splits, list) or split not in splits:
        raise _no_split(folder, split, f"saved there are {listed(splits if isinstance(splits, list) else [])}")
    return folder / _plain_name(split, folder)


def _saved_files(folder: Path) -> list[Path]:
    """Files of one saved data set, in their order."""
    state = folder / "state.json"
    told = _description(state)
    if told.get("_indices_data_files") or told.get("_indices_files"):
        raise DataError(str(folder), "is saved with an index of its rows", "save it again with datasets 2 or newer")
    files = told.get("_data_files")
    if not isinstance(files, list) or not all(isinstance(file, dict) for file in files):
        raise DataError(str(state), f"`_data_files` is {short(files)}, not a list of files", "save the data set again")
    return [_inside(folder / _plain_name(file.get("filename"), state), folder) for file in files]


def _description(path: Path) -> dict[str, Any]:
    hint = "save the data set again"
    told = parse_json(decoded(read_bytes(path), str(path), hint), str(path), hint)
    if not isinstance(told, dict):
        raise DataError(str(path), f"is {short(told)}, not an object", hint)
    return told


def _plain_name(name: object, place: Path) -> str:
    if not isinstance(name, str) or not name.isprintable() or name in ("", ".", "..") or {"/", "\\"} & set(name):
        raise DataError(str(place), f"{short(name)} is not the name of a file beside it", "save the data set again")
    return name


def _hub_files(folder: Path, split: str) -> list[Path]:
    import datasets
    import yaml

    try:
        config = datasets.load_dataset_builder(str(folder)).config
    except (OSError, ValueError, RuntimeError, ImportError, TypeError, AttributeError, KeyError, yaml.YAMLError,
            datasets.exceptions.DatasetsError) as error:  # fmt: skip
        raise _no_split(folder, split, reason(error)) from error
    found = {str(name): files for name, files in (config.data_files or {}).items()}
    if not found.get(split):
        raise _no_split(folder, split, f"splits there: {listed(sorted(found))}")
    return [_inside(Path(str(file)), folder) for file in found[split]]


def _inside(file: Path, folder: Path) -> Path:
    """The file, which neither `..` nor a link may lead out of the directory; the hub's own cache links to its blobs."""
    whole = folder.resolve()
    cache = next((place.parent for place in whole.parents if place.name == "snapshots"), None)
    there = file.resolve()
    if not there.is_relative_to(whole) and not (cache and there.is_relative_to(cache / "blobs")):
        hint = "copy the file into the directory, or name it itself"
        raise DataError(str(folder), f"its file {short(str(file))} lies outside of it", hint)
    return file


def _no_split(folder: Path, split: str, why: str) -> DataError:
    hint = f"expected are files such as data/{split}-00000-of-00001.parquet or {split}.jsonl in it"
    return DataError(str(folder), f"no rows of split `{split}` in this directory: {why}", hint)
