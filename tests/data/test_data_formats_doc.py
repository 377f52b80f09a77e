"""docs/data-formats.md: every row in it is read, by the readers that it names and by no other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from heed.data.formats import FORMATS
from heed.data.sources import read_demonstrations, read_prompts, read_rankings
from heed.errors import DataError
from heed.settings.common import DataSettings

PAGE = (Path(__file__).parents[2] / "docs" / "data-formats.md").read_text(encoding="utf-8")
READERS = {"prompts": read_prompts, "demonstrations": read_demonstrations, "rankings": read_rankings}


def given_before(position: int) -> list[str]:
    """The readers that the nearest `Gives:` above a place names."""
    found = re.findall(r"Gives: ([a-z]+(?:, [a-z]+)*)", PAGE[:position])
    return found[-1].split(", ")


BLOCKS = [(m[1], given_before(m.start())) for m in re.finditer(r"```json\n(.*?)```", PAGE, re.DOTALL)]
LINES = [(line, gives) for block, gives in BLOCKS for line in block.splitlines()]


@pytest.mark.parametrize(("line", "gives"), LINES, ids=range(len(LINES)))
def test_every_row_is_read(tmp_path: Path, line: str, gives: list[str]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(line + "\n")
    for name, read in READERS.items():
        if name in gives and not (name == "demonstrations" and has_no_best(line)):
            assert read(DataSettings(path=str(path)), 0)
        else:
            with pytest.raises(DataError):
                read(DataSettings(path=str(path)), 0)


def has_no_best(line: str) -> bool:
    """A tie for the first place gives nothing to imitate."""
    return '"preference": 1.5' in line or '"ranks": [1, 2, 1]' in line


def test_there_are_rows() -> None:
    assert len(LINES) > 25


def test_the_table_has_every_format_and_what_it_gives() -> None:
    table = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")
    ]
    told = {name: cells[2] for cells in table if len(cells) == 3 for name in cells[1].split(", or ")}
    told["plain text"] = told["plain text"].removesuffix(": `heed pretrain` and the `text` settings read `.txt`")
    assert told == {form.name: ", ".join(form.gives) or "nothing" for form in FORMATS}
