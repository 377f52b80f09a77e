"""A YAML recipe and flags → a checked, frozen settings object; and back to YAML.

Both go one way: flags are laid over the recipe's values, and pydantic checks the result, once.
`docs/decisions/0003-flags.md` says why no library parses the flags.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any, Literal, TypeGuard, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from heed.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)

_SET = "set."  # flags that override a recipe's variables; the recipe's key is `set`
_VARIABLE = re.compile(r"\$?\$\{([^{}]*)\}")
_SCIENTIFIC = re.compile(r"^[-+]?(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)[eE][-+]?\d+$")


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number (YAML 1.1 wants 1.0e-4) and a key given twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"{key.value} is given twice", problem_mark=key.start_mark)
            seen.add(key.value if isinstance(key, yaml.ScalarNode) else None)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back as the same value."""


for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _SCIENTIFIC, list("-+.0123456789"))


@dataclass
class _Given:
    """The values that were given, and which of them came by flag."""

    recipe: str
    values: dict[str, Any]
    flags: list[list[str]] = field(default_factory=list)

    def where(self, name: Sequence[str]) -> str:
        """How a person finds a setting: by flag if a flag gave it or there is no recipe, else by file and name."""
        if self.recipe and not any(list(name[: len(flag)]) == flag for flag in self.flags):
            return f"{self.recipe}: {'.'.join(name)}"
        return f"--{'.'.join(name)}"


def load(model: type[Model], arguments: Sequence[str], section: str = "", positional: str = "") -> Model:
    """Settings of one stage from its command line: a recipe first, if any, then flags that override it.

    A recipe holds the settings of one stage, or of several under their names, of which `section` is read.
    `positional` names a setting that takes leading arguments that are not `.yaml` files (`heed chat A B`), or any,
    where the settings have a `set` of their own (`heed doctor RECIPE.yaml`). Raises ConfigError for mistakes.
    """
    leading, flags = _split(arguments)
    own = "set" in model.model_fields  # then it is no group of variables
    is_yaml = bool(leading) and leading[0].endswith((".yaml", ".yml"))
    recipe = leading.pop(0) if leading and (not positional or (is_yaml and not own)) else ""
    if leading and not positional:
        raise ConfigError(leading[0], "is one argument too many", "write RECIPE.yaml first, then --setting value")
    document = _read(recipe) if recipe else {}
    overrides = {name.removeprefix(_SET): values for name, values in flags if not own and name.startswith(_SET)}
    variables = {} if own else _variables(recipe, document.pop("set", None) or {}, overrides)
    given = _Given(recipe, _substituted(document.get(section, document), variables, recipe))
    for name, values in [(positional, leading)] * bool(leading) + flags:
        if own or not name.startswith(_SET):
            _lay_over(model, given, name, values)
    return _validated(model, given)


def dump(settings: BaseModel) -> str:
    """The settings as YAML, every one of them; `load` reads it back to an equal object."""
    values = _escaped(settings.model_dump(mode="json"))
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, FieldInfo]]:
    """Every setting of `model` with its dotted name, groups before what is in them."""
    for name, described in model.model_fields.items():
        yield f"{prefix}{name}", described
        if is_group(described.annotation):
            yield from fields(described.annotation, f"{prefix}{name}.")


def is_group(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Whether a setting of this type has settings of its own."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _split(arguments: Sequence[str]) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Leading arguments, then each flag's name with the arguments that follow it."""
    leading: list[str] = []
    flags: list[tuple[str, list[str]]] = []
    for argument in arguments:
        if argument.startswith("--"):
            name, equals, value = argument[2:].partition("=")
            flags.append((name, [value] if equals else []))
        else:
            (flags[-1][1] if flags else leading).append(argument)
    return leading, flags


def _read(recipe: str) -> dict[str, Any]:
    path = Path(recipe)
    if not path.is_file():
        beside = path if path.is_dir() else path.parent
        there = ", ".join(sorted(str(file) for file in beside.glob("*.yaml")))
        hint = f"there is {there}" if there else "give a .yaml file, or only flags"
        raise ConfigError(recipe, "no such recipe file", hint)
    try:
        document = yaml.load(path.read_text(encoding="utf-8"), _Loader)
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


def _variables(recipe: str, defined: Any, overrides: Mapping[str, list[str]]) -> dict[str, Any]:
    """Values for `${name}`: the recipe's own, each of which may use those before it, under those given as flags."""
    if not isinstance(defined, dict):
        raise ConfigError(f"{recipe}: set", "holds no variables", "write one `name: value` a line under it")
    for name, values in overrides.items():
        if name not in defined:
            raise ConfigError(f"--{_SET}{name}", "unknown variable", nearest(name, list(defined), "variables"))
        if len(values) != 1:
            raise ConfigError(f"--{_SET}{name}", f"takes one value, not {' '.join(values) or 'none'}", "give one")
    variables: dict[str, Any] = {}
    for name, value in defined.items():
        variables[name] = overrides[name][0] if name in overrides else _substituted(value, variables, recipe)
    return variables


def _substituted(value: Any, variables: Mapping[str, Any], recipe: str) -> Any:
    """`value` with `${name}` replaced in every string; `$${name}` stands for the text itself."""
    if isinstance(value, dict):
        return {key: _substituted(item, variables, recipe) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, variables, recipe) for item in value]
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
        raise ConfigError(f"--{_SET}{name}", f"{recipe} needs it", f"add --{_SET}{name} VALUE")
    return variables[name]


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return re.sub(r"\$\{[^{}]*\}", r"$\g<0>", value) if isinstance(value, str) else value


