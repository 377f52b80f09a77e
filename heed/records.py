"""The rows that stages hand each other, and their JSONL form.

A prompt is a dialogue that ends with the user's turn. In a file a one-turn prompt is a plain string and a longer
one is a list of `{"role", "content"}` objects; `docs/data-formats.md` shows every row.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from heed.errors import DataError
from heed.jsonl import read_objects
from heed.words import clean, listed, short

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Turn:
    """One speaker's words in a dialogue."""

    role: Role
    content: str


Dialogue = tuple[Turn, ...]


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A prompt and the answer a person would have liked to read (SFT)."""

    prompt: Dialogue
    response: str
    source: str = ""
    group: str = ""
    user: str = ""
    where: str = field(default="", compare=False, repr=False)  # file and line, for messages; not part of the row


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt alone, with a reference answer where one is known (PPO, evaluation)."""

    prompt: Dialogue
    reference: str | None = None
    source: str = ""
    group: str = ""
    user: str = ""
    where: str = field(default="", compare=False, repr=False)  # file and line, for messages; not part of the row


@dataclass(frozen=True, slots=True)
class Candidates:
    """K responses of one model to one prompt, to be ranked. `finished[k]`: response k ended itself (wrote EOS)."""

    prompt: Dialogue
    responses: tuple[str, ...]
    finished: tuple[bool, ...]
    model: str = ""
    source: str = ""
    group: str = ""


@dataclass(frozen=True, slots=True)
class Ranking:
    """One labeler's order of K responses: `ranks[k]` is 1 for the best, equal ranks are ties."""

    prompt: Dialogue
    responses: tuple[str, ...]
    ranks: tuple[int, ...]
    finished: tuple[bool, ...]
    labeler: str = ""
    seconds: float | None = None
    source: str = ""
    group: str = ""
    where: str = field(default="", compare=False, repr=False)  # file and line, for messages; not part of the row


@dataclass(frozen=True, slots=True)
class Comparison:
    """A pair with a winner: the K = 2 ranking without a tie."""

    prompt: Dialogue
    chosen: str
    rejected: str
    labeler: str = ""
    source: str = ""
    group: str = ""

    def as_ranking(self) -> Ranking:
        """The same judgement as a `Ranking` of two finished responses."""
        return Ranking(
            self.prompt, (self.chosen, self.rejected), (1, 2), (True, True), self.labeler, None, self.source, self.group
        )


Record = Demonstration | Prompt | Candidates | Ranking | Comparison
R = TypeVar("R", Demonstration, Prompt, Candidates, Ranking, Comparison)
ROLES: tuple[Role, ...] = get_args(Role)
MOST = 1_000_000_000  # of ranks and of seconds
MOST_RANKED = 256  # responses in one ranking; pairs grow with the square
SPEAKER_MARKERS = ("\n\nHuman:", "\n\nAssistant:")  # text that has them would be read back as a transcript


def read_jsonl(path: Path, kind: type[R]) -> list[R]:
    """Records of one kind from a file that `write_jsonl` wrote (or that has its columns)."""
    return [from_row(kind, row, f"{path}:{number}") for number, row in read_objects(path)]


def write_jsonl(path: Path, records: Iterable[Record]) -> None:
    """Write one row a line. The file appears whole or not at all; an earlier one stays until then."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            for record in records:
                file.write(json.dumps(to_row(record), ensure_ascii=False) + "\n")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def group_of(prompt: Dialogue) -> str:
    """Short hash of the first user turn: the dialogues of one opening are one group, and are never split apart."""
    first = next((turn.content for turn in prompt if turn.role == "user"), "")
    return hashlib.sha256(first.strip().encode()).hexdigest()[:16]


def to_row(record: Record) -> dict[str, Any]:
    """The record as a JSON object. Fields that hold nothing are left out."""
    row: dict[str, Any] = {"prompt": prompt_to_json(record.prompt)}
    for name, needed in _columns(type(record)):
        value = getattr(record, name)
        if value is not None and value != "":
            row[name] = list(value) if isinstance(value, tuple) else value
        elif needed:  # an empty response is still a response
            row[name] = value
    return row


def from_row(kind: type[R], row: dict[str, Any], where: str) -> R:
    """The record that a JSON object says; `where` names the row in the message when it does not."""
    values: dict[str, Any] = {"prompt": dialogue_from_json(_required(row, "prompt", where), where)}
    for name, needed in _columns(kind):
        if row.get(name) is not None:
            values[name] = _READ[name](row[name], f"{where}: `{name}`")
        elif name == "finished" and kind is Ranking:
            values["finished"] = (True,) * len(values["responses"])
        elif needed:
            _required(row, name, where)
    record = kind(**values)
    if isinstance(record, Candidates | Ranking):
        _check_lengths(record, where)
    return record if isinstance(record, Candidates | Comparison) else replace(record, where=where)


def _columns(kind: type[Record]) -> list[tuple[str, bool]]:
    """Names of a record's columns after `prompt`, and whether each has to be there."""
    return [(each.name, each.default is MISSING) for each in fields(kind)[1:] if each.name != "where"]


