"""Tasks and their candidates: adding them once, reading them."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, bindparam, func, insert, select, update

from heed.labeling.store.tables import candidates, models, quotas, tasks
from heed.records import Dialogue, Turn, prompt_to_json

Kind = Literal["rank", "pairwise", "write"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A response, and the model that wrote it."""

    text: str
    finished: bool
    model: str


@dataclass(frozen=True, slots=True)
class NewTask:
    """A task to be added; `gold`: the ranks that a gold question expects."""

    kind: Kind
    prompt: Dialogue
    candidates: tuple[Candidate, ...]
    source: str = ""
    group: str = ""
    gold: tuple[int, ...] | None = None

    @property
    def key(self) -> str:
        """Hash of what the task shows, the same in every database."""
        shown = [[c.text, c.finished, c.model] for c in self.candidates]
        content = json.dumps([self.kind, prompt_to_json(self.prompt), shown, self.gold])
        return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class StoredTask:
    """A task of the database."""

    id: int
    key: str
    kind: Kind
    prompt: Dialogue
    candidates: tuple[Candidate, ...]
    source: str
    group: str
    gold: tuple[int, ...] | None


def add(connection: Connection, new: Iterable[NewTask]) -> list[int]:
    """Add the tasks that are not there yet; returns the numbers of those that were added."""
    known = set(connection.execute(select(tasks.c.key)).scalars())
    fresh = {task.key: task for task in new if task.key not in known}
    names = _models(connection, {c.model for task in fresh.values() for c in task.candidates})
    if not fresh:
        return []
    numbered = insert(tasks).returning(tasks.c.id, sort_by_parameter_order=True)
    added = list(connection.execute(numbered, [_row(key, task) for key, task in fresh.items()]).scalars())
    rows = [
        {"task_id": number, "place": place, "text": c.text, "finished": c.finished, "model_id": names[c.model]}
        for number, task in zip(added, fresh.values(), strict=True)
        for place, c in enumerate(task.candidates)
    ]
    if rows:
        connection.execute(insert(candidates), rows)
    return added


def want(connection: Connection, group: str, answers: dict[int, int], soon: bool = False) -> None:
    """Ask for so many answers of a group of labelers to each task; what was asked for before is replaced.

    `soon`: new ones go before all that nobody has begun.
    """
    first = connection.execute(select(func.min(quotas.c.turn))).scalar_one() or 0
    known = set(connection.execute(select(quotas.c.task_id).where(quotas.c.labeler_group == group)).scalars())
    kinds = dict(connection.execute(select(tasks.c.id, tasks.c.kind)).all())
    fresh = [
        {
            "task_id": task,
            "labeler_group": group,
            "kind": kinds[task],
            "wanted": wanted,
            "done": 0,
            "taken": 0,
            "turn": first - 1 if soon else 0,
        }
        for task, wanted in answers.items()
        if task not in known
    ]
    if fresh:
        connection.execute(insert(quotas), fresh)
    for task in known & answers.keys():
        own = update(quotas).where(quotas.c.task_id == task, quotas.c.labeler_group == group)
        connection.execute(own.where(quotas.c.wanted != answers[task]).values(wanted=answers[task]))


def keys(connection: Connection) -> dict[int, str]:
    """Key of every task that is not a gold question, by number."""
    return dict(connection.execute(select(tasks.c.id, tasks.c.key).where(~tasks.c.gold_known)).all())


def model_names(connection: Connection) -> list[str]:
    """Every model that wrote a candidate, in alphabetical order."""
    return list(connection.execute(select(models.c.name).order_by(models.c.name)).scalars())


def key_and_size(connection: Connection, task: int) -> tuple[str, int]:
    """A task's key, and how many candidates it has."""
    counted = select(func.count()).select_from(candidates).where(candidates.c.task_id == task).scalar_subquery()
    key, size = connection.execute(select(tasks.c.key, counted).where(tasks.c.id == task)).one()
    return key, size


def read(connection: Connection, task: int) -> StoredTask | None:
    """One task with its candidates."""
    row = connection.execute(_ONE, {"number": task}).first()
    if row is None:
        return None
    shown = connection.execute(_ITS_CANDIDATES, {"number": task})
    return _stored(row, [Candidate(each.text, each.finished, each.model) for each in shown])


def read_all(connection: Connection) -> list[StoredTask]:
    """All tasks with their candidates, in the order in which they were added."""
    rows = connection.execute(select(tasks).order_by(tasks.c.id)).all()
    responses: dict[int, list[Candidate]] = defaultdict(list)
    for row in connection.execute(_CANDIDATES.order_by(candidates.c.task_id, candidates.c.place)):
        responses[row.task_id].append(Candidate(row.text, row.finished, row.model))
    return [_stored(row, responses[row.id]) for row in rows]


_CANDIDATES = select(candidates, models.c.name.label("model")).join(models, models.c.id == candidates.c.model_id)
_ONE = select(tasks).where(tasks.c.id == bindparam("number"))
_ITS_CANDIDATES = _CANDIDATES.where(candidates.c.task_id == bindparam("number")).order_by(candidates.c.place)


def _models(connection: Connection, wanted: set[str]) -> dict[str, int]:
    known = dict(connection.execute(select(models.c.name, models.c.id)).all())
    if fresh := [{"name": name} for name in sorted(wanted - known.keys())]:
        connection.execute(insert(models), fresh)
        known = dict(connection.execute(select(models.c.name, models.c.id)).all())
    return known


def _row(key: str, task: NewTask) -> dict[str, Any]:
    return {
        "key": key,
        "kind": task.kind,
        "prompt": [[turn.role, turn.content] for turn in task.prompt],
        "source": task.source,
        "prompt_group": task.group,
        "gold": None if task.gold is None else list(task.gold),
        "gold_known": task.gold is not None,
    }


def _stored(row: Row[Any], responses: list[Candidate]) -> StoredTask:
    prompt = tuple(Turn(role, content) for role, content in row.prompt)
    gold = None if row.gold is None else tuple(row.gold)
    return StoredTask(row.id, row.key, row.kind, prompt, tuple(responses), row.source, row.prompt_group, gold)
