"""Text that models and people wrote is shown as text, whatever it says. A dialog, a request elsewhere or an error of
any page fails a test (`enter`)."""

from __future__ import annotations

from pathlib import Path

import pytest

from heed.records import Turn

STRINGS = Path(__file__).with_name("hostile.txt").read_text(encoding="utf-8").splitlines()
KINDS = "document.querySelectorAll('main *').length"


def inside(page) -> None:
    """Nothing stands over something else, and nothing reaches beyond the screen."""
    screen = page.viewport_size
    assert page.evaluate("document.documentElement.scrollWidth") <= screen["width"]
    for place in (".bar", ".bottom"):
        box = page.locator(place).bounding_box()
        assert box["x"] >= 0 and box["width"] <= screen["width"]
        assert box["y"] >= 0 and box["y"] + box["height"] <= screen["height"] + 1


def test_the_list_is_long():
    assert len(set(STRINGS)) >= 150


def test_strings_are_shown_and_never_run(serve, enter):
    """Every string as prompt and as response, nine a task; the page must show each one letter by letter."""
    tasks = [STRINGS[i : i + 9] for i in range(0, len(STRINGS), 9)]
    running = serve([(texts[0] * 2, texts if len(texts) > 1 else [*texts, "plain"]) for texts in tasks])
    visit = enter(running, viewport={"width": 1400, "height": 1000})
    page, seen, size = visit.page, set(), None
    for done, texts in enumerate(tasks):
        assert page.locator("#turns .words").inner_text() == texts[0] * 2
        shown = page.locator(".card .text").all_inner_texts()
        seen.update(shown)
        assert (
            page.locator(
                "main :is(script, img, iframe, object, embed, style, link, base, meta, a, video, math)"
            ).count()
            == 0
        )
        if len(texts) == 9:  # as many elements as for any other nine texts: no text became an element
            size = size or page.evaluate(KINDS)
            assert page.evaluate(KINDS) == size
        for card in page.locator(".card").all()[:2]:
            card.hover()
        visit.press(*(str(k + 1) for k in range(len(shown))), "Enter")
        visit.saved(done + 1)
    assert seen >= set(STRINGS)


