"""A disk that fills while people answer: what was acknowledged is there, the rest was not acknowledged."""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import event, text

from heed.labeling.store.database import Database

from .conftest import room, signed_in, task


def rankings(database: Database) -> int:
    with database.read() as connection:
        return int(connection.execute(text("SELECT count(*) FROM rankings")).scalar_one())


def test_an_answer_that_did_not_fit_is_not_acknowledged(sqlite: Database) -> None:
    """SQLite's own limit on pages raises what a full disk raises: `database or disk is full`."""
    here = room(sqlite, [task(number) for number in range(400)])
    browser = signed_in(here)
    browser._transport.raise_server_exceptions = False  # type: ignore[attr-defined]

    def post(path: str, told: dict[str, Any]) -> Any:
        while (answered := browser.post(path, json=told)).status_code == 429:  # too fast for one person
            time.sleep(0.05)
        return answered

    def answer() -> int:
        asked = post("/api/next", {})
        if asked.status_code != 200:
            return int(asked.status_code)
        told = {"task": asked.json()["task"]["task"], "judged": {"ranks": [1, 2, 3, 4]}}
        return int(post("/api/rank", told).status_code)

    assert answer() == 200
    with sqlite.read() as connection:
        pages = connection.execute(text("PRAGMA page_count")).scalar_one() + 4

    def limit(raw: object, record: object) -> None:
        raw.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

    event.listen(sqlite.engine, "connect", limit)
    sqlite.engine.dispose()
    acknowledged = 1
    for _ in range(399):
        status = answer()
        acknowledged += status == 200
        if status != 200:
            break
    assert status >= 500 and acknowledged > 1
    event.remove(sqlite.engine, "connect", limit)
    sqlite.engine.dispose()
    assert rankings(sqlite) == acknowledged
    assert answer() == 200 and rankings(sqlite) == acknowledged + 1
