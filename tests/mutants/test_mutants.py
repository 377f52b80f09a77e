"""The list of mutants fits the source, and leaves no formula out. `make mutants` runs them."""

from __future__ import annotations

import ast
import runpy
import sys
from collections import Counter
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FORMULAS = ROOT / "heed" / "formulas"


@pytest.fixture(scope="module")
def runner() -> dict[str, object]:
    """The names of run.py, without running it."""
    sys.path.insert(0, str(HERE))
    try:
        return runpy.run_path(str(HERE / "run.py"), run_name="runner")
    finally:
        sys.path.remove(str(HERE))


def public_functions() -> set[tuple[str, str]]:
    return {
        (path.stem, node.name)
        for path in FORMULAS.glob("*.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")
    }


def test_every_edit_fits_its_source_and_is_python(runner: dict[str, object]) -> None:
    for mutant in runner["MUTANTS"]:
        source = (ROOT / runner["source_of"](mutant.module)).read_text(encoding="utf-8")
        twin = runner["mutated"](mutant, source)
        assert ast.dump(ast.parse(twin)) != ast.dump(ast.parse(source)), mutant


def test_no_edit_is_listed_twice(runner: dict[str, object]) -> None:
    edits = Counter(tuple(mutant[:4]) for mutant in runner["MUTANTS"])
    assert not [edit for edit, count in edits.items() if count > 1]


def test_every_public_formula_has_three_mutants(runner: dict[str, object]) -> None:
    listed = Counter((mutant.module, mutant.function) for mutant in runner["FORMULA_MUTANTS"])
    assert set(listed) <= public_functions()
    assert not {function for function in public_functions() if listed[function] < 3}


def test_an_edit_that_does_not_fit_is_told(runner: dict[str, object]) -> None:
    mutant = runner["Mutant"]("kl", "k1", "no such text", "", "")
    with pytest.raises(ValueError, match="0 times"):
        runner["mutated"](mutant, (FORMULAS / "kl.py").read_text(encoding="utf-8"))


def test_a_sample_is_spread_and_always_the_same(runner: dict[str, object]) -> None:
    mutants, spread = runner["MUTANTS"], runner["spread"]
    assert len(spread(mutants, 40)) == 40 == len(set(spread(mutants, 40)))
    assert spread(mutants, 40) == spread(mutants, 40)
    assert {mutant.module for mutant in spread(mutants, 400)} == {mutant.module for mutant in mutants}
    assert spread(mutants, 0) == mutants == spread(mutants, 10_000)