def test_strings_in_every_other_place(serve, enter):
    """Names of labelers and models, guidelines, drafts, notes: on the labeling, quality and models pages."""
    running = serve([(string, ["one", "two"]) for string in STRINGS[:3]], guidelines="\n".join(STRINGS))
    visit = enter(running, "<img src=x onerror=alert(1)>", owner=True)
    page = visit.page
    visit.press("g")
    assert page.locator("#guidelines .words").inner_text().splitlines() == STRINGS
    visit.press("Escape", "1", "2", "Enter")
    visit.saved(1)
    page.goto(f"{running.url}/quality")
    page.locator("tbody th", has_text="<img src=x onerror=alert(1)>").wait_for()
    page.goto(f"{running.url}/models")
    page.locator("tbody th", has_text="secret-0 <img src=x onerror=alert(2)>").first.wait_for()
    page.goto(f"{running.url}/invite?token=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert page.locator("input[name=token]").get_attribute("value") == '"><script>alert(1)</script>'


def test_strings_as_an_answer_that_is_edited(serve, enter):
    text = "\n".join(STRINGS)
    running = serve([("Prompt", [text])], mode="write")
    visit = enter(running)
    visit.page.get_by_role("button", name="Begin from response A").click()
    visit.press("Control+Enter")
    visit.page.locator("#rest", has_text="All done").wait_for()
    assert running.rows("demonstrations")[0].text == text


HIDDEN = {
    "\u202e": "RIGHT-TO-LEFT OVERRIDE",
    "\u2066": "LEFT-TO-RIGHT ISOLATE",
    "\u200b": "ZERO WIDTH SPACE",
    "\u200f": "RIGHT-TO-LEFT MARK",
    "\ufeff": "ZERO WIDTH NO-BREAK SPACE",
    "\u0000": "NULL",
    "\u001b": "ESCAPE",
    "\u2028": "LINE SEPARATOR",
    "\U000e0041": "TAG LATIN CAPITAL LETTER A",
}


def test_hidden_characters_are_named(serve, enter):
    texts = [f"before{character}after" for character in HIDDEN]
    visit = enter(serve([("Prompt \u202e here", texts)]))
    assert visit.page.locator("#turns .mark").get_attribute("title") == "RIGHT-TO-LEFT OVERRIDE"
    marks = visit.page.locator(".card .mark").all()
    assert sorted(mark.get_attribute("title") for mark in marks) == sorted(HIDDEN.values())
    for mark in marks:
        assert mark.inner_text().startswith("U+") and mark.bounding_box()["width"] > 10


def test_reversed_text_does_not_reach_out_of_its_card(serve, enter):
    visit = enter(serve([("Prompt", ["\u202eabc \u05d0\u05d1\u05d2 " * 50, "plain"])]))
    assert visit.page.locator(".card", has_text="plain").locator(".size").inner_text() == "1 word"
    inside(visit.page)


MONSTERS = {
    "100 KB of words": "word " * 20_000,
    "100 KB without a space": "a" * 100_000,
    "100 KB of lines": "\n" * 100_000,
    "10,000 combining marks": "a" + "\u0301\u0489\u0335" * 3_334,
    "marks on every letter": ("a" + "\u0301" * 40) * 400,
    "wide characters": "\ufdfd" * 3_000,
    "tabs": "\t" * 5_000,
    "every other one hidden": "a\u200b" * 5_000,
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 2_000,
}


@pytest.mark.parametrize("phone", [False, True], ids=["desk", "phone"])
@pytest.mark.parametrize("monster", MONSTERS.values(), ids=MONSTERS)
def test_the_page_holds(serve, enter, monster, phone):
    running = serve([(monster, [monster, "plain", monster, "also plain"])])
    visit = enter(running, phone=phone)
    inside(visit.page)
    for card in visit.page.locator(".card").all():
        assert card.locator(".text").evaluate("e => e.scrollWidth <= e.clientWidth")  # lines are broken
        box, text = card.bounding_box(), card.locator(".text").bounding_box()
        assert box["height"] < 844 and text["y"] >= box["y"] and text["y"] + text["height"] <= box["y"] + box["height"]
    visit.press("4", "3", "2", "1")
    inside(visit.page)
    visit.page.get_by_role("button", name="Submit").click()
    visit.page.locator("#rest", has_text="All done").wait_for()


@pytest.mark.parametrize("name", ["10,000 combining marks", "marks on every letter", "100 KB without a space"])
def test_no_ink_outside_a_card(serve, enter, name):
    """Pixels: what surrounds a card looks the same whether it holds a monster or a word."""
    pictures = []
    for text in (MONSTERS[name], "plain"):
        visit = enter(serve([("Prompt", [text, text])]))
        box = visit.page.locator(".card").first.bounding_box()
        gap = {"x": box["x"] + box["width"] + 2, "y": box["y"], "width": 8, "height": box["height"]}
        bar = {"x": 0, "y": 0, "width": 1280, "height": 48}
        pictures.append([visit.page.screenshot(clip=clip) for clip in (gap, bar)])
    assert pictures[0] == pictures[1]


def test_a_long_dialogue_scrolls_inside_its_own_area(serve, enter):
    turns = [Turn("user" if i % 2 == 0 else "assistant", f"turn {i} " + "word " * 200) for i in range(41)]
    visit = enter(serve([([Turn("system", "Be brief."), *turns], ["one", "two"])]))
    roles = visit.page.locator(".turn .role").all_inner_texts()
    assert roles == ["System", *["User", "Assistant"] * 20, "User"]
    prompt = visit.page.locator("#prompt")
    assert prompt.evaluate("e => e.scrollHeight > 3 * e.clientHeight && e.scrollTop === 0")
    assert visit.page.evaluate("document.documentElement.scrollHeight <= window.innerHeight")
    prompt.focus()
    visit.press("End")
    visit.page.locator(".turn").last.wait_for()
    inside(visit.page)
