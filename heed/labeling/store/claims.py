"""Who holds which task: claiming, holding, giving back. Every function runs inside a transaction of `Database.write`.

A quota counts what is `taken` (answers and leases), so that a claim is one statement: it finds a task with room and
takes the room, and no second claim can take the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    bindparam,
    delete,
    exists,
    func,
    insert,
    or_,
    select,
    update,
)

from heed.labeling.store.people import Labeler
from heed.labeling.store.tables import ANSWERS, FULL, drafts, leases, quotas, rankings, tasks

ME: BindParameter[Any] = bindparam("me")
GROUP: BindParameter[Any] = bindparam("my_group")
KIND: BindParameter[Any] = bindparam("of_kind")
NOW: BindParameter[Any] = bindparam("now")


@dataclass(frozen=True, slots=True)
class Lease:
    """A task in a labeler's hands until `expires`; `shown[slot]` is a place among its candidates."""

    task: int
    shown: tuple[int, ...]
    expires: float


def _touched(task: ColumnElement[int]) -> ColumnElement[bool]:
    """Whether the labeler `me` holds a task or has done with it."""
    seen = [exists().where(table.c.task_id == task, table.c.labeler_id == ME) for table in (leases, *ANSWERS)]
    return or_(*seen)


# Statements are made once, since that takes as long as to run one. No parameter is called as a column is.

_SWEEP = delete(leases).where(leases.c.expires <= NOW).returning(leases.c.task_id, leases.c.labeler_group)

_OPEN = select(quotas.c.task_id).where(quotas.c.labeler_group == GROUP, quotas.c.kind == KIND)
_OPEN = _OPEN.where(~_touched(quotas.c.task_id)).limit(1)
_WAITING = _OPEN.where(quotas.c.queue < FULL).order_by(quotas.c.queue, quotas.c.turn, quotas.c.task_id)
_CLAIM = (
    update(quotas)
    .where(quotas.c.labeler_group == GROUP)
    .where(quotas.c.task_id == _WAITING.with_for_update(skip_locked=True).scalar_subquery())
    .values(taken=quotas.c.taken + 1)
    .returning(quotas.c.task_id)
)
_UNDONE = _OPEN.where(quotas.c.done < quotas.c.wanted)

_NEXT_GOLD = select(tasks.c.id).where(tasks.c.gold_known, tasks.c.kind == KIND, ~_touched(tasks.c.id))
_NEXT_GOLD = _NEXT_GOLD.order_by(tasks.c.id).limit(1)

_RANKED = select(func.count(), func.count().filter(tasks.c.gold_known))
_RANKED = _RANKED.select_from(rankings).join(tasks, tasks.c.id == rankings.c.task_id).where(rankings.c.labeler_id == ME)

_HELD = select(leases).join(tasks, tasks.c.id == leases.c.task_id).where(leases.c.labeler_id == ME)
_HELD = _HELD.where(tasks.c.kind == KIND).order_by(leases.c.id.desc()).limit(1)


def sweep(connection: Connection, now: float) -> int:
    """Tasks whose lease has run out go back into the queue; their drafts stay. Returns how many."""
    returned = Counter((task, group) for task, group in connection.execute(_SWEEP, {"now": now}))
    for (task, group), count in sorted(returned.items()):
        _count(connection, task, group, taken=-count)
    return returned.total()


def claim(connection: Connection, labeler: Labeler, kind: str) -> int | None:
    """Take room in a task that the labeler has not seen, partly done ones first; None where there is none."""
    return connection.execute(_CLAIM, _asked_by(labeler, kind)).scalar_one_or_none()


def next_gold(connection: Connection, labeler: Labeler, kind: str) -> int | None:
    """A gold question that the labeler has not seen. It needs no room: everybody may answer it."""
    return connection.execute(_NEXT_GOLD, {"me": labeler.id, "of_kind": kind}).scalar_one_or_none()


def others_hold(connection: Connection, labeler: Labeler, kind: str) -> bool:
    """Whether a task that the labeler has not seen is full only because of somebody's lease."""
    return connection.execute(_UNDONE, _asked_by(labeler, kind)).first() is not None


