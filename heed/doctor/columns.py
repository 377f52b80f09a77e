"""Columns of a file of rollouts: what each may hold, checked where the file is read.

Whatever is not as `docs/negative-kl.md` describes it raises DataError with the line, the value, and what is accepted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from heed.errors import DataError
from heed.records import short

IDS = ("prompt_ids", "response_ids")
SCORED_IDS = ("scored_prompt_ids", "scored_response_ids", "ref_prompt_ids")
LINES = ("sampler_logprobs", "policy_logprobs", "policy_logprobs_again", "ref_logprobs")
VERSIONS = ("sampler_version", "scorer_version")
COLUMNS = (*IDS, *LINES, "mask", "eos_id", "pad_id", "sampler", *SCORED_IDS, *VERSIONS, "initial")

LARGEST_ID = 2**31 - 1  # more than any vocabulary has
LARGEST_NUMBER = 1e300  # a whole number above it is no float

Row = Mapping[str, Any]


def check_row(row: Row, where: str, first: Row) -> None:
    """Raises DataError where a row is not as described, or has not what the `first` row of its file has."""
    for name in row:
        if name not in COLUMNS:
            raise DataError(where, f"unknown column {name!r}", f"known are {', '.join(COLUMNS)}")
    for name in IDS:
        _check_ids(name, row.get(name), where)
        if not row[name]:
            raise DataError(where, f"`{name}` is empty", "leave the row out: there is nothing to test in it")
    if row.keys() != first.keys():
        differ = ", ".join(sorted(row.keys() ^ first.keys()))
        hint = "give a column to all rows or to none"
        raise DataError(where, f"has other columns than the first row: {differ}", hint)
    for name in SCORED_IDS:
        if name in row:
            _check_ids(name, row[name], where)
    for name in LINES:
        if name in row:
            _check_numbers(name, row[name], len(row["response_ids"]), where)
    _check_rest(row, where, first)


def _check_rest(row: Row, where: str, first: Row) -> None:
    if "mask" in row:
        _check_numbers("mask", row["mask"], len(row["response_ids"]), where)
        _check_each("mask", row["mask"], (0, 1), where, "1 counts a token, 0 does not")
    if "initial" in row:
        _check_each("initial", [row["initial"]], (0, 1), where, "write true or false, without quotes")
    for name in ("eos_id", "pad_id"):
        _check_special(name, row.get(name), where)
        if row.get(name) != first.get(name):
            raise DataError(where, f"`{name}` is not that of the first row", "write one model's rollouts to a file")
    if row.get("sampler") is not None and not isinstance(row["sampler"], dict):
        hint = 'write an object, such as {"temperature": 1.0, "top_k": 0}'
        raise DataError(where, f"`sampler` is {short(row['sampler'])}, which is not settings by name", hint)
    for name in VERSIONS:
        version = row.get(name)
        if not (version is None or isinstance(version, str | int | float)) or version != version:
            hint = "any number or text that changes with the weights"
            raise DataError(where, f"`{name}` is {short(version)}, which is not a version", hint)


def _check_ids(name: str, value: object, where: str) -> None:
    hint = "write one flat list of whole numbers a row, such as [464, 2068]: ids.tolist(), without padding"
    if not isinstance(value, list):
        raise DataError(where, f"`{name}` is not a list of token ids, but {short(value)}", hint)
    for item in value:
        if isinstance(item, bool) or not isinstance(item, int):
            raise DataError(where, f"`{name}` is not a list of token ids: it holds {short(item)}", hint)
        if not 0 <= item <= LARGEST_ID:
            told = "leave out what is ignored: -100 marks labels" if item < 0 else hint
            raise DataError(where, f"`{name}` holds {short(item)}, which is no token id", told)


def _check_numbers(name: str, value: object, count: int, where: str) -> None:
    hint = "one number for each response id"
    if not isinstance(value, list) or len(value) != count:
        is_list = isinstance(value, list)
        shown = f"a list of {len(value)}" if is_list else short(value)  # type: ignore[arg-type]
        raise DataError(where, f"`{name}` is not a list of {count} numbers, but {shown}", hint)
    for item in value:
        is_number = isinstance(item, int | float) and (name == "mask" or not isinstance(item, bool))
        if not is_number or (isinstance(item, int) and abs(item) > LARGEST_NUMBER):
            raise DataError(where, f"`{name}` holds {short(item)}, which is not a number", hint)


def _check_each(name: str, values: list[Any], accepted: tuple[int, ...], where: str, hint: str) -> None:
    for value in values:
        if isinstance(value, str) or value not in accepted:
            raise DataError(where, f"`{name}` holds {short(value)}", hint)


def _check_special(name: str, value: object, where: str) -> None:
    """`pad_id` is an id or null; `eos_id` may be a list of ids."""
    several = name == "eos_id" and isinstance(value, list)
    items: list[Any] = list(value) if several else [value]  # type: ignore[call-overload]
    if value is None:
        return
    wanted = "a token id, or a list of them" if name == "eos_id" else "a token id"
    if not items:
        raise DataError(where, f"`{name}` is an empty list", f"write {wanted}, or leave the column out")
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int) or not 0 <= item <= LARGEST_ID:
            hint = f"write {wanted}, or leave the column out"
            raise DataError(where, f"`{name}` holds {short(item)}, which is no token id", hint)
