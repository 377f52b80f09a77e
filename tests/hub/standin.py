"""A stand-in of the model hub on 127.0.0.1: a directory of repositories, served in the hub's HTTP layout.

`root/models/OWNER/NAME/…` and `root/datasets/OWNER/NAME/…` hold the files, each repository with one commit on `main`.
Large files are answered as the hub answers them: a redirect to another address, with their size and hash in the
headers. A name in `moved` is answered by a redirect to where the repository is now, as `gpt2` is on the hub.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import uploads

LARGE = (".safetensors", ".bin", ".parquet")  # what the hub keeps elsewhere
REPOSITORY = r"(?P<name>[^/]+(?:/[^/]+)??)"
FILE = re.compile(rf"^/(?P<kind>datasets/)?{REPOSITORY}/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")
ABOUT = re.compile(
    rf"^/api/(?P<kind>models|datasets)/{REPOSITORY}"
    r"(?:/(?P<route>revision|tree|paths-info)/(?P<revision>[^/]+)(?:/(?P<folder>.+))?)?$"
)


@dataclass
class Hub:
    """What is served, where, and what was asked for."""

    root: Path
    moved: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    asked: list[str] = field(default_factory=list)  # "METHOD /path", in order


@contextmanager
def serving(root: Path, moved: Mapping[str, str] | None = None) -> Iterator[Hub]:
    """Serve `root` while the block runs; `hub.address` is for `HF_ENDPOINT`."""
    hub = Hub(root, moved or {})
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Answer, hub))
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def __init__(self, hub: Hub, *rest: Any) -> None:
        self.hub = hub
        super().__init__(*rest)

    def log_message(self, *_: object) -> None:
        """Nothing: `hub.asked` is the log."""

    def do_GET(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        path, query = unquote(urlsplit(self.path).path), parse_qs(urlsplit(self.path).query)
        query |= parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        if path.startswith("/large/"):
            self._content(self.hub.root / path.removeprefix("/large/"))
        elif found := FILE.match(path):
            self._file(found)
        elif found := ABOUT.match(path):
            self._about(found, query)
        else:
            self._missing("EntryNotFound", f"no route {path}")

    do_HEAD = do_GET

    def do_POST(self) -> None:
        path, models = unquote(urlsplit(self.path).path), self.hub.root / "models"
        found = uploads.answer(
            path, self.headers, lambda: uploads.body(self.headers, self.rfile), models, self.hub.address
        )
        if found is None:
            self.do_GET()
            return
        self.hub.asked.append(f"{self.command} {self.path}")
        self._send(found[0], json.dumps(found[1]).encode(), {"Content-Type": "application/json"})

    # ── a file ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _file(self, found: re.Match[str]) -> None:
        folder = self._repository("datasets" if found["kind"] else "models", found["name"])
        if folder is None:
            return
        if found["revision"] not in ("main", commit(folder)):
            self._missing("RevisionNotFound", "no such revision")
            return
        file = folder / found["file"]
        told = {"X-Repo-Commit": commit(folder)}
        if not file.is_file():
            self._missing("EntryNotFound", "Entry not found", told)
        elif file.suffix in LARGE:
            elsewhere = self.hub.address.replace("127.0.0.1", "localhost")  # a redirect to the same host is followed
            place = f"{elsewhere}/large/{file.relative_to(self.hub.root)}"  # by HEAD too, to another host it is not
            linked = {"X-Linked-Etag": f'"{sha256(file)}"', "X-Linked-Size": str(file.stat().st_size)}
            self._send(302, b"", {**told, **linked, "Location": place})
        else:
            self._content(file, told)

    def _content(self, file: Path, told: Mapping[str, str] | None = None) -> None:
        content = file.read_bytes()
        headers = {"ETag": f'"{sha256(file)}"', "Accept-Ranges": "bytes", **(told or {})}
        asked = re.match(r"bytes=(\d+)-(\d*)$", self.headers.get("Range", ""))
        if asked is None:
            self._send(200, content, headers)
            return
        first, last = int(asked[1]), min(int(asked[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206, content[first : last + 1], headers)

    # ── about a repository ───────────────────────────────────────────────────────────────────────────────────────────

    def _about(self, found: re.Match[str], query: Mapping[str, list[str]]) -> None:
        folder = self._repository(found["kind"], found["name"])
        if folder is None:
            return
        if found["revision"] not in (None, "main", commit(folder)):
            self._missing("RevisionNotFound", "no such revision")
        elif found["route"] in (None, "revision"):
            self._json(description(folder, found["name"]))
        elif found["route"] == "paths-info":
            paths = [folder / path for path in query.get("paths", [])]
            self._json([entry(folder, path) for path in paths if path.exists()])
        elif (inside := folder / (found["folder"] or "")).is_dir():
            recursive = query.get("recursive", ["false"])[0].lower() in ("true", "1")
            self._json([entry(folder, path) for path in sorted(inside.rglob("*") if recursive else inside.iterdir())])
        else:
            self._missing("EntryNotFound", "no such folder")

    def _repository(self, kind: str, name: str) -> Path | None:
        """Its folder; None where there is none, or it has moved, which has then been said."""
        if name in self.hub.moved:
            self._send(307, b"", {"Location": self.path.replace(name, self.hub.moved[name], 1)})
            return None
        folder = self.hub.root / kind / name
        if not folder.is_dir():
            self._missing("RepoNotFound", "Repository not found")
            return None
        return folder

    # ── answers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _json(self, value: object) -> None:
        self._send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _missing(self, code: str, message: str, told: Mapping[str, str] | None = None) -> None:
        headers = {"X-Error-Code": code, "X-Error-Message": message, **(told or {})}
        self._send(404, json.dumps({"error": message}).encode(), headers)

    def _send(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def commit(folder: Path) -> str:
    """The repository's one commit."""
    return hashlib.sha1(f"{folder.parent.name}/{folder.name}".encode()).hexdigest()


def sha256(file: Path) -> str:
    """Hash of a file's content."""
    return hashlib.sha256(file.read_bytes()).hexdigest()


def description(folder: Path, name: str) -> dict[str, Any]:
    """What the hub says of a whole repository."""
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return {
        "id": name,
        "sha": commit(folder),
        "private": False,
        "gated": False,
        "disabled": False,
        "tags": [],
        "siblings": [{"rfilename": file} for file in files],
    }


def entry(folder: Path, path: Path) -> dict[str, Any]:
    """What the hub says of one file or folder of a repository."""
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "path": name, "oid": "0" * 40, "size": 0}
    told = {"type": "file", "path": name, "oid": sha256(path)[:40], "size": path.stat().st_size}
    if path.suffix in LARGE:
        told["lfs"] = {"oid": sha256(path), "size": path.stat().st_size, "pointerSize": 134}
    return told
