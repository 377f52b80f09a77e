"""What keeps strangers and foreign web pages out. The page runs on a person's own machine, beside all sites they visit.

A foreign page in the same browser can send requests to this server: it is known by `Host`, `Origin` and
`Sec-Fetch-Site`, and cannot read the form token that every change must carry. `docs/labeling.md` says more.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from itsdangerous import BadSignature, URLSafeTimedSerializer
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from heed.errors import ConfigError

SESSION_SECONDS = 30 * 86_400
MAX_BODY = 1_000_000  # bytes of a request: a text of 100,000 characters in JSON's longest spelling and some more
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; script-src 'self'; frame-ancestors 'none'; "
        "object-src 'none'; base-uri 'none'; form-action 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # not no-referrer: browsers then send `Origin: null` with forms
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
SAFE = frozenset(("GET", "HEAD"))


def installation_secret(path: Path) -> bytes:
    """The key that cookies are signed with, made on first use and readable by its owner alone.

    Raises ConfigError where others can read it.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return _read_secret(path)
    with os.fdopen(descriptor, "wb") as file:
        file.write(secrets.token_hex(32).encode())
        file.flush()
        os.fsync(file.fileno())
    return _read_secret(path)


def _read_secret(path: Path) -> bytes:
    if os.name == "posix" and path.stat().st_mode & 0o077:
        raise ConfigError(str(path), "others can read the key of the labelers' sessions", f"chmod 600 {path}")
    secret = path.read_bytes()
    if len(secret) < 32:
        raise ConfigError(str(path), "holds no key", "delete it; a new one is made, and everybody signs in again")
    return secret


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who a session cookie belongs to; `nonce` is the session's own."""

    labeler: int
    nonce: str


class Sessions:
    """Signed cookies, and the form token that goes with each."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._serializer = URLSafeTimedSerializer(secret, salt="session")
        # Browsers share cookies between the ports of a machine: each installation has a name of its own.
        self.cookie = "heed_" + hashlib.sha256(b"cookie" + secret).hexdigest()[:8]

    def issue(self, labeler: int) -> str:
        """A new session's cookie."""
        return str(self._serializer.dumps([labeler, secrets.token_hex(16)]))

    def visitor(self, cookie: str | None) -> Visitor | None:
        """Who sent the cookie; None where it is missing, forged or too old."""
        try:
            labeler, nonce = self._serializer.loads(cookie or "", max_age=SESSION_SECONDS)
        except BadSignature:
            return None
        return Visitor(labeler, nonce)

    def form_token(self, nonce: str) -> str:
        """What a change must carry, so that a page which cannot read this one's pages cannot send it."""
        return hmac.new(self._secret, f"form {nonce}".encode(), hashlib.sha256).hexdigest()

    def is_form_token(self, token: str, nonce: str) -> bool:
        """Whether `token` belongs to the session."""
        return hmac.compare_digest(token.encode(), self.form_token(nonce).encode())


class ForeignPages:
    """Refuses changes that another site's page sends, and gives every answer the headers of `HEADERS`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["method"] not in SAFE and not is_same_origin(Headers(scope=scope)):
            refusal = JSONResponse({"problem": "this request comes from another site"}, status_code=403)
            await refusal(scope, receive, send_with_headers)
            return
        await self.app(scope, receive, send_with_headers)


def is_same_origin(headers: Headers) -> bool:
    """Whether a change comes from a page of this server. Browsers say so in one of two headers at least."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    if site is None and origin is None:
        return False
    if site is not None and site != "same-origin":
        return False
    return origin is None or urlsplit(origin).netloc == headers.get("host")


@dataclass(slots=True)
class Bucket:
    """A token bucket: `rate` requests a second, `burst` at once."""

    rate: float
    burst: float
    clock: Callable[[], float] = time.monotonic
    _left: dict[int, tuple[float, float]] = field(default_factory=dict)

    def wait(self, visitor: int) -> float:
        """0 where the visitor may go on, otherwise the seconds to wait."""
        now = self.clock()
        left, before = self._left.get(visitor, (self.burst, now))
        left = min(self.burst, left + (now - before) * self.rate)
        if left < 1:
            return (1 - left) / self.rate
        self._left[visitor] = (left - 1, now)
        return 0.0


@dataclass(slots=True)
class BackOff:
    """After `free` wrong tokens in a row from an address, each more doubles the time in which it is not listened to."""

    free: int = 5
    longest: float = 60.0
    clock: Callable[[], float] = time.monotonic
    _wrong: dict[str, tuple[int, float]] = field(default_factory=dict)

    def wait(self, address: str) -> float:
        """Seconds for which the address has to wait still."""
        return max(0.0, self._wrong.get(address, (0, 0.0))[1] - self.clock())

    def failed(self, address: str) -> None:
        """The address sent a wrong token."""
        if len(self._wrong) > 10_000:  # addresses are cheap to make up
            self._wrong = {known: wrong for known, wrong in self._wrong.items() if wrong[1] > self.clock()}
        count = self._wrong.get(address, (0, 0.0))[0] + 1
        pause = min(self.longest, 2.0 ** (count - self.free)) if count > self.free else 0.0
        self._wrong[address] = (count, self.clock() + pause)

    def passed(self, address: str) -> None:
        """The address sent a right token."""
        self._wrong.pop(address, None)


def retry_after(seconds: float) -> dict[str, str]:
    """The header that says how long to wait."""
    return {"Retry-After": str(math.ceil(seconds))}
