"""Who labels, how far they have come, and links for more people: the owner's people page."""

from __future__ import annotations

from fastapi import APIRouter

from heed.labeling.doors import TheOwner, TheSite
from heed.labeling.overview import GroupRow, Invitation, NewInvitation, PeoplePage, PersonRow
from heed.labeling.slots import Refused
from heed.labeling.store import headcount, people
from heed.labeling.store.people import Labeler

router = APIRouter()


@router.get("/api/people")
def everybody(site: TheSite, owner: TheOwner) -> PeoplePage:
    """Everybody, and what is asked of each group."""
    database = site.desk.database
    with database.read() as connection:
        known = people.everybody(connection)
        answers, skips = headcount.answers(connection), headcount.skipped(connection)
        busy, waiting = headcount.in_hand(connection, database.clock()), headcount.waiting(connection)
        work = headcount.work(connection)
    return PeoplePage(
        groups=[GroupRow(group=w.group, kind=w.kind, tasks=w.tasks, wanted=w.wanted, done=w.done) for w in work],
        people=[
            PersonRow(
                name=person.name,
                group=person.group,
                status=person.status,
                owner=person.owner,
                answers=answers[person.id],
                skips=skips[person.id],
                at_work=person.id in busy,
                link_unused=person.id in waiting,
            )
            for person in known
        ],
    )


@router.post("/api/people")
def invite(site: TheSite, owner: TheOwner, body: NewInvitation) -> Invitation:
    """A one-time link for somebody, new or known; earlier links of theirs stop working."""
    name = body.name.strip()
    if not name or not name.isprintable():
        raise Refused(422, "a name has a letter at least, and nothing that cannot be seen")
    database = site.desk.database
    with database.write() as connection:
        status = "screening" if site.desk.policy.screening else "admitted"
        person = people.welcome(connection, name, body.group, status, database.clock())  # type: ignore[arg-type]
        _refuse_owner(person)
        token = people.invite(connection, person, database.clock())
    return Invitation(name=person.name, group=person.group, path=f"/invite?token={token}", public=site.public)


def _refuse_owner(person: Labeler) -> None:
    if person.owner:
        raise Refused(422, "this is the owner's name; the owner's link is printed where the server was started")
