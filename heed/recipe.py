"""A recipe file: YAML whose strings may name variables, `${name}`, which the recipe or a person gives."""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from heed.errors import ConfigError

SET = "set."  # flags that override a recipe's variables; the recipe's key is `set`
_VARIABLE = re.compile(r"\$?\$\{([^{}]*)\}")
_SCIENTIFIC = re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")


class Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number (YAML 1.1 wants 1.0e-4) and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


class Dumper(yaml.SafeDumper):
    """Writes what `Loader` reads back as the same value."""


for _class in (Loader, Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _SCIENTIFIC, list("-+.0123456789"))


def read_recipe(recipe: str) -> dict[str, Any]:
    """What is in a recipe file. Raises ConfigError where there is none or it cannot be read."""
    path = Path(recipe)
    if not path.is_file():
        beside = path if path.is_dir() else path.parent
        there = ", ".join(sorted(str(file) for file in beside.glob("*.yaml")))
        hint = f"there is {there}" if there else "give a .yaml file, or only flags"
        raise ConfigError(recipe, "no such recipe file", hint)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        where, told = f"{recipe}:{line}", f"cannot be read as YAML: {error.problem}"
        raise ConfigError(where, told, "mend that line, or the one before") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        told = f"cannot be read as YAML: {error}".replace("\n", " ")
        raise ConfigError(recipe, told, "save it as UTF-8 text") from None
    if not isinstance(document, dict | None):
        raise ConfigError(recipe, "holds no settings", "write one `name: value` a line")
    return document or {}


def read_variables(recipe: str, defined: Any, overrides: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Values for `${name}`: the recipe's own, each of which may use those before it, under those given as flags."""
    if not isinstance(defined, dict):
        raise ConfigError(f"{recipe}: set", "holds no variables", "write one `name: value` a line under it")
    for name, values in overrides.items():
        if name not in defined:
            raise ConfigError(f"--{SET}{name}", "unknown variable", nearest(name, list(defined), "variables"))
        if len(values) != 1:
            raise ConfigError(f"--{SET}{name}", f"takes one value, not {' '.join(values) or 'none'}", "give one")
    variables: dict[str, Any] = {}
    for name, value in defined.items():
        variables[name] = overrides[name][0] if name in overrides else substituted(value, variables, recipe)
    return variables


def substituted(value: Any, variables: Mapping[str, Any], recipe: str) -> Any:
    """`value` with `${name}` replaced in every string; `$${name}` stands for the text itself."""
    if isinstance(value, dict):
        return {key: substituted(item, variables, recipe) for key, item in value.items()}
    if isinstance(value, list):
        return [substituted(item, variables, recipe) for item in value]
    if not isinstance(value, str):
        return value
    if (whole := _VARIABLE.fullmatch(value)) and not value.startswith("$$"):
        return _variable(whole[1], variables, recipe)
    return _VARIABLE.sub(
        lambda found: found[0][1:] if found[0].startswith("$$") else str(_variable(found[1], variables, recipe)), value
    )


def _variable(name: str, variables: Mapping[str, Any], recipe: str) -> Any:
    if name not in variables:
        raise ConfigError(f"{recipe}: ${{{name}}}", "unknown variable", nearest(name, list(variables), "variables"))
    if variables[name] is None:
        raise ConfigError(f"--{SET}{name}", f"{recipe} needs it", f"add --{SET}{name} VALUE")
    return variables[name]


def escaped(value: Any) -> Any:
    """`value` with `$${name}` for `${name}` in every string, so that `substituted` gives it back."""
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    return re.sub(r"\$\{[^{}]*\}", r"$\g<0>", value) if isinstance(value, str) else value


def nearest(name: str, names: list[str], kind: str) -> str:
    """A hint for an unknown name: the one that was probably meant, else all that there are."""
    if near := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {near[0]}?"
    return f"{kind} here: {', '.join(names)}" if names else f"there are no {kind} here"
