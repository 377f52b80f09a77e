"""Labelers, and the one-time tokens with which they come in. Of a token only a salted scrypt hash is kept."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Literal, cast

from sqlalchemy import Connection, Row, insert, select, update

from heed.labeling.store.tables import invites, labelers

LabelerGroup = Literal["train", "held_out"]
Status = Literal["screening", "admitted", "refused"]


@dataclass(frozen=True, slots=True)
class Labeler:
    """A person who ranks. Rankings by held-out labelers are never trained on: they test what was learned of others."""

    id: int
    name: str
    group: LabelerGroup
    owner: bool
    status: Status


def by_id(connection: Connection, labeler: int) -> Labeler | None:
    """The labeler with this number."""
    row = connection.execute(select(labelers).where(labelers.c.id == labeler)).first()
    return None if row is None else _labeler(row)


def lock(connection: Connection, labeler: int) -> Labeler | None:
    """The labeler, whose other requests wait until this transaction ends."""
    row = connection.execute(select(labelers).where(labelers.c.id == labeler).with_for_update()).first()
    return None if row is None else _labeler(row)


def everybody(connection: Connection) -> list[Labeler]:
    """All labelers, in the order in which they came."""
    return [_labeler(row) for row in connection.execute(select(labelers).order_by(labelers.c.id))]


def welcome(
    connection: Connection, name: str, group: LabelerGroup, status: Status, now: float, owner: bool = False
) -> Labeler:
    """The labeler of this name, who is added where there is none yet. Who is there keeps group and status."""
    known = select(labelers).where(labelers.c.name == name)
    row = connection.execute(known).first()
    if row is None:
        values = {"name": name, "labeler_group": group, "owner": owner, "status": status, "created": now}
        row = connection.execute(insert(labelers).values(values).returning(labelers)).one()
    return _labeler(row)


def set_status(connection: Connection, labeler: Labeler, status: Status) -> None:
    """Admit or refuse a labeler."""
    connection.execute(update(labelers).where(labelers.c.id == labeler.id).values(status=status))


def invite(connection: Connection, labeler: Labeler, now: float) -> str:
    """A token that lets the labeler in once. Earlier tokens that were not used are worth nothing from now on."""
    earlier = update(invites).where(invites.c.labeler_id == labeler.id, invites.c.spent.is_(None))
    connection.execute(earlier.values(spent=now))
    secret, salt = secrets.token_urlsafe(24), secrets.token_hex(16)
    values = {"labeler_id": labeler.id, "salt": salt, "hash": hashed(secret, salt), "created": now}
    number = connection.execute(insert(invites).values(values).returning(invites.c.id)).scalar_one()
    return f"{number}.{secret}"


def salt_of(connection: Connection, token: str) -> str | None:
    """The salt of a token that has not been spent; None for any other text."""
    unspent = select(invites.c.salt).where(invites.c.id == _number(token), invites.c.spent.is_(None))
    return connection.execute(unspent).scalar_one_or_none()


def spend(connection: Connection, token: str, hashed: str, now: float) -> Labeler | None:
    """The labeler whose token this is, and the token is worth nothing any more; None for any other.

    `hashed` is the token's hash: it is made before this transaction, in which others would wait for it.
    """
    unspent = select(invites).where(invites.c.id == _number(token), invites.c.spent.is_(None)).with_for_update()
    row = connection.execute(unspent).first()
    if row is None or not hmac.compare_digest(hashed, row.hash):
        return None
    connection.execute(update(invites).where(invites.c.id == row.id).values(spent=now))
    return by_id(connection, row.labeler_id)


def _number(token: str) -> int:
    """The number that a token begins with, 0 where there is none."""
    number = token.partition(".")[0]
    return int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0


def any_invited(connection: Connection) -> bool:
    """Whether anybody but the owner has been invited."""
    others = select(labelers.c.id).where(~labelers.c.owner).limit(1)
    return connection.execute(others).first() is not None


def hashed(secret: str, salt: str) -> str:
    """The scrypt hash of a token's secret; about 50 ms."""
    return hashlib.scrypt(secret.encode(), salt=bytes.fromhex(salt), n=2**14, r=8, p=1).hex()


def _labeler(row: Row[tuple[object, ...]]) -> Labeler:
    group, status = cast("LabelerGroup", row.labeler_group), cast("Status", row.status)
    return Labeler(row.id, row.name, group, row.owner, status)
