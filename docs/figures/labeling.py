"""Screenshots of every page of `heed label` for docs/labeling.md: `python docs/figures/labeling.py`, about a minute.

Fills databases in a temporary directory, starts the real server on them and looks at it with Chromium.
"""

from __future__ import annotations

import argparse
import io
import random
import shutil
import socket
import sys
import tempfile
import threading
import time
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from heed.labeling import assignment
from heed.labeling.app import application
from heed.labeling.assignment import Policy
from heed.labeling.desk import Desk
from heed.labeling.doors import Site
from heed.labeling.interview import Interview, Models
from heed.labeling.messages import Judged, Mode, Submission
from heed.labeling.messages import Task as ShownTask
from heed.labeling.security import Sessions
from heed.labeling.store import people, tasks
from heed.labeling.store.database import Database, sqlite_url
from heed.labeling.store.people import Labeler
from heed.labeling.store.tasks import Candidate, Kind, NewTask
from heed.records import Turn

FIGURES = Path(__file__).parent / "labeling"
DESK = {"viewport": {"width": 1280, "height": 760}}
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "device_scale_factor": 1.5}
GUIDELINES = """Read the prompt, then every response.

Prefer what helps the person who asked: it does what was asked, in the manner that was asked for, and stops.

Then what is true: a made-up fact weighs more than a clumsy sentence.

Then what is harmless.

Ties are welcome. Where two responses are about as good, say so."""

MODELS = ("sft", "ppo", "ppo-ptx", "base")
QUALITY = {"sft": 0.4, "ppo": 1.1, "ppo-ptx": 1.2, "base": -1.5}
QUESTIONS: dict[str, dict[str, str]] = {
    "My neighbour feeds my cat and now she hardly comes home. How do I bring this up without a quarrel?": {
        "ppo": "Start with what is true: the neighbour likes your cat. “I can see she loves being with you” opens the "
        "door better than a complaint.\n\nThen say what worries you, and make it about the cat: she is putting on "
        "weight, she is on a diet, you miss her in the evening. Ask for one clear thing, for example no food and a "
        "closed door after six.\n\nIf it helps, offer something back: they may still play with her.",
        "ppo-ptx": "Thank them first, then explain that she has to eat at home only, because you keep an eye on her "
        "weight. People rarely argue with a vet’s advice. Ask them to send her home in the evening.",
        "sft": "You could talk to your neighbour and tell them not to feed your cat.",
        "base": "My neighbour feeds my cat and now she hardly comes home. My neighbour feeds my dog and now he hardly "
        "comes home. My neighbour feeds",
    },
    "Write a two-sentence out-of-office note for a week in the mountains.": {
        "ppo": "I am in the mountains until Monday the 14th, where the only bars are on the ridge and none are on my "
        "phone. For anything urgent please write to Kim (kim@example.org); everything else I answer when I am back.",
        "sft": "I am out of office this week. I will answer when I am back.",
        "ppo-ptx": "Thank you for your message. I am away until the 14th without a connection; Kim "
        "(kim@example.org) helps with whatever cannot wait.",
        "base": "Out of office: the best 10 notes of 2021, ranked by our readers.",
    },
    "What is the difference between a fjord and a bay?": {
        "ppo-ptx": "A fjord is a long, narrow, deep inlet with steep sides that a glacier carved and the sea filled. "
        "A bay is any wide bend of the coast where the sea reaches into the land; it may have any origin and is often "
        "shallow.",
        "ppo": "A fjord was carved by a glacier: it is narrow, deep and steep, and often deeper inland than at its "
        "mouth. A bay is simply a broad opening of the sea into the land.",
        "sft": "A fjord is in Norway and a bay is not in Norway.",
        "base": "Fjord, bay, gulf, strait, sound, inlet, cove, creek, lagoon",
    },
}
CHAT = """
import json, sys
print(json.dumps({"models": sys.argv[1:]}), flush=True)
SAID = {
    1: ("Yes, it is rude to leave without saying goodbye.",
        "At a big party nobody minds: thanks by message the next day are enough. Tell somebody only "
        "if they would look for you, or wait with a taxi."),
    3: ("At a dinner for four you should say goodbye.",
        "There it would be noticed. Say so when a course ends, thank the host at the door, and go."),
}
for line in sys.stdin:
    texts = SAID[len(json.loads(line)["turns"])]
    print(json.dumps({"answers": [{"text": text, "finished": True} for text in texts]}), flush=True)
"""
PEOPLE = {"Anna": (0.5, 34), "Boris": (0.7, 52), "Chen": (1.0, 41), "Dora": (0.6, 27)}
"""Labelers: spread of their taste, usual seconds for a task."""


