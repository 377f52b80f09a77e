"""The stand-in answers as the hub does where the recipes do not ask: part of a file, and what is not there."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPResponse
from urllib.parse import urlsplit

import pytest
import repositories
import standin


def ask(hub: standin.Hub, method: str, path: str, **headers: str) -> HTTPResponse:
    connection = HTTPConnection(urlsplit(hub.address).netloc)
    connection.request(method, path, headers=headers)
    return connection.getresponse()


def test_part_of_a_file(hub: standin.Hub) -> None:
    path = f"/{repositories.GPT2}/resolve/main/merges.txt"
    whole = ask(hub, "GET", path)
    assert whole.read().startswith(b"#version: 0.2")
    part = ask(hub, "GET", path, Range="bytes=1-7")
    assert (part.status, part.read(), part.headers["Content-Length"]) == (206, b"version", "7")
    assert part.headers["Content-Range"] == f"bytes 1-7/{whole.headers['Content-Length']}"


def test_a_large_file_is_elsewhere(hub: standin.Hub) -> None:
    found = ask(hub, "HEAD", f"/{repositories.GPT2}/resolve/main/model.safetensors")
    there = ask(hub, "HEAD", urlsplit(found.headers["Location"]).path)
    assert found.status == 302
    assert found.headers["X-Linked-Size"] == there.headers["Content-Length"]
    assert found.headers["X-Linked-Etag"] == there.headers["ETag"]
    assert len(found.headers["X-Repo-Commit"]) == 40


MISSING = {
    "/no/such/resolve/main/config.json": "RepoNotFound",
    f"/{repositories.GPT2}/resolve/main/no.json": "EntryNotFound",
    f"/{repositories.GPT2}/resolve/v2/config.json": "RevisionNotFound",
    "/api/models/nobody": "RepoNotFound",
    f"/api/datasets/{repositories.ALPACA}/revision/v2": "RevisionNotFound",
    f"/api/datasets/{repositories.ALPACA}/tree/main/no": "EntryNotFound",
}


@pytest.mark.parametrize(("path", "code"), MISSING.items())
def test_what_is_missing_is_named(hub: standin.Hub, path: str, code: str) -> None:
    answer = ask(hub, "GET", path)
    assert (answer.status, answer.headers["X-Error-Code"]) == (404, code)
