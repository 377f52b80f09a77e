"""What is printed of several models: their answers under one another, and their figures in blocks that fit the width.

A column for each model or figure would leave a few characters to each on 80 columns. So models are rows: a prompt's
answers have the whole width, and figures that do not fit beside each other stand in the next block.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from heed.evaluation.side_by_side import Answered
from heed.records import Prompt
from heed.training.metrics import PLAIN_WIDTH, completions_table

SHOWN = 6  # prompts whose answers are printed
LONGEST_NAME = 24  # characters of a model's name in a line; the rest goes on in the next one
GAP = 2  # columns between figures

Row = Mapping[str, object]


def print_compared(found: Mapping[str, Any], records: Sequence[Prompt], answered: Mapping[str, Answered]) -> None:
    """An evaluation: the first answers, unselected, then the figures of its report."""
    count, judge = f"{found['prompts']:,} prompts", found["judge"]
    rows = []
    for i, record in enumerate(records[:SHOWN]):
        row: dict[str, object] = {"prompt": record.prompt[-1].content}
        for name, model in answered.items():
            row[name] = model.texts[i]
            if judge in model.scores:
                row[f"{name}: score"] = float(model.scores[judge][i])
        rows.append(row)
    print_answers(rows, f"the first {len(rows)} of {count}")
    print_in_blocks([_figures(found, name, judge) for name in answered], f"{count}, [95 % intervals]")


def print_answers(rows: Sequence[Row], title: str = "") -> None:
    """Each row's texts under one another, `prompt` and then the answers by name; a number is the score of the answer
    before it."""
    lines: list[dict[str, object]] = []
    ends = []
    for row in rows:
        for name, value in row.items():
            if isinstance(value, float):
                lines[-1]["score"] = value
            else:
                lines.append({"": name, "text": value})
        ends.append(len(lines) - 1)
    table = completions_table(lines, title)
    table.show_lines, table.columns[0].max_width = False, LONGEST_NAME
    for end in ends:
        table.rows[end].end_section = True
    _console().print(table)


def print_in_blocks(rows: Sequence[Row], title: str = "") -> None:
    """A table whose first column names the rows, in as many blocks as its width needs; the first column stands in each.

    Only a column that is wider than the page by itself is broken.
    """
    console = _console()
    if title:
        console.print(Text(title, style="italic"))
    for block in blocks(rows, console.width):
        table = completions_table(block)
        table.show_lines, table.box, table.padding, table.pad_edge = False, None, (0, GAP, 0, 0), False
        table.columns[0].max_width = LONGEST_NAME
        console.print(table, Text())


def blocks(rows: Sequence[Row], width: int) -> Iterator[list[Row]]:
    """The rows of each block: the first column, and as many of the others as fit beside it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = {name: [name, *(str(row.get(name, "")) for row in rows)] for name in names}
    wide = {name: GAP + max(map(cell_len, column)) for name, column in cells.items()}
    first, *others = names
    label = min(wide[first], LONGEST_NAME + GAP)
    while others:
        taken, left = [others[0]], width - label - wide[others[0]]
        for name in others[1:]:
            if left < wide[name] - GAP:  # nothing stands right of the last one
                break
            taken.append(name)
            left -= wide[name]
        others = others[len(taken) :]
        yield [{name: row.get(name, "") for name in (first, *taken)} for row in rows]


def with_interval(figure: Mapping[str, Any] | None) -> str:
    """`0.612 [0.581, 0.642]`; a dash where there is no figure."""
    if not figure:
        return "–"
    return f"{_digits(figure['estimate'])} [{_digits(figure['low'])}, {_digits(figure['high'])}]"


def _digits(value: float | None) -> str:
    """Three digits, and no exponent for a length in tokens."""
    if value is None or not math.isfinite(value):
        return "–"
    return f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}"


def _figures(found: Mapping[str, Any], name: str, judge: str | None) -> Row:
    model = found["models"][name]
    named = {
        "score": model["score"].get(judge),
        "win rate": found["against_baseline"].get(name, {}).get(judge, {}).get("win_rate"),
        "KL": model.get("kl", {}).get("exact"),
        "length": model["length"],
        "EOS": model["eos_rate"],
        "BLEU": model.get("bleu"),
        "distinct-2": model.get("distinct_2"),
        "nats/token": model.get("nats_per_token"),
    }
    bound = model.get("kl_bound")
    cells = {title: with_interval(figure) for title, figure in named.items()}
    return {"model": name, **cells} | ({"KL": f"≤ {_digits(bound)}"} if bound is not None else {})


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=PLAIN_WIDTH)
