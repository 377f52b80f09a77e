"""The other modes, what a labeler must not know, and the pages for whoever runs it."""

from __future__ import annotations

import re

import pytest

TWO = ("first text", "second text")
FOUR = ("first text", "second text", "third text", "fourth text")


@pytest.mark.parametrize(
    ("key", "button", "ranks", "none"),
    [
        ("1", "A is better", [1, 2], False),
        ("2", "B is better", [2, 1], False),
        ("=", "Tie", [1, 1], False),
        ("n", "Both are bad", [1, 1], True),
    ],
)
def test_pairwise(serve, enter, key, button, ranks, none):
    running = serve([("Prompt", TWO), ("Prompt 2", TWO)], mode="pairwise")
    visit = enter(running)
    visit.press("Enter")
    assert "Which is better?" in visit.page.locator("#problem").inner_text()
    visit.press(key, "Enter")
    visit.saved(1)
    visit.page.get_by_role("button", name=button).click()
    visit.page.get_by_role("button", name="Submit").click()
    visit.page.locator("#rest", has_text="All done").wait_for()
    for row in running.rows("rankings"):
        assert [row.ranks[row.shown[slot]] for slot in range(2)] == ranks
        assert row.none_acceptable is none


def test_likert(serve, enter):
    running = serve([("Prompt", FOUR)], mode="likert", likert=True)
    visit = enter(running)
    visit.page.locator(".card .text").first.focus()
    visit.press("7", "5", "1", "Enter")
    assert visit.page.locator("#problem").inner_text() == "Not rated yet: D. Press 1 to 7."
    visit.press("u", "2", "ArrowRight", "4", "Enter")
    visit.page.locator("#rest", has_text="All done").wait_for()
    (row,) = running.rows("rankings")
    assert [row.likert[row.shown[slot]] for slot in range(4)] == [7, 5, 2, 4]


def test_write_from_nothing_and_from_a_response(serve, enter):
    running = serve([("Prompt", TWO), ("Prompt 2", TWO)], mode="write")
    visit = enter(running)
    answer = visit.page.get_by_label("Your answer", exact=True)
    answer.fill("What I would say: use 1, 2 and =, then s.")
    visit.press("Control+Enter")
    visit.saved(1)
    text = visit.page.locator(".card", has_text="B").locator(".text").inner_text()
    visit.page.get_by_role("button", name="Begin from response B").click()
    answer.press("End")
    answer.type(", better")
    visit.page.reload()
    visit.page.locator("#desk:visible").wait_for()
    assert answer.input_value() == f"{text}, better"
    visit.page.get_by_role("button", name="Submit").click()
    visit.page.locator("#rest", has_text="All done").wait_for()
    first, second = running.rows("demonstrations")
    assert (first.text, first.edited) == ("What I would say: use 1, 2 and =, then s.", None)
    assert (second.text, second.edited) == (f"{text}, better", TWO.index(text))


def test_who_wrote_what_is_nowhere_until_it_is_submitted(serve, enter):
    visit = enter(serve([("Prompt", FOUR), ("Prompt 2", FOUR)], likert=True))
    told = []
    visit.page.on("response", lambda answer: told.append(answer.text() if "/api/" in answer.url else ""))
    visit.page.reload()
    visit.page.locator("#desk:visible").wait_for()
    visit.press("1", "2", "3", "f", "h", "f")
    visit.page.wait_for_timeout(700)  # the draft
    assert "secret" not in visit.page.content()
    assert len([text for text in told if text]) >= 3 and "secret" not in "".join(told)


def test_two_labelers_see_orders_of_their_own(serve, enter):
    running = serve([("Prompt", [f"text {i}" for i in range(9)])], reviewers=2)
    assert enter(running, "anna").letters() != enter(running, "boris").letters()


def test_quality_page_shows_the_figures(serve, enter):
    running = serve([(f"Prompt {i}", TWO) for i in range(4)], reviewers=2)
    for name in ("anna", "boris"):
        visit = enter(running, name)
        for done in range(4):
            first = visit.letters()["first text"]
            # anna always prefers the first text, boris does so three times of four
            better = (
                first
                if name == "anna" or "Prompt 3" not in visit.page.locator("#turns").inner_text()
                else "AB".strip(first)
            )
            visit.press(str("AB".index(better) + 1), str(2 - "AB".index(better)), "Enter")
            visit.saved(done + 1)
    owner = enter(running, "olga", owner=True)
    owner.page.get_by_role("link", name="Quality").click()
    tile = owner.page.locator(".tile", has_text="Agreement on untied pairs")
    assert tile.locator(".value").inner_text() == "75.0 %"
    assert "paper: 72.6 %" in tile.inner_text()
    row = owner.page.locator("tr", has=owner.page.get_by_role("rowheader", name="anna", exact=True))
    assert re.search(r"training\s+admitted\s+4\s+0", row.inner_text())
    owner.page.get_by_role("link", name="Models").click()
    first = owner.page.locator("#report tbody tr").first
    assert first.inner_text().startswith("secret-0")
    won = owner.page.locator("table", has_text="Share of comparisons won").locator("td.heat").all_inner_texts()
    assert [text.split(" %")[0] for text in won] == ["88", "13"]  # 7 of 8, 1 of 8
    owner.page.get_by_label("held-out labelers").check()
    owner.page.get_by_text("No model’s responses have been judged by these labelers yet.").wait_for()


