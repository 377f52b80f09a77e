"""docs/paper-map.md and the code say the same: every formula is on the page, and nothing else is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "paper-map.md").read_text(encoding="utf-8")
ROW = re.compile(r"\| `(?P<function>\w+\.\w+)` \| `(?P<file>test_\w+\.py)::(?P<test>test_\w+)` \|$", re.MULTILINE)


def functions(path: Path) -> set[str]:
    """The functions that a file defines at its top."""
    nodes = ast.parse(path.read_text(encoding="utf-8")).body
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef)}


FORMULAS = {
    f"{path.stem}.{name}"
    for path in (ROOT / "heed" / "formulas").glob("*.py")
    for name in functions(path)
    if not name.startswith("_")
}
ROWS = [match.groupdict() for match in ROW.finditer(PAGE)]


def test_every_row_is_read() -> None:
    after_header = re.findall(r"^\|(?! ?(?:-|source|subject)).*\| `test_.*$", PAGE, re.MULTILINE)
    assert len(after_header) == len(ROWS) > 50


def test_every_formula_is_on_the_page() -> None:
    assert not FORMULAS - {row["function"] for row in ROWS}


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["function"])
def test_every_function_and_test_on_the_page_exists(row: dict[str, str]) -> None:
    assert row["function"] in FORMULAS
    places = [ROOT / "tests" / room / row["file"] for room in ("formulas", "learning")]
    assert any(place.exists() and row["test"] in functions(place) for place in places), f"{row['file']}::{row['test']}"


def test_every_formula_file_of_tests_is_on_the_page() -> None:
    named = {row["file"] for row in ROWS}
    assert {path.name for path in (ROOT / "tests" / "formulas").glob("test_*.py")} <= named


def test_every_formula_has_a_caller() -> None:
    """What only its own tests call is not what a run computes with."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in (ROOT / "heed").rglob("*.py")]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    named = {node.id for node in nodes if isinstance(node, ast.Name)}
    named |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    assert not {formula for formula in FORMULAS if formula.partition(".")[2] not in named}
