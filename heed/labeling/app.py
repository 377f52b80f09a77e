"""The web application: the routes behind their guards, and how refusals look. Never imports torch."""

from __future__ import annotations

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.types import ASGIApp

from heed.labeling.doors import Site
from heed.labeling.people_page import router as people_router
from heed.labeling.routes import router, templates
from heed.labeling.security import MAX_BODY, ForeignPages
from heed.labeling.slots import Refused


def application(site: Site) -> ASGIApp:
    """The whole application behind its guards."""
    app = FastAPI(title="heed", openapi_url=None, docs_url=None, redoc_url=None)
    app.state.site = site
    app.include_router(router)
    app.include_router(people_router)
    app.mount("/static", StaticFiles(directory=Path(__file__).parent / "static"))
    app.add_exception_handler(HTTPException, _refused_by_http)
    app.add_exception_handler(Refused, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    limited = RequestBodyLimitMiddleware(app, MAX_BODY)
    return ForeignPages(TrustedHostMiddleware(limited, list(site.hosts), www_redirect=False))


def _problem(request: Request, status: int, words: str, headers: dict[str, str] | None = None) -> Response:
    """A refusal: a `Problem` for scripts, a page for people. It never repeats what was sent."""
    if request.url.path.startswith("/api/"):
        return JSONResponse({"problem": words}, status, headers)
    context = {"words": words, "status": status}
    return templates.TemplateResponse(request, "problem.html", context, status_code=status, headers=headers)


def _refused_by_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _problem(request, error.status_code, error.detail, dict(error.headers or {}))


def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, Refused)
    return _problem(request, error.status, error.words)


def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    told = "; ".join(f"{'.'.join(map(str, one['loc'][1:]))}: {one['msg']}" for one in error.errors()[:3])
    return _problem(request, 422, told)