def _asked_by(labeler: Labeler, kind: str) -> dict[str, object]:
    return {"me": labeler.id, "my_group": labeler.group, "of_kind": kind}


def hold(connection: Connection, labeler: Labeler, task: int, shown: Sequence[int], expires: float) -> Lease:
    """Write down that the labeler has the task in hand."""
    connection.execute(
        insert(leases).values(
            task_id=task, labeler_id=labeler.id, labeler_group=labeler.group, shown=list(shown), expires=expires
        )
    )
    return Lease(task, tuple(shown), expires)


def held(connection: Connection, labeler: Labeler, kind: str) -> Lease | None:
    """The task of this kind that the labeler took in hand last."""
    row = connection.execute(_HELD, {"me": labeler.id, "of_kind": kind}).first()
    return None if row is None else Lease(row.task_id, tuple(row.shown), row.expires)


def renew(connection: Connection, labeler: Labeler, task: int, expires: float) -> Lease | None:
    """Hold the task on until `expires`; None where the labeler does not hold it."""
    own = update(leases).where(leases.c.labeler_id == labeler.id, leases.c.task_id == task)
    row = connection.execute(own.values(expires=expires).returning(leases.c.shown)).first()
    return None if row is None else Lease(task, tuple(row.shown), expires)


def take_again(connection: Connection, labeler: Labeler, task: int) -> bool:
    """Take room in one task, as after a lease that ran out; False where others have filled it or it has been answered.

    A gold question always has room.
    """
    unseen = select(tasks.c.id).where(tasks.c.id == task, ~_touched(tasks.c.id))
    if connection.execute(unseen, {"me": labeler.id}).first() is None:
        return False
    if is_gold(connection, task):
        return True
    room = update(quotas).where(quotas.c.task_id == task, quotas.c.labeler_group == labeler.group)
    room = room.where(quotas.c.taken < quotas.c.wanted).values(taken=quotas.c.taken + 1)
    return connection.execute(room).rowcount == 1


def let_go(connection: Connection, labeler: Labeler, task: int, answered: bool) -> None:
    """End the lease and drop the draft. Where the task was not answered, its room is free again."""
    connection.execute(delete(leases).where(leases.c.labeler_id == labeler.id, leases.c.task_id == task))
    connection.execute(delete(drafts).where(drafts.c.labeler_id == labeler.id, drafts.c.task_id == task))
    _count(connection, task, labeler.group, taken=0 if answered else -1, done=1 if answered else 0)


def reopen(connection: Connection, labeler: Labeler, task: int) -> None:
    """An answer was withdrawn: its room is taken by a lease again."""
    _count(connection, task, labeler.group, done=-1)


def is_gold(connection: Connection, task: int) -> bool:
    """Whether the task is a gold question."""
    return bool(connection.execute(select(tasks.c.gold_known).where(tasks.c.id == task)).scalar_one_or_none())


def gold_answers(connection: Connection, labeler: Labeler) -> list[tuple[list[int], list[int] | None]]:
    """The expected and the given ranks of every gold question that the labeler answered."""
    both = select(tasks.c.gold, rankings.c.ranks).join(tasks, tasks.c.id == rankings.c.task_id)
    both = both.where(rankings.c.labeler_id == labeler.id, tasks.c.gold_known)
    return [(gold, ranks) for gold, ranks in connection.execute(both.order_by(rankings.c.id))]


def ranked_counts(connection: Connection, labeler: Labeler) -> tuple[int, int]:
    """Rankings by the labeler, and how many of them answer gold questions."""
    every, gold = connection.execute(_RANKED, {"me": labeler.id}).one()
    return every, gold


def _count(connection: Connection, task: int, group: str, taken: int = 0, done: int = 0) -> None:
    own = update(quotas).where(quotas.c.task_id == task, quotas.c.labeler_group == group)
    connection.execute(own.values(taken=quotas.c.taken + taken, done=quotas.c.done + done))
