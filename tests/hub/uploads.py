"""The stand-in's other half: repositories are made and filled, in the hub's HTTP layout, by whoever has the token.

Files are taken inside the commit itself, base64, as the hub takes small ones.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from http.client import HTTPMessage
from pathlib import Path
from typing import Any, BinaryIO

TOKEN = "hf_aSecretThatNobodyMayRead"
OTHERS = "somebody-else"  # an owner in whose name the token may not write
ROUTE = re.compile(
    r"^/api/(?:repos/create|validate-yaml|models/(?P<name>[^/]+/[^/]+)/(?P<what>preupload|commit)/main)$"
)

Answer = tuple[int, dict[str, Any]]


def body(headers: HTTPMessage, stream: BinaryIO) -> bytes:
    """What was sent, whole or in chunks."""
    if headers.get("Transfer-Encoding", "").lower() != "chunked":
        return stream.read(int(headers.get("Content-Length", 0)))
    found = b""
    while size := int(stream.readline().split(b";")[0], 16):
        found += stream.read(size)
        stream.readline()
    stream.readline()
    return found


def answer(path: str, headers: HTTPMessage, read: Callable[[], bytes], models: Path, address: str) -> Answer | None:
    """Status and JSON; None for a path that is not of an upload."""
    found = ROUTE.match(path)
    if found is None:
        return None
    sent = read()
    if headers.get("Authorization") != f"Bearer {TOKEN}":
        return 401, {"error": "Invalid username or password."}
    if path == "/api/validate-yaml":
        return 200, {"warnings": [], "errors": []}
    if path == "/api/repos/create":
        told = json.loads(sent)
        name = f"{told.get('organization') or 'me'}/{told['name']}"
        return created(models, name, address)
    folder = models / found["name"]
    if found["what"] == "preupload":
        files = [
            {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False} for one in json.loads(sent)["files"]
        ]
        return 200, {"files": files}
    for line in sent.splitlines():
        one = json.loads(line)
        if one["key"] == "file":
            place = folder / one["value"]["path"]
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(base64.b64decode(one["value"]["content"]))
    return 200, {"commitUrl": f"{address}/{found['name']}/commit/{'1' * 40}", "commitOid": "1" * 40}


def created(models: Path, name: str, address: str) -> Answer:
    """A new repository, or one that is there."""
    if name.startswith(f"{OTHERS}/"):
        return 403, {"error": f"You don't have the rights to create a model under the namespace {OTHERS}"}
    if (models / name).exists():
        return 409, {"error": "You already created this model repo", "url": f"{address}/{name}"}
    (models / name).mkdir(parents=True)
    return 200, {"url": f"{address}/{name}", "name": name}
