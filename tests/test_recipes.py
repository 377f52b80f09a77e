"""Every recipe loads against the settings of its stage, and gives what its run would write as its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from heed import cli, config

RECIPES = Path(__file__).parents[1] / "recipes"
PLACE = "somewhere"


def sections() -> Iterator[tuple[Path, str]]:
    """A recipe's file and its stage: the file's name, or each section where the file is called otherwise."""
    for path in sorted(RECIPES.rglob("*.yaml")):
        if path.stem.replace("_", "-") not in cli.COMMANDS:
            yield from ((path, name) for name in yaml.safe_load(path.read_text(encoding="utf-8")) if name != "set")
        else:
            yield path, path.stem


@pytest.mark.parametrize(("path", "name"), list(sections()), ids=lambda part: getattr(part, "stem", part))
def test_recipe(path: Path, name: str, tmp_path: Path) -> None:
    name = name.replace("_", "-")
    assert name in cli.COMMANDS, f"{path}: no stage is called {name}"
    command = cli.COMMANDS[name]
    model = cli.settings_of(command)
    defined = yaml.safe_load(path.read_text(encoding="utf-8")).get("set") or {}
    needed = [argument for key, value in defined.items() if value is None for argument in (f"--set.{key}", PLACE)]
    settings = config.load(model, [str(path), *needed], name.replace("-", "_"), command.positional)
    resolved = tmp_path / "config.yaml"
    resolved.write_text(config.dump(settings), encoding="utf-8")
    assert config.load(model, [str(resolved)], positional=command.positional) == settings
