"""Who may use which route: what the routes depend on. `app.py` puts the `Site` where they find it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Request
from fastapi.responses import RedirectResponse, Response
from starlette.exceptions import HTTPException

from heed.labeling.desk import Desk
from heed.labeling.interview import Interview
from heed.labeling.security import SESSION_SECONDS, BackOff, Bucket, Sessions, Visitor, retry_after
from heed.labeling.store import people
from heed.labeling.store.people import Labeler

RATE, BURST = 30.0, 90.0  # requests of one labeler: a second, at once


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that the routes need. `hosts` are the names under which the page may be asked for, `public` is the
    address in invitations (empty: the one at which the owner sees the page)."""

    desk: Desk
    sessions: Sessions
    hosts: Sequence[str]
    guidelines: str = ""
    likert: bool = True
    public: str = ""
    interview: Interview | None = None
    secure_host: str = ""  # reached by https only: its cookies are not sent by http
    bucket: Bucket = field(default_factory=lambda: Bucket(RATE, BURST))
    backoff: BackOff = field(default_factory=BackOff)


async def site(request: Request) -> Site:
    """The application's site."""
    found: Site = request.app.state.site
    return found


async def visitor(request: Request, site: Annotated[Site, Depends(site)]) -> Visitor:
    """Whoever is signed in and does not ask too fast. A change must carry the session's form token."""
    found = site.sessions.visitor(request.cookies.get(site.sessions.cookie))
    if found is None:
        raise HTTPException(401, "sign in first: open the link that you were given")
    if wait := site.bucket.wait(found.labeler):
        raise HTTPException(429, "too many requests; wait a moment", retry_after(wait))
    token = request.headers.get("x-form-token", "")
    if request.method == "POST" and not site.sessions.is_form_token(token, found.nonce):
        raise HTTPException(403, "the page is out of date; reload it")
    return found


def person(site: Annotated[Site, Depends(site)], visitor: Annotated[Visitor, Depends(visitor)]) -> Labeler:
    """Whoever is signed in, with name and group."""
    with site.desk.database.read() as connection:
        known = people.by_id(connection, visitor.labeler)
    if known is None:
        raise HTTPException(401, "you are not known here any more; ask for a new link")
    return known


def owner(person: Annotated[Labeler, Depends(person)]) -> Labeler:
    """Whoever started the server."""
    if not person.owner:
        raise HTTPException(403, "this page is for whoever runs the labeling")
    return person


TheSite = Annotated[Site, Depends(site)]
TheVisitor = Annotated[Visitor, Depends(visitor)]
ThePerson = Annotated[Labeler, Depends(person)]
TheOwner = Annotated[Labeler, Depends(owner)]


def sign_in(request: Request, site: Site, token: str) -> Response:
    """A one-time token for a session cookie, and on to the page without the token in its address."""
    address = request.client.host if request.client else ""
    if wait := site.backoff.wait(address):
        raise HTTPException(429, "too many wrong links; wait a moment", retry_after(wait))
    database = site.desk.database
    with database.read() as connection:
        salt = people.salt_of(connection, token)
    hashed = people.hashed(token.partition(".")[2], salt or "00")  # as long for a wrong number as for a right one
    with database.write() as connection:
        labeler = people.spend(connection, token, hashed, database.clock())
    if labeler is None:
        site.backoff.failed(address)
        raise HTTPException(403, "this link has been used or was never right; ask for a new one")
    site.backoff.passed(address)
    response = RedirectResponse("/", status_code=303)
    response.set_cookie(
        site.sessions.cookie,
        site.sessions.issue(labeler.id),
        max_age=SESSION_SECONDS,
        httponly=True,
        samesite="strict",
        secure=request.url.hostname == site.secure_host,
    )
    return response
