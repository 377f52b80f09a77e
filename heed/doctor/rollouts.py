"""Rollouts of any library from a JSONL file, a response a line; `docs/negative-kl.md` describes the columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from heed.doctor.columns import IDS, LINES, SCORED_IDS, VERSIONS, check_row
from heed.errors import DataError
from heed.records import read_objects


@dataclass(frozen=True)
class Rollouts:
    """What the file holds. Prompts are LEFT padded, responses RIGHT padded, with `pad`.

    `lines` are the per-token columns that the file has, 0 in the padding. `counted` is the file's own mask, or every
    given token up to the first end-of-text where it has none; `written` ends with that end, which a mask may have lost.
    `eos` are the ids that end a text. `columns` are those of the file that are not tensors, `left_out` counts the rows
    of which no token counts.
    """

    prompts: Int[Tensor, "batch prompt"]
    prompt_mask: Bool[Tensor, "batch prompt"]
    responses: Int[Tensor, "batch response"]
    counted: Bool[Tensor, "batch response"]
    written: Bool[Tensor, "batch response"]
    given: Bool[Tensor, "batch response"]
    lines: dict[str, Float[Tensor, "batch response"]]
    has_mask: bool
    eos: tuple[int, ...]
    pad: int | None
    columns: dict[str, list[Any]] = field(default_factory=dict)
    left_out: int = 0

    @property
    def finite(self) -> dict[str, Float[Tensor, "batch response"]]:
        """The lines that have a number at every written token: nothing is judged by the others but that (T14)."""
        return {name: line for name, line in self.lines.items() if line[self.written].isfinite().all()}

    @property
    def initial(self) -> list[int]:
        """Rows from before the first update."""
        return [i for i, marked in enumerate(self.columns.get("initial", [])) if marked]

    def rows(self, numbers: Sequence[int]) -> Rollouts:
        """Some of the rows."""
        tensors = ("prompts", "prompt_mask", "responses", "counted", "written", "given")
        chosen = torch.tensor(numbers, dtype=torch.long)
        return replace(
            self,
            **{name: getattr(self, name)[chosen] for name in tensors},
            lines={name: line[chosen] for name, line in self.lines.items()},
            columns={name: [column[i] for i in numbers] for name, column in self.columns.items()},
        )


def read_rollouts(path: Path) -> Rollouts:
    """Read and check the file. Raises DataError naming the line: an unknown column, a wrong length, a missing value."""
    rows: list[dict[str, Any]] = []
    for number, row in read_objects(path):
        check_row(row, f"{path}:{number}", rows[0] if rows else row)
        rows.append(row)
    if not rows:
        raise DataError(str(path), "holds no rows", "write one JSON object a response")
    counting = [row for row in rows if any(row.get("mask", [1]))]
    if not counting:
        raise DataError(str(path), "`mask` is 0 at every token of every row", "write 1 where your KL counts a token")
    return replace(of_rows(counting), left_out=len(rows) - len(counting))


def of_rows(rows: Sequence[dict[str, Any]]) -> Rollouts:
    """Checked rows as tensors."""
    eos, pad = stops(rows[0].get("eos_id")), rows[0].get("pad_id")
    fill = pad if pad is not None else min(eos, default=0)
    prompts, responses = (_padded([row[name] for row in rows], fill, name == "prompt_ids", torch.long) for name in IDS)
    given = _padded([[1] * len(row["response_ids"]) for row in rows], 0, False, torch.bool)
    prompt_mask = _padded([[1] * len(row["prompt_ids"]) for row in rows], 0, True, torch.bool)
    is_eos = torch.isin(responses, torch.tensor(eos, dtype=torch.long)) & given
    until_end = given & (is_eos.long().cumsum(1) - is_eos.long() == 0)
    has_mask = "mask" in rows[0]
    counted = _padded([row["mask"] for row in rows], 0, False, torch.bool) if has_mask else until_end
    reached = counted.flip(1).cummax(1).values.flip(1)  # a hole in a mask is no end
    before = torch.cat([torch.ones_like(counted[:, :1]), reached[:, :-1]], 1)
    written = until_end & (reached | (is_eos & before))  # a mask that drops end-of-text does not undo its being drawn
    lines = {name: _padded([row[name] for row in rows], 0.0, False, torch.double).float()
             for name in LINES if name in rows[0]}  # fmt: skip
    kept = (*IDS, *SCORED_IDS, *VERSIONS, "sampler", "initial")
    columns = {name: [row[name] for row in rows] for name in kept if name in rows[0]}
    return Rollouts(prompts, prompt_mask, responses, counted, written, given, lines, has_mask, eos, pad, columns)


def stops(eos: int | list[int] | None) -> tuple[int, ...]:
    """The ids that end a text, in order."""
    return () if eos is None else tuple(sorted(set(eos))) if isinstance(eos, list) else (eos,)


def _padded(rows: list[list[Any]], fill: float, left: bool, dtype: torch.dtype) -> Tensor:
    longest = max(len(row) for row in rows)
    whole = [[fill] * (longest - len(row)) + row if left else row + [fill] * (longest - len(row)) for row in rows]
    return torch.tensor(whole, dtype=dtype)
