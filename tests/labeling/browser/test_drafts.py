"""What was begun survives; what one labeler holds no other gets."""

from __future__ import annotations

from playwright.sync_api import Page, Route

FOUR = ("first text", "second text", "third text", "fourth text")


def reload(page: Page) -> None:
    page.reload()
    page.locator("#desk:visible").wait_for()


def test_a_draft_survives_a_reload(serve, enter):
    visit = enter(serve([("Prompt", FOUR)], likert=True))
    letters = visit.letters()
    visit.press("3", "1", "=", "2", "Shift+5", "f", "h", "f")
    reload(visit.page)
    assert visit.letters() == letters  # the blind order is the same
    assert sorted(visit.order().replace("›", " ").replace("=", " ").split()) == ["A", "B", "C"]
    assert visit.order() in ("A=C›B", "C=A›B")
    assert visit.page.locator("input[name=likert-1]:checked").get_attribute("value") == "5"
    assert visit.page.get_by_role("button", name="Flags of response B: Hallucination").is_visible()


def test_a_draft_survives_another_browser(serve, enter):
    running = serve([("Prompt", FOUR)])
    visit = enter(running)
    visit.press("4", "2")
    with visit.page.expect_response("**/api/draft"):
        pass
    visit.context.close()
    assert enter(running).order() == "D›B"


def test_a_draft_survives_a_server_that_did_not_get_it(serve, enter):
    visit = enter(serve([("Prompt", FOUR)]))
    visit.context.route("**/api/draft", lambda route: route.abort())
    visit.press("4", "2")
    reload(visit.page)
    assert visit.order() == "D›B"
    visit.faults.clear()  # the aborted requests


def test_a_draft_is_not_taken_for_another_task_of_the_same_number(serve, enter):
    """Another run at the same address has a task 1 too: what was kept for the first must not turn up there."""
    first, second = serve([("Prompt", FOUR)]), serve([("Another prompt", FOUR)])
    visit, other = enter(first), enter(second)
    visit.context.route("**/api/draft", lambda route: route.abort())
    visit.press("4", "2")
    kept = visit.page.evaluate("JSON.stringify(localStorage)")
    assert "ranks" in kept
    other.context.add_init_script(f"for (const [k, v] of Object.entries({kept})) localStorage.setItem(k, v)")
    reload(other.page)
    assert other.order() == ""
    visit.faults.clear()  # the aborted requests


def test_a_draft_is_forgotten_with_its_task(serve, enter):
    visit = enter(serve([("Prompt", FOUR), ("Other", FOUR)]))
    visit.press("4", "2", "3", "1", "Enter")
    visit.saved(1)
    reload(visit.page)
    assert visit.order() == ""


def test_an_answer_that_was_lost_on_the_way_is_sent_again_and_counts_once(serve, enter):
    running = serve([("Prompt", FOUR)])
    visit = enter(running)
    lost, seen = [], []

    def lose(route: Route) -> None:
        if len(lost) < 2 or not seen:
            route.fetch()  # the server saves it
            lost.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    visit.context.route("**/api/rank", lose)
    visit.press("1", "2", "3", "4", "Enter")
    visit.page.locator("#problem", has_text="Not saved yet").wait_for()
    seen.append(True)
    visit.page.locator("#rest", has_text="All done").wait_for()
    assert len(running.rows("rankings")) == 1 and len(lost) >= 2
    visit.faults.clear()  # the aborted requests


def test_two_labelers_never_hold_one_task(serve, enter):
    running = serve([(f"Prompt {i}", FOUR) for i in range(3)])
    prompts = []
    visits = [enter(running, name) for name in ("anna", "boris", "chen", "dora")]
    for visit in visits[:3]:
        prompts.append(visit.page.locator("#turns").inner_text())
    assert len(set(prompts)) == 3
    assert "others’ hands" in visits[3].page.locator("#rest").inner_text()
    reload(visits[1].page)
    assert visits[1].page.locator("#turns").inner_text() == prompts[1]


def test_a_task_that_went_to_somebody_else_makes_room_for_another(serve, enter):
    running = serve([("Prompt 1", FOUR), ("Prompt 2", FOUR), ("Prompt 3", FOUR)], lease_seconds=1.0)
    visit = enter(running)
    lost = visit.page.locator("#turns").inner_text()
    visit.context.route("**/api/heartbeat", lambda route: route.abort())
    visit.page.wait_for_timeout(1100)
    other = enter(running, "boris")
    while other.page.locator("#turns").inner_text() != lost:
        other.press("1", "2", "3", "4", "Enter")
        other.page.wait_for_timeout(200)
    visit.press("1", "2", "3", "4", "Enter")
    visit.page.locator("#problem", has_text="not in your hands").wait_for()
    visit.page.locator("#turns:visible", has_not_text=lost.removeprefix("User\n")).or_(
        visit.page.locator("#rest:visible")
    ).wait_for()
    visit.faults.clear()  # the aborted heartbeats
