"""How far everybody has come, in numbers: for the people page."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

from sqlalchemy import Connection, func, select

from heed.labeling.store.tables import demonstrations, invites, leases, quotas, rankings, skips


class Work(NamedTuple):
    """Answers that a group of labelers is asked for and has given, over all tasks of a kind."""

    group: str
    kind: str
    tasks: int
    wanted: int
    done: int


def work(connection: Connection) -> list[Work]:
    """What was asked for and given, by group and kind of task."""
    sums = func.count(), func.sum(quotas.c.wanted), func.sum(quotas.c.done)
    columns = quotas.c.labeler_group, quotas.c.kind
    grouped = select(*columns, *sums).group_by(*columns).order_by(*columns)
    return [Work(*row) for row in connection.execute(grouped)]


def answers(connection: Connection) -> Counter[int]:
    """Rankings and demonstrations by labeler's number, gold questions included."""
    return _by_labeler(connection, rankings.c.labeler_id) + _by_labeler(connection, demonstrations.c.labeler_id)


def skipped(connection: Connection) -> Counter[int]:
    """Skipped tasks by labeler's number."""
    return _by_labeler(connection, skips.c.labeler_id)


def in_hand(connection: Connection, now: float) -> set[int]:
    """Numbers of the labelers who hold a task right now."""
    return set(connection.execute(select(leases.c.labeler_id).where(leases.c.expires > now)).scalars())


def waiting(connection: Connection) -> set[int]:
    """Numbers of the labelers whose newest link has not been used."""
    return set(connection.execute(select(invites.c.labeler_id).where(invites.c.spent.is_(None))).scalars())


def _by_labeler(connection: Connection, column: object) -> Counter[int]:
    counted = select(column, func.count()).group_by(column)  # type: ignore[call-overload]
    return Counter(dict(connection.execute(counted).all()))