def question(prompt: str, texts: dict[str, str], kind: Kind, keep: int = 4) -> NewTask:
    """A task in the order of the page's models."""
    candidates = [Candidate(texts[model], model != "base", model) for model in MODELS if model in texts]
    return NewTask(kind, (Turn("user", prompt),), tuple(candidates[:keep]))


def database(directory: Path, kind: Kind, judged: int) -> Database:
    """The three questions, and before them `judged` short ones that only the figures know."""
    made = Database.open(sqlite_url(directory / f"{kind}-{judged}.sqlite"))
    texts = [
        {model: f"{model} on {i}" + " and more" * ((7 * i) % 5 + k) for k, model in enumerate(MODELS)}
        for i in range(judged)
    ]
    keep = 2 if kind == "pairwise" else 4
    new = [question(f"Question {i}", each, kind) for i, each in enumerate(texts)]
    with made.write() as connection:
        tasks.add(connection, new)
        tasks.add(connection, [question(*each, kind, keep) for each in QUESTIONS.items()])
    return made


def judge(shown: ShownTask, models: list[str], spread: float, draw: random.Random) -> Judged:
    """What a labeler with some taste of their own says."""
    worth = [QUALITY[model] + draw.gauss(0, spread) for model in models]
    rounded = [round(2 * value) for value in worth]
    levels = sorted(set(rounded), reverse=True)
    flags = [["fails_task"] * (value < -0.8) + ["hallucination"] * (draw.random() < 0.08) for value in worth]
    likert = [min(7, max(1, round(4 + 1.4 * value))) for value in worth]
    return Judged(ranks=[levels.index(value) + 1 for value in rounded], likert=likert, flags=flags)


def answer_all(desk: Desk, everybody: dict[str, Labeler], count: int) -> None:
    """Let the people answer `count` tasks each."""
    for name, (spread, usual) in PEOPLE.items():
        draw = random.Random(name)
        for _ in range(count):
            shown = desk.turnout(everybody[name].id).task
            if shown is None:
                return
            models = [next(m for m in MODELS if card.text.startswith(f"{m} on ")) for card in shown.cards]
            judged = judge(shown, models, spread, draw)
            desk.rank(
                everybody[name].id, Submission(task=shown.task, seconds=usual * draw.uniform(0.5, 1.8), judged=judged)
            )


class Stand:
    """A server with people, and the links that let them in."""

    def __init__(
        self, directory: Path, mode: Mode, judged: int = 0, likert: bool = False, models: Models | None = None
    ) -> None:
        policy = Policy(mode=mode, reviewers=4)
        self.database = database(directory, policy.kind, judged)
        with self.database.write() as connection:
            assignment.ask(connection, policy, ["train", "held_out"])
            groups = {name: "held_out" if name == "Dora" else "train" for name in PEOPLE}
            self.people = {
                name: people.welcome(connection, name, group, "admitted", time.time())  # type: ignore[arg-type]
                for name, group in groups.items()
            }
        desk = Desk(self.database, policy)
        answer_all(desk, self.people, judged)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        interview = Interview(self.database, models) if models else None
        site = Site(desk, Sessions(b"screenshots" * 3), ("127.0.0.1",), GUIDELINES, likert, interview=interview)
        self.server = uvicorn.Server(
            uvicorn.Config(application(site), host="127.0.0.1", port=port, log_level="warning")
        )
        self.thread = threading.Thread(target=self.server.run)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)

    def link(self, name: str, owner: bool = False) -> str:
        """A fresh link for somebody."""
        with self.database.write() as connection:
            person = people.welcome(connection, name, "train", "admitted", time.time(), owner)
            token = people.invite(connection, person, time.time())
        return f"{self.url}/{'enter' if owner else 'invite'}?token={token}"

    def stop(self) -> None:
        """End the server."""
        self.server.should_exit = True
        self.thread.join()
        self.database.close()


def come_in(
    browser: Browser, stand: Stand, name: str, owner: bool = False, **options: object
) -> tuple[BrowserContext, Page]:
    """A signed-in page."""
    context = browser.new_context(**({"reduced_motion": "reduce"} | options))  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(stand.link(name, owner))
    if not owner:
        page.get_by_role("button", name="Begin").click()
    page.locator("#desk:visible, #rest:visible").wait_for()
    return context, page


