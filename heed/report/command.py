"""Runs → pages: read them, choose the page that fits, write one file each."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from pathlib import Path

from heed.errors import ConfigError
from heed.report import compare, loop, single
from heed.report.blocks import Page
from heed.report.html import html
from heed.report.read import PAGE, is_run, read_root, read_run, runs_in

COMPARISON = "comparison.html"

log = logging.getLogger("heed")


def write_pages(given: Sequence[Path], output: Path | None = None) -> Path:
    """Write the page of a run, of everything in a directory, or of several runs; returns where it is."""
    target = output or default_output(given)
    for path, page in pages(given, target).items():
        write(path, html(page))
        log.info("wrote  %s", path)
    log.info("next   open it in a browser: file://%s", target.resolve())
    return target


def default_output(given: Sequence[Path]) -> Path:
    """`report.html` in the one directory given; of several `comparison.html` beside the first."""
    return given[0] / PAGE if len(given) == 1 else given[0].parent / COMPARISON


def pages(given: Sequence[Path], target: Path) -> dict[Path, Page]:
    """The page asked for, and of a demo one of each run in it too."""
    if len(given) > 1:
        paths = [path for name in given for path in (runs_in(name) if name.is_dir() and not is_run(name) else [name])]
        names = _short_names(paths)
        return {
            target: compare.page([read_run(path, name) for path, name in zip(paths, names, strict=True)], "comparison")
        }
    (path,) = given
    inside = [] if is_run(path) or not path.is_dir() else runs_in(path)
    if not inside:
        return {target: page_of(path)}
    return {target: page_of(path), **{child / PAGE: page_of(child) for child in inside}}


def page_of(path: Path, live: bool = False) -> Page:
    """The page of a run, of a demo, or of a sweep."""
    inside = [] if is_run(path) or not path.is_dir() else runs_in(path)
    if not inside:
        return single.page(read_run(path, live=live), live)
    runs = [read_run(child, child.relative_to(path).as_posix(), live) for child in inside]
    name = path.resolve().name
    if len(runs) > 1 and len({run.stage for run in runs}) == 1:
        return compare.page(runs, name)
    return loop.page(runs, name, read_root(path), live)


def write(path: Path, text: str) -> None:
    """Write a whole file at once."""
    partial = path.with_name(f"{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        os.replace(partial, path)
    except OSError as error:
        raise ConfigError("output", f"cannot write {path}: {error.strerror}", "give another file as --output") from None


def _short_names(paths: Sequence[Path]) -> list[str]:
    """The directories' names, with as many parents as it takes to tell them apart."""
    parts = [path.resolve().parts for path in paths]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(some[-count:]) for some in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
