"""Break the formulas and the doctor on purpose, one piece at a time: every break must make a test fail.

    python tests/mutants/run.py [--sample N] [--only MODULE] [--jobs N]

Each mutant is applied to a temporary copy of the package and the module's tests are run on it. torch is imported once;
each mutant is a fork of that process. Exit code 1: a mutant survived, an edit no longer fits its source,
or the tests fail without any edit.
"""

from __future__ import annotations

import argparse
import ast
import gc
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"

import pytest
from doctor_mutants import DOCTOR_MUTANTS, DOCTOR_TESTS
from mutants import MUTANTS as FORMULA_MUTANTS
from mutants import TESTS as FORMULA_TESTS
from mutants import Mutant

ROOT = Path(__file__).parents[2]
MUTANTS = [*FORMULA_MUTANTS, *DOCTOR_MUTANTS]
TESTS = {
    **{module: [f"formulas/{name}" for name in names] for module, names in FORMULA_TESTS.items()},
    **{module: [f"doctor/{name}" for name in names] for module, names in DOCTOR_TESTS.items()},
}
"""Test files by module."""
SECONDS = 120  # a mutant that runs for longer hangs, which counts as caught
LOST = 99  # exit code of a run in which the tests imported another copy of the package


class Verdict(NamedTuple):
    """What the tests said of a mutant."""

    caught: bool
    words: str
    seconds: float


def source_of(module: str) -> str:
    """The module's file in the package: a formula, or `doctor/checks`."""
    return f"heed/{module}.py" if "/" in module else f"heed/formulas/{module}.py"


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    """Functions by name, methods by `Class.name`."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{one.name}", one) for one in node.body if isinstance(one, ast.FunctionDef))


def mutated(mutant: Mutant, text: str) -> str:
    """The module's text with the edit, or ValueError if `source` is not exactly once in the function's body."""
    lines = text.splitlines(keepends=True)
    for name, node in functions(ast.parse(text)):
        if name == mutant.function:
            start, end = node.body[ast.get_docstring(node) is not None].lineno - 1, node.end_lineno
            body = "".join(lines[start:end])
            if body.count(mutant.source) != 1:
                times = body.count(mutant.source)
                raise ValueError(f"{mutant.source!r} is {times} times in {mutant.module}.{mutant.function}")
            return "".join(lines[:start]) + body.replace(mutant.source, mutant.twin) + "".join(lines[end:])
    raise ValueError(f"there is no function {mutant.function} in {mutant.module}.py")


def spread(mutants: list[Mutant], sample: int) -> list[Mutant]:
    """`sample` mutants at even distances: always the same, and of all modules."""
    if not sample or sample >= len(mutants):
        return mutants
    return [mutants[i * len(mutants) // sample] for i in range(sample)]


@contextmanager
def copies(count: int) -> Iterator[list[Path]]:
    """Temporary copies of what the tests of the formulas need."""
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        places = [Path(folder) / str(i) for i in range(count)]
        for place in places:
            without_cache = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / "heed", place / "heed", ignore=without_cache)
            for room in ("formulas", "doctor"):
                shutil.copytree(ROOT / "tests" / room, place / "tests" / room, ignore=without_cache)
            for name in ("pyproject.toml", "tests/conftest.py"):
                if (ROOT / name).exists():
                    shutil.copy(ROOT / name, place / name)
        yield places


def run_tests(place: Path, module: str) -> int:
    """pytest's exit code for the module's tests on the copy; called in a process of its own."""
    signal.alarm(SECONDS)
    os.chdir(place)
    sys.path.insert(0, str(place))
    with (place / "output").open("w") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    files = [str(place / "tests" / name) for name in TESTS[module]]
    options = ["-x", "-q", "--no-header", "--assert=plain", "-p", "no:cacheprovider"]
    code = int(pytest.main([*options, f"--rootdir={place}", *files]))
    loaded = sys.modules.get(source_of(module).removesuffix(".py").replace("/", "."))
    return code if loaded and str(loaded.__file__).startswith(str(place)) else LOST


def verdict(status: int, seconds: float) -> Verdict:
    """pytest's 1 is a failed test; anything else is no proof, but for the alarm."""
    if os.WIFSIGNALED(status):
        hung = os.WTERMSIG(status) == signal.SIGALRM
        return Verdict(hung, "caught (hangs)" if hung else f"died of signal {os.WTERMSIG(status)}", seconds)
    words = {0: "SURVIVED", 1: "caught", LOST: "the tests ran on another copy"}
    code = os.WEXITSTATUS(status)
    return Verdict(code == 1, words.get(code, f"broken: pytest exit code {code}"), seconds)