def _lay_over(model: type[BaseModel], given: _Given, flag: str, values: list[str]) -> None:
    """Put a flag's value in its place among the given values."""
    container = given.values
    *parents, last = names = _names(model, flag)
    annotation: Any = model
    for depth, name in enumerate(parents, start=1):
        annotation = _inside(annotation, name)
        container[name] = container = _expanded(annotation, container.get(name), given, names[:depth])
    annotation = _inside(annotation, last)
    value = _parsed(annotation, flag, values)
    there = _expanded(annotation, container.get(last), given, names) if is_group(annotation) else None
    given.flags.append(names)
    container[last] = value if there is None else there | _expanded(annotation, value, given, names)


def _names(model: type[BaseModel], flag: str) -> list[str]:
    """A flag's path of setting names, with `_` for `-` (but not in the keys of a mapping, which are a person's own)."""
    names: list[str] = []
    annotation: Any = model
    for name in flag.split("."):
        name = name.replace("-", "_") if is_group(annotation) else name
        annotation = _inside(annotation, name)
        names.append(name)
        if annotation is None:
            raise _unknown(model, f"--{flag}", names)
    return names


def _inside(annotation: Any, name: str) -> Any:
    """Type of what is called `name` in a group or mapping; None where there is no such thing."""
    if is_group(annotation):
        return annotation.model_fields[name].annotation if name in annotation.model_fields else None
    return get_args(annotation)[1] if get_origin(annotation) is dict else None


def _expanded(annotation: Any, value: Any, given: _Given, name: Sequence[str]) -> dict[str, Any]:
    """A group's or mapping's values as a dict, its short form (a data group's plain string) written out."""
    if value is None or isinstance(value, dict):
        return value or {}
    adapter = TypeAdapter(annotation)
    try:
        return dict(adapter.dump_python(adapter.validate_python(value), exclude_unset=True))
    except ValidationError:
        raise ConfigError(given.where(name), f"{value!r} is not a group", "write `name: value` pairs") from None


def _parsed(annotation: Any, flag: str, values: list[str]) -> Any:
    """A flag's arguments as the value that YAML would give; text stays as it was typed."""
    is_list = get_origin(annotation) is tuple
    if not values and annotation is bool:
        return True
    if not values or (len(values) > 1 and not is_list):
        raise ConfigError(f"--{flag}", f"takes one value, not {' '.join(values) or 'none'}", f"write --{flag} VALUE")
    if is_list and not values[0].startswith("["):
        return [_parsed(get_args(annotation)[0], flag, [value]) for value in values]
    if annotation is str or get_origin(annotation) is Literal or (is_group(annotation) and values[0][:1] != "{"):
        return values[0]
    try:
        return yaml.load(values[0], _Loader)
    except yaml.YAMLError:
        raise ConfigError(f"--{flag}", f"cannot read {values[0]!r}", "quote it for the shell, as in '[a, b]'") from None


def _validated(model: type[Model], given: _Given) -> Model:
    try:
        return model.model_validate(given.values)
    except ValidationError as error:
        worst = {"extra_forbidden": 0, "missing": 2}  # a mistyped name is also missing: say the typing error first
        problem = min(error.errors(), key=lambda details: worst.get(details["type"], 1))
    raise _explained(model, given, problem)


def _explained(model: type[BaseModel], given: _Given, problem: ErrorDetails) -> ConfigError:
    names = [str(part) for part in problem["loc"]]
    where, described = given.where(names), _described(model, names)
    if problem["type"] == "extra_forbidden":
        return _unknown(model, where, names)
    if problem["type"] == "missing":
        return ConfigError(where, "is required", f"{described}; give it in the recipe or as --{'.'.join(names)} VALUE")
    if problem["type"] == "string_type" and isinstance(problem["input"], int | float | date):
        described = f"put it in quotes; {described}"  # YAML reads `no`, 5 and 2024-01-01 as something else than text
    shown, message = repr(problem["input"])[:80], problem["msg"]
    wrong = f" {message[6:]}" if message.startswith("Input ") else f": {message.removeprefix('Value error, ')}"
    return ConfigError(where, shown + wrong, described)


def _described(model: type[BaseModel], names: Sequence[str]) -> str:
    known = dict(fields(model))
    for end in range(len(names), 0, -1):
        if (name := ".".join(names[:end])) in known:
            return f"{name}: {known[name].description or 'a group of settings'}"
    return "see --help"


def _unknown(model: type[BaseModel], where: str, names: Sequence[str]) -> ConfigError:
    """An unknown setting, with the nearest name beside it, or anywhere in the stage."""
    *parents, last = names
    prefix = "".join(f"{name}." for name in parents)
    known = [name for name, _ in fields(model)]
    beside = [name for name in known if name.startswith(prefix) and "." not in name.removeprefix(prefix)]
    by_last = {name.rpartition(".")[2]: name for name in [*reversed(known), *beside]}
    near = difflib.get_close_matches(last, by_last, n=1)
    hint = f"did you mean {by_last[near[0]]}?" if near else nearest(last, beside, "settings")
    return ConfigError(where, "unknown setting", hint)


def nearest(name: str, names: list[str], kind: str) -> str:
    """A hint for an unknown name: the one that was probably meant, else all that there are."""
    if near := difflib.get_close_matches(name, names, n=1):
        return f"did you mean {near[0]}?"
    return f"{kind} here: {', '.join(names)}" if names else f"there are no {kind} here"
