"""axe finds nothing serious on any page, light, dark or on a phone; and what a screen reader is told."""

from __future__ import annotations

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

FOUR = ("first text", "second \u202etext", "third text " * 400, "fourth text")
LOOKS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "phone": {"phone": True, "color_scheme": "light"},
    "phone in the dark": {"phone": True, "color_scheme": "dark"},
}


def serious(page: Page) -> list[str]:
    """What axe finds serious or critical, with the elements."""
    found = Axe().run(page).response["violations"]
    return [
        f"{one['impact']} {one['id']}: {node['html'][:160]} ({node['failureSummary'][:300]})"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


RANKING = {
    "fresh": [],
    "in the middle": ["2", "1", "=", "3", "Shift+5"],
    "refused": ["Enter"],
    "complete": ["4"],
    "guidelines": ["g"],
    "help": ["Escape", "?"],
    "skip": ["Escape", "s"],
    "flags": ["Escape", "f", "h"],
    "done": ["f", "Enter"],
}
"""States of the ranking page, and the keys that lead from each to the next."""


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_nothing_serious_while_ranking(serve, enter, look):
    visit = enter(serve([("A prompt \u200b of some words", FOUR)], likert=True), **look)
    for state, keys in RANKING.items():
        visit.press(*keys)
        if state == "done":
            visit.page.locator("#rest").wait_for()
        assert serious(visit.page) == [], state


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
@pytest.mark.parametrize(("mode", "keys"), [("pairwise", "1"), ("likert", "34"), ("write", "")])
def test_nothing_serious_in_the_other_modes(serve, enter, mode, keys, look):
    visit = enter(serve([("Prompt", FOUR[:2])], mode=mode, likert=True), **look)
    visit.press(*keys)
    if mode == "write":
        visit.page.get_by_role("button", name="Begin from response A").click()
    assert serious(visit.page) == []


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_nothing_serious_on_the_other_pages(serve, enter, look):
    running = serve([(f"Prompt {i}", FOUR) for i in range(3)], likert=True, reviewers=2)
    for name in ("anna", "boris"):
        visit = enter(running, name)
        for done in range(3):
            visit.press("1", "Shift+3", "2", "Shift+6", "3", "4", "f", "h", "f", "Enter")
            visit.saved(done + 1)
    owner = enter(running, "olga", owner=True, **look)
    for path, ready in (
        ("/quality", "#report table"),
        ("/models", "#report table"),
        ("/people", "#report table"),
        ("/invite?token=x", "form"),
        ("/x", "h1"),
    ):
        owner.page.goto(running.url + path)
        owner.page.locator(ready).first.wait_for()
        assert serious(owner.page) == [], path
    owner.faults.clear()  # /x is not there


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
def test_nothing_serious_while_chatting(serve, enter, look):
    visit = enter(serve([("Prompt", FOUR)], chat=True), **look)
    visit.page.get_by_role("link", name="Chat").click()
    visit.page.get_by_label("Your message").fill("Hello")
    assert serious(visit.page) == []
    visit.press("Enter")
    visit.page.locator(".card .text").first.wait_for()
    assert serious(visit.page) == []
    visit.press("1")
    visit.page.locator("#said", has_text="Saved.").wait_for()
    assert serious(visit.page) == []


def test_axe_would_find_something(serve, enter):
    visit = enter(serve([("Prompt", FOUR)]))
    visit.page.evaluate("document.querySelector('.submit').replaceChildren()")
    visit.page.evaluate("document.getElementById('progress-text').style.color = '#ddd'")
    found = "\n".join(serious(visit.page))
    assert "button-name" in found and "color-contrast" in found


def test_what_a_screen_reader_is_told(serve, enter):
    visit = enter(serve([("Prompt", FOUR)]))
    page = visit.page
    assert page.locator("#said").get_attribute("role") == "status"
    visit.press("2")
    assert page.locator("#said").inner_text() == "B is placed 1st."
    assert page.locator(":focus").get_attribute("aria-label") == "Response B, 1st"
    visit.press("4", "=")
    assert page.locator("#said").inner_text() == "D: 1st, tied with B."
    assert page.locator(":focus").get_attribute("aria-label") == "Response D, 1st, tied with B"
    visit.press("Enter")
    assert page.get_by_role("alert").inner_text().startswith("Not placed yet: A, C.")
    visit.press("1", "3", "Enter")
    page.locator("#rest").wait_for()
    assert page.locator(":focus").inner_text() == "All done"


def test_tab_goes_through_everything_and_not_astray(serve, enter):
    """Prompt, then card by card, then the order and what ends the task; every stop has a name and a visible place."""
    visit = enter(serve([("Prompt", FOUR)], likert=True))
    page = visit.page
    page.locator("#prompt").focus()
    names = []
    for _ in range(60):
        page.keyboard.press("Tab")
        names.append(
            page.evaluate(
                "(() => { const e = document.activeElement; return e === document.body ? 'body' :"
                " e.getAttribute('aria-label') || e.innerText || e.closest('label')?.innerText || e.name; })()"
            )
        )
        if names[-1] == "body":
            break
    assert all(names)
    expected = ["Response A, not placed", "Response B, not placed", "Place A next", "Place D next"]
    places = [names.index(name) for name in expected[:2]] + [
        len(names) - 1 - names[::-1].index(name) for name in expected[2:]
    ]
    assert places == sorted(places)
    assert any("Submit" in name for name in names[places[-1] :])
