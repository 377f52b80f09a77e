"""Everything that was said, for exports and for the statistics."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, func, select

from heed.labeling.store.tables import demonstrations, events, exchanges, labelers, rankings, skips, tasks, votes


@dataclass(frozen=True, slots=True)
class StoredRanking:
    """One labeler's ranking. Tuples over responses are in the order of the candidates; `shown[slot]` is a place."""

    task: int
    labeler: str
    labeler_group: str
    mode: str
    shown: tuple[int, ...]
    ranks: tuple[int, ...] | None
    likert: tuple[int | None, ...] | None
    flags: tuple[tuple[str, ...], ...] | None
    none_acceptable: bool
    note: str
    seconds: float


@dataclass(frozen=True, slots=True)
class StoredDemonstration:
    """A text that a labeler wrote, from candidate `edited` if that is not None."""

    task: int
    labeler: str
    labeler_group: str
    text: str
    edited: int | None
    seconds: float


@dataclass(frozen=True, slots=True)
class StoredVote:
    """A comparison from chat and rate: two responses in the order in which they were shown."""

    exchange: int
    labeler: str
    labeler_group: str
    prompt: list[dict[str, str]]
    responses: tuple[str, ...]
    finished: tuple[bool, ...]
    models: tuple[str, ...]
    preferred: str
    seconds: float


def all_rankings(connection: Connection) -> list[StoredRanking]:
    """All rankings, gold questions included, by task and then by labeler: the same rows always in the same order."""
    both = select(rankings, labelers.c.name, labelers.c.labeler_group)
    both = both.join(labelers, labelers.c.id == rankings.c.labeler_id)
    ordered = both.order_by(rankings.c.task_id, rankings.c.labeler_id)
    return [_ranking(row) for row in connection.execute(ordered)]


def all_demonstrations(connection: Connection) -> list[StoredDemonstration]:
    """All demonstrations by task and then by labeler."""
    both = select(demonstrations, labelers.c.name, labelers.c.labeler_group)
    both = both.join(labelers, labelers.c.id == demonstrations.c.labeler_id)
    ordered = both.order_by(demonstrations.c.task_id, demonstrations.c.labeler_id)
    return [
        StoredDemonstration(row.task_id, row.name, row.labeler_group, row.text, row.edited, row.seconds)
        for row in connection.execute(ordered)
    ]


def all_votes(connection: Connection) -> list[StoredVote]:
    """All votes of chat and rate, the oldest first."""
    both = select(exchanges, votes.c.preferred, votes.c.seconds, labelers.c.name, labelers.c.labeler_group)
    both = both.join(votes, votes.c.exchange_id == exchanges.c.id)
    both = both.join(labelers, labelers.c.id == exchanges.c.labeler_id)
    return [
        StoredVote(
            row.id, row.name, row.labeler_group, row.prompt, tuple(row.responses), tuple(row.finished),
            tuple(row.models), row.preferred, row.seconds,
        )
        for row in connection.execute(both.order_by(exchanges.c.id))
    ]  # fmt: skip


def skip_counts(connection: Connection) -> Counter[str]:
    """How many tasks each labeler skipped, by name."""
    counted = select(labelers.c.name, func.count()).join(skips, skips.c.labeler_id == labelers.c.id)
    return Counter(dict(connection.execute(counted.group_by(labelers.c.name)).all()))


def last_event(connection: Connection) -> int:
    """Number of the newest event, 0 where there is none."""
    return connection.execute(select(func.max(events.c.id))).scalar_one() or 0


def how_many(connection: Connection) -> tuple[int, int, int]:
    """Tasks that are not gold questions, rankings of them, demonstrations."""
    plain = select(func.count()).select_from(tasks).where(~tasks.c.gold_known)
    ranked = select(func.count()).select_from(rankings).join(tasks, tasks.c.id == rankings.c.task_id)
    written = select(func.count()).select_from(demonstrations)
    found = [connection.execute(query).scalar_one() for query in (plain, ranked.where(~tasks.c.gold_known), written)]
    return found[0], found[1], found[2]


def _ranking(row: Row[Any]) -> StoredRanking:
    return StoredRanking(
        row.task_id,
        row.name,
        row.labeler_group,
        row.mode,
        tuple(row.shown),
        None if row.ranks is None else tuple(row.ranks),
        None if row.likert is None else tuple(row.likert),
        None if row.flags is None else tuple(tuple(names) for names in row.flags),
        row.none_acceptable,
        row.note,
        row.seconds,
    )
