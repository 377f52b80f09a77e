"""Chat and rate: blind answers, votes that stay, a process of models that may die."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from heed.errors import CheckpointError
from heed.labeling.findings import models_page
from heed.labeling.interview import Interview, Models
from heed.labeling.store.database import Database

from .conftest import room, signed_in, task

ECHO = """
import json, os, sys
print(json.dumps({"models": sys.argv[1:]}), flush=True)
for line in sys.stdin:
    turns = json.loads(line)["turns"]
    said = turns[-1]["content"]
    if said == "die":
        os._exit(1)
    if said == "too much":
        print(json.dumps({"problem": "this message: does not fit; say it shorter"}), flush=True)
        continue
    answers = [{"text": f"{name} heard {len(turns)}: {said}", "finished": name == "ppo"} for name in sys.argv[1:]]
    print(json.dumps({"answers": answers}), flush=True)
"""


@pytest.fixture
def models() -> Iterator[Models]:
    with Models(("sft", "ppo"), (sys.executable, "-c", ECHO)) as process:
        yield process


@pytest.fixture
def interview(sqlite: Database, models: Models) -> Interview:
    return Interview(sqlite, models)


def ask(said: str) -> dict[str, object]:
    return {"turns": [{"role": "user", "content": said}]}


def test_answers_are_blind_until_the_vote(sqlite: Database, interview: Interview) -> None:
    browser = signed_in(room(sqlite, [task(1)]), interview=interview)
    assert browser.get("/api/session").json()["chat"] is True
    firsts = set()
    for number in range(1, 21):
        found = browser.post("/api/chat", json=ask("hi")).json()
        texts = [card["text"] for card in found["cards"]]
        assert sorted(texts) == ["ppo heard 1: hi", "sft heard 1: hi"] and set(found) == {"exchange", "cards"}
        assert [card["finished"] for card in found["cards"]] == [words.startswith("ppo") for words in texts]
        firsts.add(texts[0])
        told = browser.post("/api/vote", json={"exchange": number, "preferred": "first", "seconds": 3.5}).json()
        assert told["models"] == [words[:3] for words in texts]
    assert len(firsts) == 2  # all twenty alike has odds of 1 in 500,000


def test_a_vote_is_a_comparison_of_the_models_page(sqlite: Database, interview: Interview) -> None:
    browser = signed_in(room(sqlite, [task(1)]), interview=interview)
    for _ in range(6):
        found = browser.post("/api/chat", json=ask("hi")).json()
        better = "first" if found["cards"][0]["text"].startswith("ppo") else "second"
        browser.post("/api/vote", json={"exchange": found["exchange"], "preferred": better})
    page = models_page(sqlite, "all")
    assert page.votes == 6 and [row.model for row in page.models] == ["ppo", "sft"]
    wins = {(cell.model, cell.other): cell.wins.estimate for cell in page.matrix}
    assert wins == {("ppo", "sft"): 1.0, ("sft", "ppo"): 0.0}


def test_a_vote_stays_and_is_ones_own(sqlite: Database, interview: Interview) -> None:
    here = room(sqlite, [task(1)])
    anna, bert = signed_in(here, "anna", interview=interview), signed_in(here, "bert", interview=interview)
    number = anna.post("/api/chat", json=ask("hi")).json()["exchange"]
    assert bert.post("/api/vote", json={"exchange": number, "preferred": "tie"}).status_code == 409
    assert anna.post("/api/vote", json={"exchange": number, "preferred": "tie"}).status_code == 200
    assert anna.post("/api/vote", json={"exchange": number, "preferred": "tie"}).status_code == 200
    assert anna.post("/api/vote", json={"exchange": number, "preferred": "first"}).status_code == 409
    with sqlite.read() as connection:
        assert connection.execute(text("SELECT preferred FROM votes")).scalars().all() == ["tie"]


def test_what_does_not_fit_is_told_and_a_dead_process_comes_back(sqlite: Database, interview: Interview) -> None:
    browser = signed_in(room(sqlite, [task(1)]), interview=interview)
    refused = browser.post("/api/chat", json=ask("too much"))
    assert refused.status_code == 422 and "say it shorter" in refused.json()["problem"]
    assert browser.post("/api/chat", json=ask("die")).status_code == 503
    assert browser.post("/api/chat", json=ask("hi")).status_code == 200
    assert browser.post("/api/chat", json=ask("  ")).status_code == 422
    assert browser.post("/api/chat", json={"turns": []}).status_code == 422


def test_without_models_there_is_no_chat(sqlite: Database) -> None:
    browser = signed_in(room(sqlite, [task(1)]))
    assert browser.get("/api/session").json()["chat"] is False
    assert browser.get("/chat").status_code == 404
    assert browser.post("/api/chat", json=ask("hi")).status_code == 404


def test_models_that_cannot_be_loaded_are_told(tmp_path: Path) -> None:
    with Models((str(tmp_path / "none"), str(tmp_path / "nil"))) as models, pytest.raises(CheckpointError) as refused:
        models.start()
    assert str(tmp_path / "none") in str(refused.value) and "--chat" in str(refused.value)


def test_lines_of_json_are_answered() -> None:
    import torch

    from heed.errors import DataError
    from heed.evaluation.speaker import Reply
    from heed.settings.evaluate import ChatSettings
    from heed.stages import chat

    class Parrot:
        def __init__(self, ends: bool) -> None:
            self.ends = ends

        def replies(
            self, dialogues: list[tuple[object, ...]], longest: int, temperature: float, generator: torch.Generator
        ) -> list[Reply]:
            if len(dialogues[0]) > 3:
                raise DataError("this message", "does not fit", "say it shorter")
            return [Reply(f"heard {len(dialogues[0])}", self.ends)]

    speakers = [Parrot(True), Parrot(False)]
    turns = [{"role": "user", "content": "hi"}]
    lines = [json.dumps({"turns": turns}), json.dumps({"turns": turns * 4})]
    options = ChatSettings(models=("a", "b"))
    found = list(chat.replies(speakers, lines, options, torch.Generator()))  # type: ignore[arg-type]
    assert found == [
        {"answers": [{"text": "heard 1", "finished": True}, {"text": "heard 1", "finished": False}]},
        {"problem": "this message: does not fit; say it shorter"},
    ]
