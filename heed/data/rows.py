"""A row of columns, read with errors that name its place; and what it says, whatever its format."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from heed.data.transcripts import ASSISTANT, begins_transcript, is_transcript, parse_dialogue
from heed.errors import DataError
from heed.records import Dialogue, Ranking, Role, Turn
from heed.words import clean, listed, mended_kinds, short

SPEAKERS: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user", "prompter": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
}  # fmt: skip
NULL = 'leave such rows out, or write "" for null, then they are dropped and counted: docs/data-formats.md'
NO_INPUT = re.compile(
    r"\W*(?:no[\s_-]?inputs?(?:\W+(?:is\W+)?(?:required|needed|given|provided|necessary))?|n/a)\W*", re.I
)
_NO_INPUT_LINE = re.compile(
    r"(?:(?:\A|\n)[ \t]*(?:#+[ \t]*)?input:?|\A|\n)\s*[<\[(]\s*no[\s_-]?input\s*[>\])]\W*\Z", re.I
)


class Unusable(Exception):
    """A row that is well-formed and yet says nothing, with the plural noun under which it is counted."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.hint = hint  # what helps where most rows are so


@dataclass(frozen=True, slots=True)
class Entry:
    """What a row says, whatever its format. `best` is the answer to imitate; `judged` are answers in an order."""

    prompt: Dialogue
    best: str | None = None
    judged: Ranking | None = None
    paired: bool = True  # `judged` comes from a file of pairs, where an empty answer is an accident of collection


