"""A YAML recipe and flags → a checked, frozen settings object; and back to YAML.

Both go one way: flags are laid over the recipe's values, and pydantic checks the result, once.
`docs/decisions/0003-flags.md` says why no library parses the flags.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, TypeGuard, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from heed.errors import ConfigError
from heed.recipe import SET, Dumper, Loader, escaped, nearest, read_recipe, read_variables, substituted

Model = TypeVar("Model", bound=BaseModel)


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


DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212"


def load(model: type[Model], arguments: Sequence[str], section: str = "", positional: str = "") -> Model:
    """Settings of one stage from its command line: a recipe first, if any, then flags that override it.

    A recipe holds the settings of one stage, or of several under their names, of which `section` is read.
    `positional` names a setting that takes leading arguments that are not `.yaml` files (`heed chat A B`), or any,
    where the settings have a `set` of their own (`heed doctor RECIPE.yaml`). Raises ConfigError for mistakes.
    """
    for argument in arguments:
        name = argument.lstrip(DASHES + "-")
        if argument[:1] in DASHES and name[:1].isalpha() and not any(map(str.isspace, name)):
            told = "begins with a dash that is no hyphen, as word processors and web pages write it"
            raise ConfigError(argument, told, f"write --{name}")
    leading, flags = _split(arguments)
    own = "set" in model.model_fields  # then it is no group of variables
    is_yaml = bool(leading) and leading[0].endswith((".yaml", ".yml"))
    recipe = leading.pop(0) if leading and (not positional or (is_yaml and not own)) else ""
    if leading and not positional:
        raise ConfigError(leading[0], "is one argument too many", "write RECIPE.yaml first, then --setting value")
    document = read_recipe(recipe) if recipe else {}
    overrides = {name.removeprefix(SET): values for name, values in flags if not own and name.startswith(SET)}
    variables = {} if own else read_variables(recipe, document.pop("set", None) or {}, overrides)
    given = _Given(recipe, substituted(_section(document, section, recipe), variables, recipe))
    for name, values in [(positional, leading)] * bool(leading) + flags:
        if own or not name.startswith(SET):
            _lay_over(model, given, name, values)
    return _validated(model, given)


def from_values(model: type[Model], recipe: str, values: Mapping[str, Any], section: str = "") -> Model:
    """Settings of one stage as a program gives them: a recipe's, if it is not empty, under nested `values`.

    A group that is given in part leaves the rest of it as the recipe has it; `set` holds the recipe's variables where
    the settings have none of that name. Raises ConfigError for mistakes.
    """
    own = "set" in model.model_fields
    document = read_recipe(recipe) if recipe else {}
    told = {} if own else values.get("set", {})
    variables = (
        {}
        if own
        else read_variables(recipe, document.pop("set", None) or {}, {name: [value] for name, value in told.items()})
    )
    given = _Given(recipe, substituted(_section(document, section, recipe), variables, recipe))
    for name, value in values.items():
        if own or name != "set":
            _lay_value(model, given, given.values, [name], value)
    return _validated(model, given)


def _section(document: dict[str, Any], section: str, recipe: str) -> dict[str, Any]:
    """A stage's part of a recipe; all of it where it has no parts."""
    found = document.get(section, document) if section else document
    if not isinstance(found, dict | None):
        raise ConfigError(f"{recipe}: {section}", "holds no settings", "write one `name: value` a line under it")
    return found or {}


def dump(settings: BaseModel) -> str:
    """The settings as YAML, every one of them; `load` reads it back to an equal object."""
    values = escaped(settings.model_dump(mode="json"))
    return yaml.dump(values, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=120)


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
    if there and value == "":
        there = {}  # none of it: what the recipe says of a file's rows says nothing of no file
    given.flags.append(names)
    container[last] = value if there is None else there | _expanded(annotation, value, given, names)


def _lay_value(annotation: Any, given: _Given, container: dict[str, Any], name: Sequence[str], value: Any) -> None:
    """Put a program's value in its place among the given values, what is in a group one by one."""
    inside = _inside(annotation, name[-1])
    if is_group(inside) and isinstance(value, Mapping):
        container[name[-1]] = group = dict(_expanded(inside, container.get(name[-1]), given, name))
        for key, item in value.items():
            _lay_value(inside, given, group, [*name, str(key)], item)
        return
    given.flags.append(list(name))
    container[name[-1]] = _without_paths(value)


def _without_paths(value: Any) -> Any:
    """A program may give a path where a setting is text."""
    if isinstance(value, Mapping):
        return {key: _without_paths(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(item) for item in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


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
        return yaml.load(values[0], Loader)
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
