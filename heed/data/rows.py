"""A row of columns, read with errors that name its place; and what it says, whatever its format."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from heed.data.template import is_transcript, parse_dialogue
from heed.errors import DataError
from heed.records import Dialogue, Ranking, Role, Turn, clean, short

SPEAKERS: dict[str, Role] = {
    "system": "system", "developer": "system",
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "bot": "assistant", "model": "assistant",
}  # fmt: skip


class Unusable(Exception):
    """A row that is well-formed and yet says nothing, with the plural noun under which it is counted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What a row says, whatever its format. `best` is the answer to imitate; `judged` are answers in an order."""

    prompt: Dialogue
    best: str | None = None
    judged: Ranking | None = None
    paired: bool = True  # `judged` comes from a file of pairs, where an empty answer is an accident of collection


@dataclass(frozen=True, slots=True)
class Row:
    """A row's columns and the place that an error message names."""

    columns: dict[str, Any]
    where: str

    def fail(self, what: str, hint: str = "docs/data-formats.md shows a row of every format") -> DataError:
        """The error to raise about this row; it tells the columns that the row has."""
        return DataError(self.where, f"{what} (columns: {', '.join(self.columns) or 'none'})", hint)

    def get(self, name: str) -> Any:
        """The column's value; a missing column is an error."""
        if self.columns.get(name) is None:
            raise self.fail(f"`{name}` is missing")
        return self.columns[name]

    def text(self, name: str) -> str:
        """A column that holds text."""
        value = self.get(name)
        if not isinstance(value, str):
            raise self.fail(f"`{name}` is {short(value)}, not text")
        return clean(value)

    def optional(self, name: str) -> str:
        """A column that holds text, `""` where it is absent or null."""
        return "" if self.columns.get(name) is None else self.text(name)

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
        """A prompt: a transcript that ends in `Assistant:`, any other text, or messages."""
        value = self.get(name)
        if not isinstance(value, str):
            return self.turns(name)
        return parse_dialogue(clean(value)) if is_transcript(value) else (Turn("user", clean(value)),)

    def answer(self, name: str, prompt: Dialogue) -> str:
        """An answer: text, or messages of which one is left, the assistant's, when the prompt's are taken off."""
        if isinstance(self.get(name), str):
            return self.text(name)
        turns = self.turns(name)
        rest = turns[len(prompt) :] if turns[: len(prompt)] == prompt else turns
        if len(rest) != 1 or rest[0].role != "assistant":
            raise Unusable("answers of several turns")
        return rest[0].content

    def _turn(self, message: Any, name: str) -> Turn:
        if not isinstance(message, dict):
            raise self.fail(f"`{name}` holds {short(message)}, not a message")
        speaker, words = message.get("role", message.get("from")), message.get("content", message.get("value"))
        if not isinstance(speaker, str) or not isinstance(words, str | None):
            raise self.fail(f"`{name}` holds {short(message)}, not a message with a role and text")
        if speaker not in SPEAKERS or words is None:
            raise Unusable(f"conversations with turns of `{speaker}`")
        return Turn(SPEAKERS[speaker], clean(words))