def prompt_to_json(prompt: Dialogue) -> str | list[dict[str, str]]:
    """A plain string for one user turn, a list of `{"role", "content"}` for anything longer.

    One turn that contains speaker markers is written as a list too, or it would be read back as several turns.
    """
    if len(prompt) == 1 and prompt[0].role == "user" and not any(m in prompt[0].content for m in SPEAKER_MARKERS):
        return prompt[0].content
    return [{"role": turn.role, "content": turn.content} for turn in prompt]


def dialogue_from_json(value: Any, where: str) -> Dialogue:
    """A prompt from its JSON form; it must end with the user's turn."""
    if isinstance(value, str):
        return (Turn("user", clean(value)),)
    if not isinstance(value, list) or not value:
        raise DataError(where, f"`prompt` is {short(value)}", 'a prompt is a string or a list of {"role", "content"}')
    turns = tuple(_turn(item, where) for item in value)
    if turns[-1].role != "user":
        raise DataError(where, f"`prompt` ends with the {turns[-1].role}'s turn", "a prompt ends with the user's turn")
    return turns


def _turn(item: Any, where: str) -> Turn:
    if not isinstance(item, dict) or item.get("role") not in ROLES or not isinstance(item.get("content"), str):
        raise DataError(
            where, f"{short(item)} is not a turn", 'a turn is {"role": "system"|"user"|"assistant", "content": text}'
        )
    return Turn(item["role"], clean(item["content"]))


def _required(row: dict[str, Any], name: str, where: str) -> Any:
    if row.get(name) is None:
        raise DataError(
            where, f"`{name}` is missing (columns: {listed(row)})", "docs/data-formats.md shows every kind of row"
        )
    return row[name]


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(where, f"{short(value)} is not text", "write it as a JSON string")
    return clean(value)


def _name(value: Any, where: str) -> str:
    """Who or what a tag names: text, or a number that stands for it."""
    return str(value) if type(value) is int and abs(value) < 1 << 63 else _text(value, where)


def _number(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(where, f"{short(value)} is not a number", "write it as a JSON number")
    if not 0 <= value <= MOST:  # NaN, which is not in any range, too
        raise DataError(where, f"{short(value)} is out of range", f"a number from 0 to {MOST:,}")
    return float(value)


def _list(value: Any, item: type, where: str) -> list[Any]:
    if not isinstance(value, list) or any(type(x) is not item for x in value):
        raise DataError(
            where, f"{short(value)} is not a list of {item.__name__}", "docs/data-formats.md shows such a row"
        )
    return value


def _texts(value: Any, where: str) -> tuple[str, ...]:
    return tuple(clean(text) for text in _list(value, str, where))


def _flags(value: Any, where: str) -> tuple[bool, ...]:
    return tuple(_list(value, bool, where))


def _ranks(value: Any, where: str) -> tuple[int, ...]:
    ranks = tuple(_list(value, int, where))
    if any(rank < 1 for rank in ranks):
        raise DataError(where, f"{short(value)} has a rank below 1", "1 is the best; equal ranks are ties")
    if any(rank > MOST for rank in ranks):
        raise DataError(where, f"{short(value)} has a rank above {MOST:,}", "1 is the best; equal ranks are ties")
    return ranks


def _check_lengths(record: Candidates | Ranking, where: str) -> None:
    counts = {"responses": len(record.responses), "finished": len(record.finished)}
    if isinstance(record, Ranking):
        counts["ranks"] = len(record.ranks)
        if len(record.ranks) > MOST_RANKED:
            told = f"has {len(record.ranks):,} responses, which make too many pairs"
            raise DataError(where, told, f"rank at most {MOST_RANKED} responses at once")
    if len(record.responses) < 2 or len(set(counts.values())) > 1:
        told = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise DataError(where, f"has {told}", "two responses or more, and as many entries in every list")


_READ: dict[str, Callable[[Any, str], Any]] = {
    "response": _text, "reference": _text, "chosen": _text, "rejected": _text, "model": _text, "labeler": _name,
    "source": _name, "group": _name, "user": _name, "responses": _texts, "finished": _flags, "ranks": _ranks,
    "seconds": _number,
}  # fmt: skip
