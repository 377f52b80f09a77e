"""What the documents say exists: commands, settings, files and links."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from heed import cli, config
from heed.settings.common import StageSettings

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
    *sorted((ROOT / "recipes").rglob("*.md")),
]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORDS = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
SETTINGS = {name: dict(config.fields(cli.settings_of(command))) for name, command in cli.COMMANDS.items()}
KNOWN = {setting for settings in SETTINGS.values() for setting in settings}
GROUPS = {
    setting
    for settings in SETTINGS.values()
    for setting, field in settings.items()
    if config.is_group(field.annotation) and not issubclass(field.annotation, StageSettings)
}
"""Groups of settings; `reward.…` and `ppo.…` are formulas or settings of `heed loop`, and a flag tells which."""
OPTIONS = {"--help", "--help-all", "--version"}

each_document = pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))


def spans(path: Path) -> list[str]:
    """What a document sets in code: spans in backticks, and the lines of fenced and indented blocks."""
    text = path.read_text(encoding="utf-8")
    fenced = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    prose = re.sub(r"^```[a-z]*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    indented = re.findall(r"^ {4}(\S.*)$", prose, re.MULTILINE)
    lines = [line for block in fenced for line in block.replace("\\\n", " ").splitlines()]
    return [*re.findall(r"`([^`\n]+)`", prose), *indented, *lines]


def commands(path: Path, program: str) -> Iterator[list[str]]:
    for span in spans(path):
        if re.match(rf"(\$ )?{program} \S", span):
            yield shlex.split(span.removeprefix("$ ").partition("  #")[0].partition("→")[0])[1:]


@each_document
def test_make_words_exist(path: Path) -> None:
    for words in commands(path, "make"):
        called = [word for word in words if "=" not in word and not word.startswith("-")]
        assert set(called) <= WORDS, f"make {' '.join(words)}"


@each_document
def test_heed_commands_exist_and_take_these_settings(path: Path) -> None:
    for name, *arguments in commands(path, "heed"):
        if name in OPTIONS or name.isupper() or name == "resume":  # which takes the settings of the run's stage
            continue
        assert name in cli.COMMANDS, f"heed {name}"
        whole = "--output" in arguments or (cli.COMMANDS[name].positional and arguments)
        if whole and not any(argument.endswith(".yaml") for argument in arguments):
            model = cli.settings_of(cli.COMMANDS[name])
            config.load(model, arguments, positional=cli.COMMANDS[name].positional)


@each_document
def test_settings_exist(path: Path) -> None:
    for span in spans(path):
        for flag in re.findall(r"^--([a-z_.-]+)", span):
            name = flag.replace("-", "_")
            assert f"--{flag}" in OPTIONS or name.startswith("set.") or name in KNOWN or parent(name) in KNOWN, span
        if (
            re.fullmatch(r"[a-z_]+\.[a-z_]+", span)
            and parent(span) in GROUPS
            and not re.search(r"\.(py|md|ya?ml|jsonl?|html)$", span)
        ):
            assert span in KNOWN, span


def parent(name: str) -> str:
    return name.rpartition(".")[0]


@each_document
def test_links_resolve(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        linked = (path.parent / file).resolve() if file else path
        assert linked.exists(), f"{path.name} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{path.name} links to {target}"


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_document
def test_files_that_are_named_exist(path: Path) -> None:
    for span in spans(path):
        if re.fullmatch(r"(heed|tests|docs|recipes|benchmarks)/[\w./-]+", span):
            assert (ROOT / span).exists(), f"{path.name} names {span}"


def test_documents_named_in_the_source_exist() -> None:
    for source in (ROOT / "heed").rglob("*.py"):
        for name in re.findall(r"\bdocs/[\w/-]+\.md", source.read_text(encoding="utf-8")):
            assert (ROOT / name).exists(), f"{source.relative_to(ROOT)} names {name}"


def test_heed_commands_of_the_makefile_exist() -> None:
    for name in re.findall(r"\$\(BIN\)/heed ([a-z-]+)", MAKEFILE):
        assert name in cli.COMMANDS


def test_architecture_names_every_room() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    rooms = {path.parent.name for path in (ROOT / "heed").glob("*/*.py") if path.name != "__init__.py"}
    rooms |= {path.name for path in (ROOT / "heed").glob("[a-z]*.py")}
    missing = {room for room in rooms if not re.search(rf"^ *{re.escape(room)}/? ", text, re.MULTILINE)}
    assert not missing


def test_readme_tells_how_to_test() -> None:
    assert ["test"] in list(commands(ROOT / "README.md", "make"))
    assert "make test" in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