@dataclass(frozen=True, slots=True)
class Row:
    """A row's columns, the place that an error message names, and what was mended in it."""

    columns: dict[str, Any]
    where: str
    flat: bool = False  # from CSV: every cell is text
    transcripts: bool = True  # a prompt that only ends in `Assistant:`, after other words, is a transcript too
    mended: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, columns: dict[str, Any], where: str, flat: bool = False) -> Row:
        """The row with every text in it cleaned (`heed.words`); a NaN, as pandas writes for nothing, is nothing."""
        row = cls({}, where, flat)
        for name, value in columns.items():
            is_nan = isinstance(value, float) and value != value
            row.columns[name] = None if is_nan else row._cleaned(value)
        return row

    def fail(self, what: str, hint: str = "docs/data-formats.md shows a row of every format") -> DataError:
        """The error to raise about this row; it tells the columns that the row has."""
        return DataError(self.where, f"{what} (columns: {listed(self.columns)})", hint)

    def get(self, name: str) -> Any:
        """The column's value; a missing column is an error."""
        if (value := self.columns.get(name)) is None and name in self.columns:
            raise self.fail(f"`{name}` is missing: it is null", NULL)
        if value is None:
            raise self.fail(f"`{name}` is missing")
        return value

    def text(self, name: str) -> str:
        """A column that holds text."""
        value = self.get(name)
        if not isinstance(value, str):
            raise self.fail(f"`{name}` is {short(value)}, not text")
        return value

    def optional(self, name: str) -> str:
        """A column that holds text, `""` where it is absent or null."""
        return "" if self.columns.get(name) is None else self.text(name)

    def tag(self, name: str) -> str:
        """A column that names somebody or something, by text or by number; `""` where it is absent or null."""
        value = self.columns.get(name)
        return "" if value is None else str(value)

    def asked(self, words: str) -> str:
        """What a user says, without self-instruct's `<noinput>` on a last line of its own."""
        mark = _NO_INPUT_LINE.search(words)
        if mark is None:
            return words
        self.mended.add("marks of no input")
        return words[: mark.start()].rstrip()

    def input(self) -> str:
        """Alpaca's `input`, `""` where it only says that there is none."""
        given = self.optional("input")
        if given and NO_INPUT.fullmatch(given):
            self.mended.add("marks of no input")
            return ""
        return given if given.strip() else ""

    def turns(self, name: str) -> Dialogue:
        """A column that holds messages: `{"role", "content"}` (OpenAI, TRL) or `{"from", "value"}` (ShareGPT)."""
        value = self.get(name)
        messages = [value] if isinstance(value, dict) else value
        if not isinstance(messages, list):
            raise self.fail(f"`{name}` is {short(value)}, not a list of messages")
        if not messages:
            raise Unusable("empty conversations")
        return tuple(self._turn(message, name) for message in messages)

    def dialogue(self, name: str) -> Dialogue:
        """A prompt: a transcript, any other text, or messages; after a `system` column's words, where there is one."""
        turns = self._asking(name)
        return (Turn("system", system), *turns) if (system := self.system()) and turns[0].role != "system" else turns

    def system(self) -> str:
        """What a `system` column says to the model, `""` where it says nothing in words."""
        given = self.columns.get("system")
        return given if isinstance(given, str) and given.strip() else ""

    def untaught(self, name: str) -> set[int]:
        """Positions of messages that are not to be imitated: OpenAI's `weight` 0."""
        messages = self.get(name)
        return {i for i, message in enumerate(messages) if isinstance(message, dict) and message.get("weight") == 0}

    def _asking(self, name: str) -> Dialogue:
        value = self.get(name)
        if not isinstance(value, str):
            return self.turns(name)
        if not begins_transcript(value) and not (self.transcripts and is_transcript(value)):
            return (Turn("user", self.asked(value)),)
        turns = parse_dialogue(value)
        if turns[-1].role == "assistant":
            hint = f"whole transcripts are read from a column `text`; rename it: `columns: {{{name}: text}}`"
            raise Unusable("prompts that hold their answer already", hint)
        return turns

    def answered(self, name: str, prompt: Dialogue) -> tuple[Dialogue, str]:
        """An answer and what it answers: `prompt`, or the turns before it where the column is a whole conversation
        in which `prompt` was asked."""
        value = self.get(name)
        turns = self._transcript(value) if isinstance(value, str) else self.turns(name)
        if not turns or (isinstance(value, str) and not _was_asked(prompt, turns[:-1])):
            return prompt, self.text(name)
        before, last = turns[:-1], turns[-1]
        if last.role != "assistant" or (before and not _was_asked(prompt, before)):
            raise Unusable("answers of several turns")
        if len(before) <= len(prompt):
            return prompt, last.content
        return (prompt[:1] if prompt[0].role == "system" != before[0].role else ()) + before, last.content

    def _transcript(self, text: str) -> Dialogue:
        turns = parse_dialogue(text) if begins_transcript(text) and ASSISTANT in text else ()
        return turns if turns and turns[-1].role == "assistant" else ()

    def _turn(self, message: Any, name: str) -> Turn:
        if not isinstance(message, dict):
            raise self.fail(f"`{name}` holds {short(message)}, not a message")
        speaker, words = (_first(message, *names) for names in (("role", "from"), ("content", "value")))
        if not isinstance(speaker, str):
            raise self.fail(f"`{name}` holds {short(message)}, not a message with a role and text")
        role = SPEAKERS.get(speaker.strip().lower())
        if role is None:
            told = f"`{listed([speaker])}`" if speaker.strip() else "nobody"
            raise Unusable(f"conversations with turns of {told}")
        if message.get("tool_calls") or message.get("function_call"):
            raise Unusable("conversations with a call of a tool instead of text")
        if words is None:
            raise Unusable("conversations with a turn of null content")
        text = words if isinstance(words, str) else self._parts(words, message, name)
        return Turn(role, self.asked(text) if role == "user" else text)

    def _parts(self, parts: Any, message: Any, name: str) -> str:
        """OpenAI's content in parts, `{"type": "text", "text"}` each."""
        if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
            raise self.fail(f"`{name}` holds {short(message)}, not a message with a role and text")
        texts = [part.get("text") for part in parts]
        if not all(isinstance(text, str) for text in texts):
            raise Unusable("conversations with images or other content that is no text")
        return "\n".join(texts)

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, str):
            self.mended.update(mended_kinds(value))
            return clean(value)
        if isinstance(value, list):
            return [self._cleaned(item) for item in value]
        if isinstance(value, dict):
            return {name: self._cleaned(item) for name, item in value.items()}
        return value


def _first(message: dict[str, Any], *names: str) -> Any:
    """The first of these that is there and not null."""
    return next((message[name] for name in names if message.get(name) is not None), None)


def _was_asked(prompt: Dialogue, turns: Dialogue) -> bool:
    """Are the last words of the prompt among what the user says in these turns, which end with the user's?"""
    asked = {turn.content.strip() for turn in turns if turn.role == "user"}
    return bool(turns) and bool(prompt) and turns[-1].role == "user" and prompt[-1].content.strip() in asked
