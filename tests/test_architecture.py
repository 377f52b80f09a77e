"""Imports point down, command line and settings stay light, files stay short."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from heed.cli import COMMANDS

ROOT = Path(__file__).parents[1]
HOUSE = ROOT / "heed"

FLOORS = {
    "errors": -1, "words": -1, "disk": -1,
    "jsonl": 0,
    "formulas": 1, "records": 1, "batches": 1, "recipe": 1, "settings": 1,
    "config": 2, "rows": 2, "tracking": 2,
    "models": 3, "data": 3, "training": 3, "doctor": 3, "report": 3,
    "imitation": 4, "preference": 4, "rl": 4, "evaluation": 4, "pocket": 4, "labeling": 4,
    "clinic": 5,
    "stages": 6,
    "flows": 7,
    "cli": 8,
    "api": 9,
    "__init__": 10,
}  # fmt: skip
LONGEST_FILE = 300
SOURCES = sorted(path for path in HOUSE.rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in SOURCES]

SHARED = {("heed.stages.doctor", "heed.stages.ppo")}
"""Stages hand each other files, but for one: before a run the doctor tests exactly what PPO itself would begin with."""


def room(module: str) -> str:
    """The room of a dotted name: `heed.formulas.ppo` → formulas."""
    return module.split(".")[1]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(path: Path) -> Iterator[str]:
    """Every module of heed that a file imports, at the top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("heed."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "heed":
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def broken_rules(importer: str, module: str) -> list[str]:
    """What an import breaks: a floor is higher, or another room on the same floor, or another stage."""
    here, there = room(importer), room(module)
    if here != there and FLOORS[there] >= FLOORS[here]:
        return [f"{importer} imports {module}: {there} is not below {here}"]
    if here == there == "stages" and (importer, module) not in SHARED:
        return [f"{importer} imports {module}: stages hand each other files"]
    return []


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_imports_point_down(path: Path) -> None:
    importer = module_of(path)
    assert room(importer) in FLOORS, f"{importer}: give the room a floor"
    broken = [rule for module in imported(path) for rule in broken_rules(importer, module)]
    assert not broken, "\n".join(broken)


def test_rules_can_fail() -> None:
    assert broken_rules("heed.formulas.ppo", "heed.models.policy.Policy")
    assert broken_rules("heed.data.encode", "heed.models.load")
    assert broken_rules("heed.stages.sft", "heed.stages.ppo.run")
    assert not broken_rules("heed.formulas.ppo", "heed.formulas.masked.masked_mean")
    assert not broken_rules("heed.stages.ppo", "heed.rl.rollout.RolloutWorker")
    assert not broken_rules("heed.training.run_dir", "heed.config")


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_file_is_short_and_named_for_what_it_holds(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE, "split it by its nouns"
    assert path.stem not in ("utils", "util", "helpers", "helper", "misc", "common_utils")


@pytest.mark.parametrize("path", sorted(HOUSE.glob("*/**/__init__.py")), ids=lambda path: path.parent.name)
def test_inits_are_empty(path: Path) -> None:
    assert path.read_text() == ""


def test_the_package_is_its_api_and_nothing_else() -> None:
    path = HOUSE / "__init__.py"
    functions = {n.name for n in ast.parse((HOUSE / "api.py").read_text()).body if isinstance(n, ast.FunctionDef)}
    offered = {name for name in functions if not name.startswith("_")} - {"in_python"}
    assert {module.removeprefix("heed.api.") for module in imported(path)} == offered
    rooms = {room.parent.name for room in HOUSE.glob("*/__init__.py")} | {file.stem for file in HOUSE.glob("[a-z]*.py")}
    assert not offered & rooms, "a function of a room's name is gone when the room is imported"


@pytest.mark.parametrize("path", sorted((HOUSE / "formulas").glob("[a-z]*.py")), ids=lambda path: path.stem)
def test_formulas_import_arithmetic_and_nothing_else(path: Path) -> None:
    allowed = {"heed", "torch", "numpy", "jaxtyping", "sacrebleu", *sys.stdlib_module_names}
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        assert {name.split(".")[0] for name in names} <= allowed


def test_the_package_is_imported_without_a_library() -> None:
    heavy = "{'torch', 'transformers', 'datasets', 'numpy', 'pandas', 'pydantic', 'rich', 'yaml'}"
    code = (
        f"import sys, heed; heed.load_policy; found = {heavy} & set(sys.modules); sys.exit(bool(found) and str(found))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_command_line_and_settings_leave_torch_alone() -> None:
    stems = [path.stem for path in (HOUSE / "settings").glob("[a-z]*.py")]
    lines = ["import sys, heed.cli, heed.config, heed.errors", *(f"import heed.settings.{stem}" for stem in stems)]
    lines += [
        "heavy = {'torch', 'transformers', 'datasets', 'numpy'} & set(sys.modules)",
        "sys.exit(str(heavy) if heavy else 0)",
    ]
    found = subprocess.run([sys.executable, "-c", "\n".join(lines)], capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr


def test_stages_are_what_the_command_line_lists() -> None:
    stems = {path.stem for path in (HOUSE / "stages").glob("[a-z]*.py")}
    listed = {command.stage.removeprefix("stages.") for command in COMMANDS.values() if "stages." in command.stage}
    assert stems == listed
    for stem in stems:
        assert re.search(r"^def run\(", (HOUSE / "stages" / f"{stem}.py").read_text(), re.MULTILINE), stem
    for name, command in COMMANDS.items():
        if command.stage.startswith("stages."):
            assert name.replace("-", "_") == command.stage.removeprefix("stages.")


GROUPS = "heed.settings.common"
"""Small groups of values (where rows come from, how to sample, AdamW's) may travel; a stage's settings do not."""


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_settings_stay_in_stages_and_flows(path: Path) -> None:
    if room(module_of(path)) in ("stages", "flows", "settings", "cli", "config", "api", "__init__"):
        return
    travelling = [name for name in imported(path) if name.startswith("heed.settings.") and not name.startswith(GROUPS)]
    assert not travelling, f"take the values that are used, not {travelling}"


LONGEST_FUNCTION = 60


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_functions_fit_a_screen(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION, f"{path.name}: {node.name}"