def hunt(jobs: list[tuple[str, str | None]], places: list[Path]) -> Iterator[tuple[int, Verdict, str]]:
    """(index, verdict, output) of each (module, its mutated text or None), as the forks end; one fork a place."""
    idle, running, waiting = list(places), {}, list(enumerate(jobs))
    while waiting or running:
        while waiting and idle:
            (index, (module, text)), place = waiting.pop(0), idle.pop()
            path = place / source_of(module)
            original = path.read_text(encoding="utf-8")
            if text is not None:
                path.write_text(text, encoding="utf-8")
            sys.stdout.flush()
            process = os.fork()
            if process == 0:
                code = LOST
                try:
                    code = run_tests(place, module)
                finally:
                    os._exit(code)
            running[process] = (index, place, path, original, time.perf_counter())
        process, status = os.wait()
        index, place, path, original, began = running.pop(process)
        path.write_text(original, encoding="utf-8")
        yield index, verdict(status, time.perf_counter() - began), (place / "output").read_text(encoding="utf-8")
        idle.append(place)


def load_everything_once() -> None:
    """What every fork would otherwise import again. Bytecode is not written: an edit may be as old and as long."""
    import beartype
    import hypothesis
    import jaxtyping
    import numpy
    import peft
    import torch
    import torch.testing

    assert beartype and hypothesis and jaxtyping and numpy and peft
    torch.set_num_threads(1)
    torch.testing.assert_close(torch.zeros(1), torch.zeros(1))  # its first call imports for seconds
    sys.dont_write_bytecode = True
    gc.collect()
    gc.freeze()  # pytest collects garbage twice in each fork


def main() -> int:
    parser = argparse.ArgumentParser(description="every wrong twin of a formula must be caught by a test")
    parser.add_argument("--sample", type=int, default=0, help="run so many mutants, always the same; 0 = all")
    parser.add_argument("--only", choices=sorted(TESTS), help="mutants of one module")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1), help="processes at once")
    arguments = parser.parse_args()

    mutants = spread([m for m in MUTANTS if arguments.only in (None, m.module)], arguments.sample)
    texts = {m.module: (ROOT / source_of(m.module)).read_text(encoding="utf-8") for m in mutants}
    jobs: list[tuple[str, str | None]] = [(module, None) for module in texts]
    jobs += [(m.module, mutated(m, texts[m.module])) for m in mutants]

    load_everything_once()
    began, escaped = time.perf_counter(), 0
    with copies(arguments.jobs) as places:
        for index, found, output in hunt(jobs, places):
            if index < len(texts):
                if found.words != "SURVIVED":
                    print(f"{output}\ntests of {jobs[index][0]} without any edit: {found.words}")
                    return 1
                continue
            mutant = mutants[index - len(texts)]
            escaped += not found.caught
            name = f"{mutant.module}.{mutant.function}"
            print(f"{found.words:<9} {found.seconds:5.1f} s  {name:<38} {mutant.meaning}", flush=True)
            if not found.caught:
                print(f"          {mutant.source!r} → {mutant.twin!r}")
    seconds = time.perf_counter() - began
    print(f"{len(mutants) - escaped} of {len(mutants)} mutants caught in {seconds:.0f} s, {escaped} not")
    return 1 if escaped else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ValueError as error:
        sys.exit(f"an edit does not fit its source: {error}")
