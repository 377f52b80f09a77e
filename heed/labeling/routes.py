"""The routes, as the table in `messages.py` lists them.

Endpoints are plain functions, which FastAPI runs in threads: they wait for the database, and nothing else waits with
them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from fastapi import APIRouter, Form, Request
from fastapi.responses import HTMLResponse, Response
from fastapi.templating import Jinja2Templates
from starlette.exceptions import HTTPException

from heed.labeling import messages
from heed.labeling.doors import Site, TheOwner, ThePerson, TheSite, TheVisitor, sign_in
from heed.labeling.export_rows import Export, FormatName
from heed.labeling.exports import download
from heed.labeling.interview import Interview
from heed.labeling.overview import ModelsPage, QualityPage
from heed.labeling.security import Visitor
from heed.labeling.slots import Refused
from heed.labeling.store.people import Labeler

templates = Jinja2Templates(Path(__file__).parent / "templates")  # autoescape is on for .html
router = APIRouter()

# ── coming in ────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/enter")
def enter(request: Request, site: TheSite, token: str = "") -> Response:
    """The owner's link, typed or opened by the program that printed it."""
    return sign_in(request, site, token)


@router.get("/invite")
def invite(request: Request, site: TheSite, token: str = "") -> HTMLResponse:
    """A labeler's link: a page with a button, and only the button spends the token.

    Programs that preview links follow them. And after a redirect from somebody else's page the browser would not send
    its strict cookie; from this page it does.
    """
    context = {"token": token, "form_token": site.sessions.form_token(f"invite {token}")}
    return templates.TemplateResponse(request, "invite.html", context)


@router.post("/invite")
def accept(
    request: Request, site: TheSite, token: Annotated[str, Form()] = "", form_token: Annotated[str, Form()] = ""
) -> Response:
    """The button of the invitation."""
    if not site.sessions.is_form_token(form_token, f"invite {token}"):
        raise HTTPException(403, "the page is out of date; open the link again")
    return sign_in(request, site, token)


# ── pages ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/")
def home(request: Request, site: TheSite, visitor: TheVisitor, person: ThePerson) -> HTMLResponse:
    """The labeling page."""
    return _page(request, "label.html", site, visitor, person)


@router.get("/quality")
def quality(request: Request, site: TheSite, visitor: TheVisitor, person: TheOwner) -> HTMLResponse:
    """How far the labels can be trusted."""
    return _page(request, "quality.html", site, visitor, person)


@router.get("/models")
def models(request: Request, site: TheSite, visitor: TheVisitor, person: TheOwner) -> HTMLResponse:
    """Whose responses people prefer."""
    return _page(request, "models.html", site, visitor, person)


@router.get("/people")
def people(request: Request, site: TheSite, visitor: TheVisitor, person: TheOwner) -> HTMLResponse:
    """Who labels, and links for more people."""
    return _page(request, "people.html", site, visitor, person)


def _page(request: Request, template: str, site: Site, visitor: Visitor, person: Labeler) -> HTMLResponse:
    context = {
        "mode": site.desk.policy.mode,
        "labeler": person.name,
        "owner": person.owner,
        "chat": site.interview is not None,
        "form_token": site.sessions.form_token(visitor.nonce),
    }
    return templates.TemplateResponse(request, template, context)


# ── labeling ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/api/session")
def session(site: TheSite, visitor: TheVisitor, person: ThePerson) -> messages.Session:
    """Who is here and how the page behaves."""
    return messages.Session(
        labeler=person.name,
        owner=person.owner,
        mode=site.desk.policy.mode,
        form_token=site.sessions.form_token(visitor.nonce),
        guidelines=site.guidelines,
        likert=site.likert,
        chat=site.interview is not None,
    )


@router.get("/api/progress")
def progress(site: TheSite, visitor: TheVisitor) -> messages.Progress:
    """How far the labeler and everybody has come."""
    return site.desk.progress(visitor.labeler)


@router.post("/api/next")
def next_task(site: TheSite, visitor: TheVisitor, body: messages.Nothing) -> messages.Turnout:
    """The task in hand, or a new one."""
    return site.desk.turnout(visitor.labeler)


@router.post("/api/draft")
def draft(site: TheSite, visitor: TheVisitor, body: messages.Draft) -> messages.Kept:
    """Keep what is there so far."""
    return site.desk.keep_draft(visitor.labeler, body)


@router.post("/api/heartbeat")
def heartbeat(site: TheSite, visitor: TheVisitor, body: messages.TaskName) -> messages.Lease:
    """Hold the task on."""
    return site.desk.heartbeat(visitor.labeler, body.task)


@router.post("/api/rank")
def rank(site: TheSite, visitor: TheVisitor, body: messages.Submission) -> messages.Receipt:
    """A judgement."""
    return site.desk.rank(visitor.labeler, body)


@router.post("/api/write")
def write(site: TheSite, visitor: TheVisitor, body: messages.Written) -> messages.Receipt:
    """A demonstration."""
    return site.desk.write(visitor.labeler, body)


@router.post("/api/skip")
def skip(site: TheSite, visitor: TheVisitor, body: messages.Skip) -> messages.Receipt:
    """Leave the task to somebody else."""
    return site.desk.skip(visitor.labeler, body)


@router.post("/api/undo")
def undo(site: TheSite, visitor: TheVisitor, body: messages.Nothing) -> messages.Turnout:
    """Withdraw the last answer."""
    return site.desk.undo(visitor.labeler)


# ── chat and rate ────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/chat")
def chat(request: Request, site: TheSite, visitor: TheVisitor, person: ThePerson) -> HTMLResponse:
    """Talk to two models."""
    _interview(site)
    return _page(request, "chat.html", site, visitor, person)


@router.post("/api/chat")
def ask(site: TheSite, visitor: TheVisitor, body: messages.ChatPrompt) -> messages.ChatAnswers:
    """Both models' answers."""
    return _interview(site).ask(visitor.labeler, body)


@router.post("/api/vote")
def vote(site: TheSite, visitor: TheVisitor, body: messages.Vote) -> messages.VoteReceipt:
    """Whose answer was better."""
    return _interview(site).vote(visitor.labeler, body)


def _interview(site: Site) -> Interview:
    if site.interview is None:
        raise Refused(404, "there is nobody to talk to: start the server with --chat MODEL MODEL")
    return site.interview


# ── for the owner ────────────────────────────────────────────────────────────────────────────────────────────────────


@router.get("/api/quality")
def quality_figures(site: TheSite, owner: TheOwner) -> QualityPage:
    """Figures of the quality page."""
    from heed.labeling.findings import quality_page  # with numpy, which labelers need not wait for

    return quality_page(site.desk.database)


@router.get("/api/models")
def models_figures(site: TheSite, owner: TheOwner, split: Literal["all", "train", "held_out"] = "all") -> ModelsPage:
    """Figures of the models page."""
    from heed.labeling.findings import models_page

    return models_page(site.desk.database, split)


@router.get("/api/export")
def export(site: TheSite, owner: TheOwner, format: FormatName = "rankings") -> Response:
    """A file to download."""
    name, content = download(site.desk.database, Export(format=format))
    attachment = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type="application/octet-stream", headers=attachment)