def test_two_models_are_talked_to_and_voted_on(serve, enter):
    running = serve([("Prompt", TWO)], chat=True)
    visit = enter(running)
    page = visit.page
    page.get_by_role("link", name="Chat").click()
    message = page.get_by_label("Your message")
    message.fill("Hello <b>there</b>")
    message.press("Enter")
    page.locator(".card .text").first.wait_for()
    texts = page.locator(".card .text").all_inner_texts()
    assert sorted(texts) == [f"1 turns, the last was: Hello <b>there</b>{end}" for end in "!?"]
    assert "ppo" not in page.content() and "sft" not in page.content()
    visit.press("2")
    page.locator("#said", has_text="Saved.").wait_for()
    wrote = {"!": "sft", "?": "ppo"}
    assert page.locator(".card .author").all_inner_texts() == [wrote[text[-1]] for text in texts]
    assert page.locator("#turns .words").all_inner_texts() == ["Hello <b>there</b>", texts[1]]
    message.fill("Once more")
    message.press("Enter")
    page.locator(".card .text", has_text="3 turns, the last was: Once more").first.wait_for()
    page.get_by_role("button", name="Both are bad").click()
    page.locator("#said", has_text="Saved.").wait_for()
    page.get_by_role("button", name="New conversation").click()
    assert page.locator("#turns .turn").count() == 0
    assert [row.preferred for row in running.rows("votes")] == ["second", "both_bad"]


def test_somebody_is_invited_on_the_people_page(serve, enter):
    running = serve([("Prompt", TWO), ("Prompt 2", TWO)])
    owner = enter(running, "olga", owner=True)
    page = owner.page
    page.get_by_role("link", name="People").click()
    page.get_by_label("Name").fill("Bo <b>")
    page.get_by_label("Group").select_option("held_out")
    page.get_by_role("button", name="Make a link").click()
    link = page.get_by_label("Link", exact=True)
    link.wait_for()
    row = page.locator("tr", has=page.get_by_role("rowheader", name="Bo <b>", exact=True))
    row.get_by_text("link not used yet").wait_for()
    assert link.input_value().startswith(f"{running.url}/invite?token=")
    guest = page.context.browser.new_context()
    guest_page = guest.new_page()
    guest_page.goto(link.input_value())
    guest_page.get_by_role("button", name="Begin").click()
    guest_page.locator("#rest").wait_for()  # held-out labelers are asked for nothing here
    guest.close()
    page.reload()
    assert re.search(r"held-out\s+admitted\s+0\s+0\s+–", row.inner_text())
    page.get_by_label("Name").fill("olga")
    page.get_by_role("button", name="Make a link").click()
    page.get_by_role("alert").get_by_text("this is the owner's name").wait_for()
    owner.faults.clear()  # the refused invitation


def test_strangers_get_a_page_that_says_what_to_do(serve, enter):
    running = serve([("Prompt", TWO)])
    visit = enter(running)
    visit.page.goto(f"{running.url}/quality")
    assert "for whoever runs the labeling" in visit.page.locator("main").inner_text()
    visit.context.clear_cookies()
    visit.page.goto(running.url)
    assert "open the link that you were given" in visit.page.locator("main").inner_text()
    visit.page.goto(f"{running.url}/nowhere")
    assert visit.page.locator("h1").inner_text() == "Nothing here"
    visit.faults.clear()  # the refused pages themselves


def test_the_chosen_colours_stay(serve, enter):
    visit = enter(serve([("Prompt", TWO)]), color_scheme="light")
    page = visit.page

    def dark() -> bool:
        return page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(21, 21, 19)"

    assert not dark()
    page.emulate_media(color_scheme="dark")
    assert dark()
    page.get_by_role("button", name="Colours").click()
    assert not dark()
    page.reload()
    assert not dark()
    page.get_by_role("button", name="Colours").click()
    page.emulate_media(color_scheme="light")
    assert dark()
