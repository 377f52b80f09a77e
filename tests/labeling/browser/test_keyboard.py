"""The labeling page by keyboard alone."""

from __future__ import annotations

from itertools import permutations

import pytest

FOUR = ("first text", "second text", "third text", "fourth text")
MOST_PRESSES = 12


def test_four_are_ranked_and_submitted_in_every_order_in_twelve_presses_at_most(serve, enter):
    orders = list(permutations(range(4)))
    running = serve([(f"Prompt {i}", FOUR) for i in range(len(orders))])
    visit = enter(running)
    presses = []
    for done, order in enumerate(orders):
        before = visit.pressed
        visit.press(*(str(slot + 1) for slot in order), "Enter")
        visit.saved(done + 1)
        presses.append(visit.pressed - before)
    assert len(presses) == 24 and max(presses) <= MOST_PRESSES
    for row, order in zip(running.rows("rankings"), orders, strict=True):
        # order[i] is the slot that was placed i-th, row.shown[slot] the response that stood there
        assert [row.ranks[row.shown[slot]] for slot in order] == [1, 2, 3, 4]


def test_every_order_of_four_with_ties_is_within_reach_of_twelve_presses(serve, enter):
    """All 75 weak orders: place in order, `=` where a tie is meant. The worst takes 4 + 3 + 1 presses."""
    visit = enter(serve([("Prompt", FOUR)]))
    for ties in range(8):
        keys = []
        for i, slot in enumerate((2, 0, 3, 1)):
            keys += [str(slot + 1)] + (["="] if i and ties >> (i - 1) & 1 else [])
        visit.press(*keys)
        signs = ["=" if ties >> i & 1 else "›" for i in range(3)]
        assert visit.order() == "C" + signs[0] + "A" + signs[1] + "D" + signs[2] + "B"
        assert len(keys) + 1 <= 8
        visit.press(*["u"] * len(keys))
        assert visit.order() == ""


@pytest.mark.parametrize(
    ("keys", "order"),
    [
        (["1", "2", "3", "4", "Shift+ArrowUp"], "A›B›D›C"),
        (["1", "2", "3", "4", "1", "Shift+ArrowDown"], "B›A›C›D"),
        (["1", "2", "=", "3", "=", "2", "Shift+ArrowDown"], "A=C›B"),
        (["1", "2", "=", "3", "=", "2", "Shift+ArrowUp"], "B›A=C"),
        (["1", "2", "3", "2", "Backspace"], "A›C"),
        (["1", "2", "3", "2", "Delete", "2"], "A›C›B"),
        (["="], ""),
        (["1", "="], "A"),
        (["1", "1", "1"], "A"),
        (["5", "9", "0"], ""),
        (["1", "2", "u", "3"], "A›C"),
        (["ArrowRight", "Shift+ArrowUp", "ArrowDown", "Shift+ArrowUp"], "B›D"),
        (["Numpad2", "Numpad1"], "B›A"),
    ],
)
def test_what_keys_do(serve, enter, keys, order):
    visit = enter(serve([("Prompt", FOUR)]))
    visit.page.locator(".card .text").first.focus()
    visit.press(*keys)
    assert visit.order() == order


def test_an_unfinished_order_is_not_submitted_and_says_what_is_missing(serve, enter):
    running = serve([("Prompt", FOUR)])
    visit = enter(running)
    visit.press("3", "1", "Enter")
    assert "Not placed yet: B, D. Press 2, 4" in visit.page.locator("#problem").inner_text()
    visit.press("4")
    assert visit.page.locator("#problem").inner_text() == ""
    assert running.rows("rankings") == []


def test_none_is_acceptable_needs_no_order(serve, enter):
    running = serve([("Prompt", FOUR)])
    visit = enter(running)
    visit.press("2", "n", "Enter")
    visit.saved(1)
    (row,) = running.rows("rankings")
    assert (row.none_acceptable, row.ranks) == (True, [1, 1, 1, 1])


def test_skip_with_a_reason(serve, enter):
    running = serve([("Prompt", FOUR), ("Other prompt", FOUR)])
    visit = enter(running)
    visit.press("s", "2")
    visit.page.get_by_label("A note, if you like").fill("not my field")
    visit.press("Enter")
    visit.page.locator("#said", has_text="Skipped.").wait_for()
    (row,) = running.rows("skips")
    assert (row.reason, row.note) == ("not_expert", "not my field")
    assert visit.page.locator("#turns").inner_text().endswith("Other prompt")


def test_undo_goes_back_to_the_last_task_which_is_filled_in(serve, enter):
    running = serve([("Prompt 1", FOUR), ("Prompt 2", FOUR)])
    visit = enter(running)
    visit.press("2", "1", "=", "4", "3", "Enter")
    visit.saved(1)
    visit.press("4", "u", "u")
    visit.saved(0)
    assert visit.order() == "A=B›D›C"  # a tie has no order of its own
    assert visit.page.locator("#turns").inner_text().endswith("Prompt 1")
    visit.press("3", "Shift+ArrowUp", "Enter")
    visit.saved(1)
    (row,) = running.rows("rankings")
    assert [row.ranks[row.shown[slot]] for slot in range(4)] == [1, 1, 2, 3]


def test_guidelines_and_help_open_and_close(serve, enter):
    visit = enter(serve([("Prompt", FOUR)]))
    visit.press("g")
    assert visit.page.locator("#guidelines .words").inner_text().startswith("Prefer what helps.\nThen what is true.")
    visit.press("2")  # guidelines stay open beside the work
    assert visit.order() == "B"
    visit.press("Escape")
    assert not visit.page.locator("#guidelines").is_visible()
    visit.press("?")
    assert visit.page.get_by_text("none is acceptable", exact=True).is_visible()
    visit.press("3", "Escape")  # behind the help nothing happens
    assert visit.order() == "B"


def test_ratings_and_flags_while_ranking(serve, enter):
    running = serve([("Prompt", FOUR)], likert=True)
    visit = enter(running)
    visit.press("2", "Shift+6", "f", "h", "o", "f", "4", "3", "1", "Shift+Digit2", "Enter")
    visit.saved(1)
    (row,) = running.rows("rankings")
    of = {slot: row.shown[slot] for slot in range(4)}
    assert [row.likert[of[slot]] for slot in range(4)] == [2, 6, None, None]
    assert [sorted(row.flags[of[slot]]) for slot in range(4)] == [[], ["hallucination", "opinion"], [], []]
    assert [row.ranks[of[slot]] for slot in (1, 3, 2, 0)] == [1, 2, 3, 4]


def test_time_is_counted(serve, enter):
    running = serve([("Prompt", FOUR)])
    visit = enter(running)
    visit.page.wait_for_timeout(1200)
    visit.press("1", "2", "3", "4", "Enter")
    visit.saved(1)
    assert 1.2 <= running.rows("rankings")[0].seconds < 30
