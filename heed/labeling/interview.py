"""Chat and rate: two models answer the same words, and the labeler says whose answer is better.

The models live in a process of their own, `heed chat A B --json-lines`: the page stays light, and lives on where a
model does not.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

from heed.errors import CheckpointError
from heed.labeling.messages import ChatAnswers, ChatPrompt, Vote, VoteReceipt
from heed.labeling.slots import Refused, cards
from heed.labeling.store import answers, people
from heed.labeling.store.database import Database
from heed.words import clean

HEED = (sys.executable, "-m", "heed.cli")
PATIENCE = 120.0  # seconds that a labeler waits for others' answers


class Models:
    """The process that holds two models, one question at a time. A context manager; it starts with the first question.

    A process that has ended is started again by the next question.
    """

    def __init__(self, models: Sequence[str], command: Sequence[str] = ()) -> None:
        self.models = tuple(models)
        self._command = [*command, *models] if command else [*HEED, "chat", *models, "--json-lines"]
        self._process: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()

    def start(self) -> None:
        """Load the models. Raises CheckpointError where one cannot be."""
        told = self._begin()
        if "problem" in told:
            raise CheckpointError("--chat", told["problem"], "name two checkpoints: --chat runs/sft runs/ppo")

    def answer(self, turns: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
        """What each model says next. Raises Refused where a dialogue does not fit, or nobody answers."""
        if not self._turn.acquire(timeout=PATIENCE):
            raise Refused(503, "the models are busy with others; try again in a moment")
        try:
            if self._process is None or self._process.poll() is not None:
                self._begin()
            told = self._ask({"turns": list(turns)})
        finally:
            self._turn.release()
        if "answers" not in told:
            raise Refused(422 if "problem" in told else 503, told.get("problem", "the models have stopped; try again"))
        found: list[dict[str, Any]] = told["answers"]
        return found

    def _begin(self) -> dict[str, Any]:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(self._command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8")
        return self._read()

    def _ask(self, question: dict[str, Any]) -> dict[str, Any]:
        assert self._process is not None and self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(question) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            return {}
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process is not None and self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # whatever a library prints is no answer
                told: dict[str, Any] = json.loads(line)
                return told
        return {}


class Interview:
    """Asks the models, keeps every exchange, takes votes. Who wrote which answer is told after the vote."""

    def __init__(self, database: Database, models: Models) -> None:
        self._database, self._models = database, models

    def ask(self, labeler: int, prompt: ChatPrompt) -> ChatAnswers:
        """Both models' answers, in an order that nobody can guess."""
        turns = [{"role": turn.role, "content": clean(turn.content)} for turn in prompt.turns]
        if turns[-1]["role"] != "user" or not turns[-1]["content"].strip():
            raise Refused(422, "say something first")
        said = self._models.answer(turns)
        order = list(range(len(said)))
        random.SystemRandom().shuffle(order)
        shown = [(said[k]["text"], said[k]["finished"]) for k in order]
        columns = {
            "prompt": turns,
            "responses": [text for text, _ in shown],
            "finished": [finished for _, finished in shown],
            "models": [self._models.models[k] for k in order],
        }
        with self._database.write() as connection:
            known = people.lock(connection, labeler)
            if known is None:
                raise Refused(401, "you are not known here any more; ask for a new link")
            number = answers.keep_exchange(connection, known, columns, self._database.clock())
        return ChatAnswers(exchange=number, cards=cards(shown))

    def vote(self, labeler: int, vote: Vote) -> VoteReceipt:
        """Save a vote; it cannot be changed."""
        with self._database.write() as connection:
            known = people.lock(connection, labeler)
            if known is None:
                raise Refused(401, "you are not known here any more; ask for a new link")
            now = self._database.clock()
            models = answers.vote(connection, known, vote.exchange, vote.preferred, vote.seconds, now)
        if models is None:
            raise Refused(409, "you have voted on these answers already")
        return VoteReceipt(exchange=vote.exchange, models=models)
