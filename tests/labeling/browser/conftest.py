"""A real server on a free port and a real Chromium before it."""

from __future__ import annotations

import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Dialog, Page, Request
from sqlalchemy import Row, select

from heed.labeling import assignment
from heed.labeling.app import application
from heed.labeling.assignment import Policy
from heed.labeling.desk import Desk
from heed.labeling.doors import Site
from heed.labeling.interview import Interview, Models
from heed.labeling.messages import Mode
from heed.labeling.security import Sessions
from heed.labeling.store import people, tasks
from heed.labeling.store.database import Database, sqlite_url
from heed.labeling.store.tables import metadata
from heed.labeling.store.tasks import Candidate, Kind, NewTask
from heed.records import Turn

PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "has_touch": True,
    "is_mobile": True,
    "device_scale_factor": 2,
}
MODEL = " <img src=x onerror=alert(2)>"
PARROTS = """
import json, sys
print(json.dumps({"models": sys.argv[1:]}), flush=True)
for line in sys.stdin:
    turns = json.loads(line)["turns"]
    said = f"{len(turns)} turns, the last was: {turns[-1]['content']}"
    print(json.dumps({"answers": [{"text": said + end, "finished": True} for end in ("!", "?")]}), flush=True)
"""
"""Two models that repeat what they hear, `sft` with an exclamation mark and `ppo` with a question mark."""
GUIDELINES = "Prefer what helps.\nThen what is true.\nThen what is harmless."


@dataclass
class Running:
    """A server under test."""

    url: str
    database: Database

    def link(self, name: str, owner: bool = False) -> str:
        """A fresh link that lets this labeler in."""
        with self.database.write() as connection:
            labeler = people.welcome(connection, name, "train", "admitted", time.time(), owner)
            token = people.invite(connection, labeler, time.time())
        return f"{self.url}/{'enter' if owner else 'invite'}?token={token}"

    def rows(self, table: str) -> list[Row[Any]]:
        """Everything in a table, in the order in which it came."""
        with self.database.read() as connection:
            return list(connection.execute(select(metadata.tables[table])))


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """`serve([(prompt, [response, …]), …], mode="rank", …)` starts a server with these tasks."""
    running: list[tuple[uvicorn.Server, threading.Thread, Database]] = []
    opened = ExitStack()

    def start(
        shown: Sequence[tuple[str | Sequence[Turn], Sequence[str]]],
        mode: Mode = "rank",
        likert: bool = False,
        guidelines: str = GUIDELINES,
        chat: bool = False,
        **rules: Any,
    ) -> Running:
        policy = Policy(mode=mode, **rules)
        database = Database.open(sqlite_url(tmp_path / f"labels{len(running)}.sqlite"))
        with database.write() as connection:
            tasks.add(connection, [task(policy.kind, *each) for each in shown])
            assignment.ask(connection, policy, ["train"])
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        models = Models(("sft", "ppo"), (sys.executable, "-c", PARROTS)) if chat else None
        interview = Interview(database, opened.enter_context(models)) if models else None
        site = Site(
            Desk(database, policy), Sessions(b"s" * 32), ("127.0.0.1",), guidelines, likert, interview=interview
        )
        server = uvicorn.Server(uvicorn.Config(application(site), host="127.0.0.1", port=port, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        running.append((server, thread, database))
        while not server.started:
            time.sleep(0.01)
        return Running(f"http://127.0.0.1:{port}", database)

    yield start
    for server, thread, database in running:
        server.should_exit = True
        thread.join()
        database.close()
    opened.close()


def task(kind: Kind, prompt: str | Sequence[Turn], responses: Sequence[str]) -> NewTask:
    """A task; response k is of a model whose name begins with `secret-k`."""
    turns = (Turn("user", prompt),) if isinstance(prompt, str) else tuple(prompt)
    return NewTask(kind, turns, tuple(Candidate(text, True, f"secret-{k}{MODEL}") for k, text in enumerate(responses)))


@dataclass
class Visit:
    """A labeler's browser, what was pressed in it, and everything in it that should not have happened."""

    page: Page
    context: BrowserContext
    pressed: int = 0
    faults: list[str] = field(default_factory=list)

    def press(self, *keys: str) -> None:
        """Press keys, and count them."""
        for key in keys:
            self.page.keyboard.press(key)
            self.pressed += 1

    def saved(self, count: int) -> None:
        """Wait until the page tells of so many answers by this labeler."""
        self.page.locator("#progress-mine", has_text=re.compile(rf"^{count}$")).wait_for(state="attached")

    def order(self) -> str:
        """The order as the page shows it, for example B›A=D."""
        return self.page.locator(".order .line").inner_text().replace("\n", "")

    def letters(self) -> dict[str, str]:
        """Text of each response → the letter of its card."""
        cards = self.page.locator(".card").all()
        return {card.locator(".text").inner_text(): card.locator(".letter").inner_text() for card in cards}


@pytest.fixture
def enter(chromium: Browser) -> Iterator[Callable[..., Visit]]:
    """`enter(running, "anna", phone=True, color_scheme="dark")` signs somebody in. Faults of any page fail the test."""
    visits: list[Visit] = []

    def sign_in(
        running: Running, name: str = "anna", phone: bool = False, owner: bool = False, **options: Any
    ) -> Visit:
        look = PHONE if phone else {"viewport": {"width": 1280, "height": 800}}
        context = chromium.new_context(**(look | {"reduced_motion": "reduce"} | options))
        context.set_default_timeout(60_000)
        page = context.new_page()
        visit = Visit(page, context)
        visits.append(visit)
        watch(visit, running.url)
        page.goto(running.link(name, owner))
        if not owner:
            page.get_by_role("button", name="Begin").click()
        page.wait_for_url(f"{running.url}/")
        page.locator("#desk:visible, #rest:visible").wait_for()
        return visit

    yield sign_in
    for visit in visits:
        visit.context.close()
    faults = [fault for visit in visits for fault in visit.faults]
    assert not faults, "\n".join(faults)


def watch(visit: Visit, url: str) -> None:
    """Note dialogs, errors, breaches of the content policy, and requests to anywhere else."""

    def opened(dialog: Dialog) -> None:
        visit.faults.append(f"dialog {dialog.message}")
        dialog.dismiss()

    def requested(request: Request) -> None:
        if not request.url.startswith((f"{url}/", "data:")):
            visit.faults.append(f"request to {request.url}")

    def said(message: ConsoleMessage) -> None:
        if message.type == "error":
            visit.faults.append(f"console: {message.text}")

    visit.page.on("dialog", opened)
    visit.page.on("request", requested)
    visit.page.on("console", said)
    visit.page.on("pageerror", lambda error: visit.faults.append(f"error: {error}"))
