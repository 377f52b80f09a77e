"""The labeling page with a mouse alone, and on a phone with a finger alone."""

from __future__ import annotations

from playwright.sync_api import Page

FOUR = ("first text", "second text", "third text", "fourth text")


def boxes(page: Page) -> list[dict[str, float]]:
    """Where every card, the prompt and the buttons under the cards stand."""
    seen = page.locator(".card, .card .text, #prompt, .bottom, .submit, .none, .tools, .bar button").all()
    return [box for one in seen if (box := one.bounding_box())]


def chip(page: Page, letter: str):
    return page.locator(".order .chip", has_text=letter)


def test_ranked_and_submitted_with_a_mouse(serve, enter):
    running = serve([("Prompt", FOUR)])
    visit = enter(running)
    page = visit.page
    for letter in "CADB":
        page.get_by_role("button", name=f"Place {letter} next").first.click()
    assert visit.order() == "C›A›D›B"
    page.get_by_role("button", name="A is better than D. Make it a tie").click()
    assert visit.order() == "C›A=D›B"
    page.get_by_role("button", name="A and D are tied. Part them").click()
    page.get_by_role("button", name="C is better than A. Make it a tie").click()
    assert visit.order() == "C=A›D›B"
    page.get_by_role("button", name="Submit").click()
    visit.saved(1)
    (row,) = running.rows("rankings")
    assert [row.ranks[row.shown[slot]] for slot in range(4)] == [1, 3, 1, 2]


def test_tools_act_on_the_card_that_was_clicked(serve, enter):
    visit = enter(serve([("Prompt", FOUR)]))
    page = visit.page
    for letter in "ABCD":
        page.get_by_role("button", name=f"Place {letter} next").first.click()
    page.locator(".card .text").nth(2).click()
    page.get_by_role("button", name="Up", exact=True).click()
    assert visit.order() == "A›C›B›D"
    page.get_by_role("button", name="Tie with above").click()
    assert visit.order() == "A=C›B›D"
    page.get_by_role("button", name="Take out").click()
    assert visit.order() == "A›B›D"
    page.get_by_role("button", name="Take back").click()
    assert visit.order() == "A=C›B›D"
    page.get_by_label("None is acceptable").check()
    assert page.get_by_label("None is acceptable").is_checked()


def drag(page: Page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def spot(locator, share: float = 0.5) -> tuple[float, float]:
    box = locator.bounding_box()
    return box["x"] + share * box["width"], box["y"] + box["height"] / 2


def test_letters_are_dragged_into_the_order(serve, enter):
    visit = enter(serve([("Prompt", FOUR)]))
    page = visit.page
    letters = page.locator(".card .letter")
    drag(page, spot(letters.nth(1)), spot(page.locator(".order"), 0.9))
    assert visit.order() == "B"
    drag(page, spot(chip(page, "D")), spot(chip(page, "B"), 0.1))
    assert visit.order() == "D›B"
    drag(page, spot(letters.nth(0)), spot(chip(page, "B"), 0.5))
    assert visit.order() == "D›B=A"
    drag(page, spot(chip(page, "D")), spot(page.locator(".order"), 0.9))
    assert visit.order() == "B=A›D"
    drag(page, spot(chip(page, "D")), spot(page.locator(".prompt"), 0.5))  # dropped beside: nothing happens
    assert visit.order() == "B=A›D"
    assert page.locator(".ghost").count() == 0


def test_nothing_moves_while_an_order_is_made(serve, enter):
    visit = enter(serve([("Prompt", FOUR)], likert=True))
    before = boxes(visit.page)
    for keys in (["3"], ["1", "="], ["2", "Shift+6"], ["Enter"], ["4"], ["n"], ["Backspace"]):
        visit.press(*keys)
        assert boxes(visit.page) == before, keys
    assert len(before) > 15


def test_ranked_and_submitted_on_a_phone_by_taps(serve, enter):
    running = serve([("Prompt", [f"{text}\n" * 12 for text in FOUR]), ("Next prompt", FOUR)])
    visit = enter(running, phone=True)
    page = visit.page
    for letter in "BDAC":
        page.locator(".card").get_by_role("button", name=f"Place {letter} next").tap()
    page.get_by_role("button", name="D is better than A. Make it a tie").tap()
    assert visit.order() == "B›D=A›C"
    page.get_by_role("button", name="Submit").tap()
    visit.saved(1)
    (row,) = running.rows("rankings")
    assert [row.ranks[row.shown[slot]] for slot in range(4)] == [2, 1, 3, 2]
    assert page.evaluate("window.scrollY") == 0  # the next task begins at its beginning


def test_on_a_phone_everything_is_large_enough_and_nothing_is_wider_than_the_screen(serve, enter):
    nine = [f"Response {i} " + "word " * 300 for i in range(9)]
    visit = enter(serve([("Prompt " * 400, nine)], likert=True), phone=True)
    page = visit.page
    for key in "123456789":
        visit.press(key)
    assert page.evaluate("document.documentElement.scrollWidth") == 390, wider(page)
    small = []
    for target in page.locator("button:visible, .scale label:visible, label.none:visible").all():
        box = target.bounding_box()
        if box and (box["height"] < 44 or box["width"] < 24):
            small.append((target.inner_text(), box))
    assert small == []


def wider(page: Page) -> list[str]:
    """What reaches beyond the screen."""
    return page.evaluate(
        "[...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > 391)"
        ".map(e => `${e.tagName}.${e.className} ${Math.round(e.getBoundingClientRect().right)}`).slice(0, 9)"
    )


def test_a_long_response_is_cut_on_a_phone_and_shown_whole_on_demand(serve, enter):
    visit = enter(serve([("Prompt", ("word " * 2000, "short"))]), phone=True)
    page = visit.page
    long, short = page.locator(".card", has_text="2,000 words"), page.locator(".card", has_text="1 word")
    assert long.bounding_box()["height"] < 844
    assert not short.get_by_role("button", name="Show all").is_visible()
    long.get_by_role("button", name="Show all").tap()
    assert long.bounding_box()["height"] > 2000
    long.get_by_role("button", name="Show less").tap()
    assert long.bounding_box()["height"] < 844
