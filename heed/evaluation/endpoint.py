"""A language model behind an OpenAI-compatible address as a judge: `/chat/completions`, each pair in both orders.

What it answered is kept word for word in `judgements.jsonl`, and asked once: a run that was stopped, or one with more
models, pays for what is new.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2

from heed.errors import ConfigError
from heed.evaluation.people import Outcomes
from heed.records import Dialogue

JUDGEMENTS = "judgements.jsonl"
TRIES, PAUSE = 4, 1.0  # seconds before the second try, doubled each time
BUSY = {408, 409, 429, 500, 502, 503, 504}
GUIDELINES = (
    "You compare two answers to the same request. Judge what the person who asked would rather have: first a correct "
    "answer to what was asked, then a complete and a clear one. Length by itself is no merit, and the order of the "
    "answers means nothing. Think in a few sentences, then end with a line that holds one word alone: A, B or tie."
)
_VERDICT = re.compile(r"^\W*(?:verdict\W*)?(a|b|tie)\W*$", re.IGNORECASE)


@dataclass(frozen=True)
class Endpoint:
    """`url` ends before `/chat/completions`; `key` is sent as a bearer token where it is not empty."""

    url: str
    model: str
    key: str
    guidelines: str = GUIDELINES
    timeout: float = 60.0

    def ask(self, client: httpx2.Client, prompt: Dialogue, first: str, second: str) -> str:
        """What the judge says of two answers. Raises ConfigError where the address does not answer."""
        asked = "\n\n".join(f"{turn.role}: {turn.content}" for turn in prompt)
        told = f"The request:\n\n{asked}\n\nAnswer A:\n\n{first}\n\nAnswer B:\n\n{second}"
        messages = [{"role": "system", "content": self.guidelines}, {"role": "user", "content": told}]
        body = {"model": self.model, "messages": messages, "temperature": 0}
        reply = self._post(client, body)
        try:
            return str(reply["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError):
            told = f"answered in another form: {json.dumps(reply)[:80]}"
            raise ConfigError(self.url, told, "give the address of an OpenAI-compatible server") from None

    def _post(self, client: httpx2.Client, body: dict[str, Any]) -> Any:
        address, headers = f"{self.url.rstrip('/')}/chat/completions", {}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        for attempt in range(TRIES):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            try:
                reply = client.post(address, json=body, headers=headers, timeout=self.timeout)
            except httpx2.HTTPError as error:
                problem = f"{type(error).__name__}: {error}"
                continue
            if reply.status_code in BUSY:
                problem = f"status {reply.status_code}"
                continue
            if reply.status_code != 200:
                raise ConfigError(self.url, f"status {reply.status_code}: {reply.text[:80]}", _hint(reply.status_code))
            try:
                return reply.json()
            except ValueError:
                raise ConfigError(self.url, f"answered no JSON: {reply.text[:80]!r}", _hint(404)) from None
        told = f"no answer after {TRIES} tries ({problem})"
        raise ConfigError(self.url, told, "see whether the server runs; what was judged so far is kept")


class Judgements:
    """A judge and the file of what it said."""

    def __init__(self, endpoint: Endpoint, directory: Path) -> None:
        self.endpoint, self._file = endpoint, directory / JUDGEMENTS
        self._said: dict[tuple[str, ...], str] = {_key(row): row["answer"] for row in self._rows()}

    def outcomes(
        self, prompts: Sequence[Dialogue], ours: Sequence[str], theirs: Sequence[str], client: httpx2.Client
    ) -> Outcomes:
        """Each pair in both orders: 1 or 0 where both say so, ½ for a tie or where the order decided. Equal answers are
        ½ unasked. None where neither verdict could be read."""
        return [self._outcome(*one, client) for one in zip(prompts, ours, theirs, strict=True)]

    def _outcome(self, prompt: Dialogue, ours: str, theirs: str, client: httpx2.Client) -> float | None:
        if ours == theirs:
            return 0.5
        as_first = verdict(self._say(prompt, ours, theirs, client))
        as_second = verdict(self._say(prompt, theirs, ours, client))
        told = [value for value in (as_first, None if as_second is None else 1 - as_second) if value is not None]
        return sum(told) / len(told) if told else None

    def _say(self, prompt: Dialogue, first: str, second: str, client: httpx2.Client) -> str:
        row = {"judge": self.endpoint.model, "prompt": [turn.content for turn in prompt], "a": first, "b": second}
        if _key(row) not in self._said:
            self._said[_key(row)] = self.endpoint.ask(client, prompt, first, second)
            with self._file.open("a", encoding="utf-8") as file:
                file.write(json.dumps({**row, "answer": self._said[_key(row)]}, ensure_ascii=False) + "\n")
        return self._said[_key(row)]

    def _rows(self) -> Iterator[dict[str, Any]]:
        """Whole lines; one that a killed process cut off is asked again."""
        whole = self._file.read_bytes().rpartition(b"\n")[0] if self._file.exists() else b""
        if whole:
            self._file.write_bytes(whole + b"\n")
        yield from (json.loads(line) for line in whole.splitlines())


def verdict(answer: str) -> float | None:
    """1 where the last line says A, 0 for B, ½ for a tie; None where it says none of them."""
    lines = [line for line in answer.splitlines() if line.strip()]
    found = _VERDICT.match(lines[-1]) if lines else None
    return {"a": 1.0, "b": 0.0, "tie": 0.5}[found[1].lower()] if found else None


def key_of(variable: str) -> str:
    """The key that an environment variable holds; empty for a server that wants none."""
    return os.environ.get(variable, "") if variable else ""


def _key(row: dict[str, Any]) -> tuple[str, ...]:
    return row["judge"], *row["prompt"], row["a"], row["b"]


def _hint(status: int) -> str:
    if status in (401, 403):
        return "put the key into the environment variable that `endpoint.key` names"
    return "check endpoint.url (it ends before /chat/completions) and endpoint.model"