def shoot(page: Page, name: str, whole: bool = False) -> None:
    """Save what is to be seen; a page that tells of a problem is no picture for the documents."""
    problem = page.locator("#problem")
    if problem.count() and problem.inner_text():
        raise RuntimeError(f"{name}: {problem.inner_text()}")
    page.evaluate("document.fonts.ready")
    taken = page.screenshot(full_page=whole, animations="disabled", caret="hide")
    small = Image.open(io.BytesIO(taken)).convert("RGB").quantize(96, dither=Image.Dither.NONE)
    small.save(FIGURES / f"{name}.png", optimize=True)


def looks(
    browser: Browser, stand: Stand, name: str, act: object, whole: bool = False, owner: bool = False, path: str = "/"
) -> None:
    """The same page light, dark and on a phone."""
    for look, options in {
        "light": {**DESK, "color_scheme": "light"},
        "dark": {**DESK, "color_scheme": "dark"},
        "phone": {**PHONE, "color_scheme": "light"},
    }.items():
        context, page = come_in(browser, stand, "owner" if owner else look, owner, **options)
        if path != "/":
            page.goto(stand.url + path)
            page.locator("#report:not([aria-busy]), #desk:visible").wait_for()
        act(page, look)  # type: ignore[operator]
        shoot(page, f"{name}-{look}", whole and look != "phone")
        context.close()


def press(*keys: str) -> object:
    """An action: press these keys."""

    def act(page: Page, look: str) -> None:
        for key in keys:
            page.keyboard.press(key)

    return act


def write_something(page: Page, look: str) -> None:
    """An action of the mode write."""
    page.get_by_role("button", name="Begin from response A").click()


def invite_somebody(page: Page, look: str) -> None:
    """An action of the people page: a link, which ends with the database."""
    page.get_by_label("Name").fill("Emil")
    page.get_by_role("button", name="Make a link").click()
    page.get_by_label("Link", exact=True).wait_for()


def talk(page: Page, look: str) -> None:
    """An action of the chat page: a question, answers, a vote, another question."""
    for question, key in (
        ("Is it rude to leave a party without saying goodbye?", "2"),
        ("And at a dinner for four?", ""),
    ):
        page.get_by_label("Your message").fill(question)
        page.keyboard.press("Enter")
        page.locator(".card .text").first.wait_for()
        if key:
            page.keyboard.press(key)
            page.locator("#said", has_text="Saved.").wait_for()


def main() -> None:
    """Take them all."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    FIGURES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=parser.parse_args().chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        places = Path(directory)
        for name, mode, likert, act in (
            ("rank", "rank", False, press("3", "1", "=")),
            ("rate", "rank", True, press("2", "Shift+6")),
            ("pairwise", "pairwise", False, press("1")),
            ("likert", "likert", True, press("5", "3")),
            ("write", "write", False, write_something),
        ):
            own = places / name
            own.mkdir()
            stand = Stand(own, mode, likert=likert)  # type: ignore[arg-type]
            looks(browser, stand, name, act)
            if name == "rank":
                extras(browser, stand)
            stand.stop()
        with Models(("runs/sft", "runs/ppo"), (sys.executable, "-c", CHAT)) as models:
            stand = Stand(places, "rank", models=models)
            looks(browser, stand, "chat", talk, path="/chat")
            stand.stop()
        stand = Stand(places, "rank", judged=40)
        looks(browser, stand, "quality", press(), True, True, "/quality")
        looks(browser, stand, "models", press(), True, True, "/models")
        looks(browser, stand, "people", invite_somebody, True, True, "/people")
        stand.stop()
        browser.close()


def extras(browser: Browser, stand: Stand) -> None:
    """Invitation, guidelines, keys, skip."""
    context = browser.new_context(**DESK, color_scheme="light")  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(stand.link("Emil"))
    shoot(page, "invite-light")
    page.get_by_role("button", name="Begin").click()
    page.locator("#desk:visible").wait_for()
    for key, name in (("g", "guidelines"), ("?", "help"), ("s", "skip")):
        page.keyboard.press(key)
        shoot(page, f"{name}-light")
        page.keyboard.press("Escape")
    context.close()


if __name__ == "__main__":
    main()
