"""Rollouts of any library from a JSONL file, a response a line; `docs/negative-kl.md` describes the columns."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heed.errors import DataError
from heed.records import read_objects

IDS = ("prompt_ids", "response_ids")
LINES = ("sampler_logprobs", "policy_logprobs", "policy_logprobs_again", "ref_logprobs")
OTHER = ("mask", "scored_prompt_ids", "scored_response_ids", "eos_id", "pad_id", "sampler", "sampler_version",
         "scorer_version", "initial")  # fmt: skip


@dataclass(frozen=True)
class Rollouts:
    """What the file holds. Prompts are LEFT padded, responses RIGHT padded, with `pad`.

    `lines` are the per-token columns that the file has, 0 in the padding. `counted` is the file's own mask, or every
    given token up to the first end-of-text where it has none; `written` ends with that end, which a mask may have lost.
    """

    prompts: Int[Tensor, "batch prompt"]
    prompt_mask: Bool[Tensor, "batch prompt"]
    responses: Int[Tensor, "batch response"]
    counted: Bool[Tensor, "batch response"]
    written: Bool[Tensor, "batch response"]
    given: Bool[Tensor, "batch response"]
    lines: dict[str, Float[Tensor, "batch response"]]
    has_mask: bool
    eos: int | None
    pad: int | None
    sampler: dict[str, Any]
    columns: dict[str, list[Any]] = field(default_factory=dict)


def read_rollouts(path: Path) -> Rollouts:
    """Read and check the file. Raises DataError naming the line: an unknown column, a wrong length, a missing value."""
    rows = []
    for number, row in read_objects(path):
        _check(row, f"{path}:{number}", rows[0] if rows else row)
        rows.append(row)
    if not rows:
        raise DataError(str(path), "holds no rows", "write one JSON object a response")
    eos, pad = (rows[0].get(name) for name in ("eos_id", "pad_id"))
    fill = pad if pad is not None else eos if eos is not None else 0
    prompts, responses = (_padded([row[name] for row in rows], fill, name == "prompt_ids", torch.long) for name in IDS)
    given = _padded([[1] * len(row["response_ids"]) for row in rows], 0, False, torch.bool)
    prompt_mask = _padded([[1] * len(row["prompt_ids"]) for row in rows], 0, True, torch.bool)
    is_eos = (responses == eos) & given if eos is not None else torch.zeros_like(given)
    until_end = given & (is_eos.long().cumsum(1) - is_eos.long() == 0)
    has_mask = "mask" in rows[0]
    counted = _padded([row["mask"] for row in rows], 0, False, torch.bool) if has_mask else until_end
    before = torch.cat([torch.ones_like(counted[:, :1]), counted[:, :-1]], 1)
    written = until_end & (counted | (is_eos & before))  # a mask that drops end-of-text does not undo its being drawn
    lines = {name: _padded([row[name] for row in rows], 0.0, False, torch.float32) for name in LINES if name in rows[0]}
    columns = {name: [row[name] for row in rows] for name in (*IDS, *OTHER) if name in rows[0]}
    sampler = rows[0].get("sampler") or {}
    return Rollouts(prompts, prompt_mask, responses, counted, written, given, lines, has_mask, eos, pad,
                    sampler, columns)  # fmt: skip


def _check(row: dict[str, Any], where: str, first: dict[str, Any]) -> None:
    for name in row:
        if name not in (*IDS, *LINES, *OTHER):
            known = ", ".join((*IDS, *LINES, *OTHER))
            raise DataError(where, f"unknown column {name!r}", f"known are {known}")
    for name in IDS:
        if not _is_list(row.get(name), int) or not row[name]:
            raise DataError(where, f"`{name}` is not a list of token ids", "write the ids without padding")
    if row.keys() != first.keys():
        differ = ", ".join(sorted(row.keys() ^ first.keys()))
        raise DataError(
            where, f"has other columns than the first row: {differ}", "give a column to all rows or to none"
        )
    for name in (*LINES, "mask"):
        if name in row and (not _is_list(row[name], float) or len(row[name]) != len(row["response_ids"])):
            wanted = len(row["response_ids"])
            raise DataError(where, f"`{name}` is not a list of {wanted} numbers", "one number for each response id")
    for name in ("eos_id", "pad_id"):
        if row.get(name) != first.get(name):
            raise DataError(where, f"`{name}` is not that of the first row", "write one model's rollouts to a file")


def _is_list(value: Any, kind: type) -> bool:
    accepted = (int,) if kind is int else (int, float)
    return isinstance(value, list) and all(
        isinstance(item, accepted) and (kind is float or not isinstance(item, bool)) for item in value
    )


def _padded(rows: list[list[Any]], fill: float, left: bool, dtype: torch.dtype) -> Tensor:
    longest = max(len(row) for row in rows)
    whole = [[fill] * (longest - len(row)) + row if left else row + [fill] * (longest - len(row)) for row in rows]
    return torch.tensor(whole, dtype=dtype)
