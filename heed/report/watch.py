"""The page of a run while it trains, served to a browser on this machine and to nobody else.

The address that is printed holds a token that is good for one visit: it is exchanged for a cookie that scripts cannot
read and other sites cannot send, and leaves the address bar.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from heed.errors import ConfigError
from heed.report.command import page_of
from heed.report.html import content_policy, html, static
from heed.report.read import is_run, runs_in

LOOPBACK = "127.0.0.1"
HOSTS = [LOOPBACK, "localhost"]
COOKIE = "heed-watch"
STRANGER = "Open the address that heed watch printed: it is good for one visit, and this browser has not made it.\n"

log = logging.getLogger("heed")


def serve(path: Path, port: int, every: float) -> None:
    """Serve the page of a run until Ctrl-C. `every` is seconds between two looks at its files."""
    page_of(path, live=True)  # what is wrong with the directory is told before anything is served
    listener = listen(port)
    port, token = listener.getsockname()[1], secrets.token_urlsafe(24)
    log.info("watch  http://%s:%d/?token=%s", LOOPBACK, port, token)
    log.info("       for a browser on this machine, once; Ctrl-C ends it, the run goes on")
    config = uvicorn.Config(
        app(Watched(path, every), token, port), log_level="error", lifespan="off", server_header=False
    )
    uvicorn.Server(config).run(sockets=[listener])


def listen(port: int) -> socket.socket:
    """A socket that only this machine can reach. Raises ConfigError where the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        raise ConfigError(
            "--port", f"{port} cannot be had: {error.strerror}", "give another, or 0 for a free one"
        ) from None
    return listener


class Watched:
    """The page of a run as it is now: made anew only when one of its files has changed."""

    def __init__(self, path: Path, every: float) -> None:
        self.path, self.every = path, every
        self._lock = threading.Lock()
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self._text = ""

    def text(self) -> str:
        """The page's HTML."""
        with self._lock:
            seen = self._stamps()
            if seen != self._seen:
                self._text, self._seen = html(page_of(self.path, live=True), self.every), seen
            return self._text

    def _stamps(self) -> tuple[tuple[str, int, int], ...]:
        runs = [self.path] if is_run(self.path) else [self.path, *runs_in(self.path)]
        found = []
        for file in (
            file for path in runs for file in sorted(path.iterdir()) if file.suffix in (".json", ".jsonl", ".yaml")
        ):
            try:
                told = file.stat()
            except FileNotFoundError:  # renamed between the two looks: the next look sees the new one
                continue
            found.append((str(file), told.st_size, told.st_mtime_ns))
        return tuple(found)


def app(watched: Watched, token: str, port: int) -> Starlette:
    """One page behind one token. Requests under a name that is not this machine's are refused (DNS rebinding)."""
    tokens, session = {token}, secrets.token_urlsafe(24)
    name = f"{COOKIE}-{port}"  # cookies do not know ports: two watches must not share one

    def visit(request: Request) -> Response:
        given = request.query_params.get("token", "")
        if given in tokens:
            tokens.clear()
            answer = RedirectResponse("/", status_code=303)
            answer.set_cookie(name, session, httponly=True, samesite="strict", path="/")
            return secure(answer)
        if not secrets.compare_digest(request.cookies.get(name, ""), session):
            return secure(PlainTextResponse(STRANGER, status_code=403))
        text = watched.text()
        tag = f'"{hashlib.sha256(text.encode()).hexdigest()[:32]}"'
        if request.headers.get("if-none-match") == tag:
            return secure(Response(status_code=304, headers={"ETag": tag}))
        return secure(HTMLResponse(text, headers={"ETag": tag}))

    return Starlette(routes=[Route("/", visit)], middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=HOSTS)])


def secure(answer: Response) -> Response:
    """The same answer with the headers that keep it to itself."""
    policy = content_policy(static("style.css"), static("page.js"), live=True)
    headers: Mapping[str, str] = {
        "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cache-Control": "no-store",
        "Cross-Origin-Resource-Policy": "same-origin",
    }
    answer.headers.update(headers)
    return answer
