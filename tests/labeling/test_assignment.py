"""Who gets which task: leases, overlap, nobody twice, partly done first, gold questions, blind order."""

from __future__ import annotations

import json
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from heed.labeling import assignment, queue
from heed.labeling.assignment import gold_accuracy
from heed.labeling.messages import Draft, Judged, Skip, Submission, Turnout
from heed.labeling.slots import Refused
from heed.labeling.store import people
from heed.labeling.store.database import Database

from .conftest import Clock, Room, room, task


def tasks_of(here: Room, name: str, **more: str) -> list[int]:
    """What a labeler is given until there is nothing more."""
    labeler = here.welcome(name, **more)
    found = []
    while (given := here.answer(labeler)) is not None:
        found.append(given.task)
    return found


def test_each_task_gets_as_many_answers_as_reviewers_and_nobody_gets_one_twice(database: Database) -> None:
    here = room(database, [task(n) for n in range(6)], reviewers=2)
    first, second, third = (tasks_of(here, name) for name in ("anna", "bert", "cleo"))
    assert len(first) == len(set(first)) == 6
    assert sorted(second) == sorted(first)
    assert third == []
    assert here.desk.turnout(here.welcome("cleo").id).reason == "all_done"


def test_overlap_is_a_share_of_the_tasks(database: Database) -> None:
    here = room(database, [task(n) for n in range(200)], reviewers=3, overlap=0.25)
    with database.read() as connection:
        wanted = Counter(
            connection.exec_driver_sql("SELECT wanted FROM quotas WHERE labeler_group = 'train'").scalars()
        )
    # 50 of 200 expected, standard deviation 6.1: four of them are allowed
    assert set(wanted) == {1, 3}
    assert 26 <= wanted[3] <= 74
    assert here.desk.policy.overlap == 0.25


def test_partly_done_tasks_come_first(database: Database) -> None:
    here = room(database, [task(n) for n in range(5)], reviewers=2)
    anna, bert = here.welcome("anna"), here.welcome("bert")
    begun = [here.answer(anna).task, here.answer(anna).task]  # type: ignore[union-attr]
    assert [here.answer(bert).task for _ in range(2)] == begun  # type: ignore[union-attr]


def test_what_is_queued_later_to_come_soon_goes_before_what_nobody_has_begun(
    database: Database, tmp_path: Path
) -> None:
    """The last batch first; but what somebody has begun before both, and a restart of the page changes nothing."""
    here = room(database, [task(number) for number in range(3)], reviewers=2)
    begun = here.answer(here.welcome("anna"))
    assert begun is not None
    for batch in (5, 6):
        rows = [{"prompt": f"soon {batch}.{k}", "responses": ["a", "b"], "finished": [True, True]} for k in range(2)]
        (tmp_path / "more.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        assert queue.add(database, [tmp_path / "more.jsonl"], here.desk.policy) == 2
        assert queue.add(database, [tmp_path / "more.jsonl"], here.desk.policy) == 0
    with database.write() as connection:
        assignment.ask(connection, here.desk.policy, ("train", "held_out"))
    boris, seen = here.welcome("boris"), []
    while (found := here.answer(boris)) is not None:
        seen.append("".join(piece.text for piece in found.prompt[-1].pieces))
    assert seen[0] == "".join(piece.text for piece in begun.prompt[-1].pieces)
    assert seen[1:5] == ["soon 6.0", "soon 6.1", "soon 5.0", "soon 5.1"] and len(seen) == 7


def test_held_out_labelers_have_their_own_share(database: Database) -> None:
    here = room(database, [task(n) for n in range(3)])
    assert len(tasks_of(here, "anna")) == 3
    assert len(tasks_of(here, "bert", group="held_out")) == 3
    assert tasks_of(here, "cleo", group="held_out") == []


def test_a_held_task_is_given_to_nobody_else_until_its_lease_runs_out(database: Database, clock: Clock) -> None:
    here = room(database, [task(1)], lease_seconds=900)
    anna, bert = here.welcome("anna"), here.welcome("bert")
    held = here.desk.turnout(anna.id).task
    assert held is not None and held.lease.seconds_left == 900
    assert here.desk.turnout(bert.id) == Turnout(
        task=None, reason="in_others_hands", progress=here.desk.progress(bert.id)
    )
    clock.now += 600
    assert here.desk.heartbeat(anna.id, held.task).seconds_left == 900
    clock.now += 600  # 1,200 s after the beginning, 600 after the heartbeat
    assert here.desk.turnout(bert.id).task is None
    clock.now += 301
    found = here.desk.turnout(bert.id).task
    assert found is not None and found.task == held.task
    with pytest.raises(Refused, match="not in your hands"):
        here.desk.rank(anna.id, Submission(task=held.task, judged=Judged(ranks=[1, 2, 3, 4])))


def test_a_late_answer_counts_where_nobody_took_the_task(database: Database, clock: Clock) -> None:
    here = room(database, [task(1)], lease_seconds=900)
    anna, bert = here.welcome("anna"), here.welcome("bert")
    held = here.desk.turnout(anna.id).task
    assert held is not None
    clock.now += 5000
    here.desk.progress(bert.id)
    with database.write() as connection:
        from heed.labeling.store import claims

        assert claims.sweep(connection, clock.now) == 1
    here.desk.rank(anna.id, Submission(task=held.task, judged=Judged(ranks=[1, 2, 3, 4])))
    assert here.desk.turnout(bert.id).reason == "all_done"


def test_the_task_in_hand_comes_back_after_a_reload_with_its_draft(database: Database) -> None:
    here = room(database, [task(n) for n in range(3)])
    anna = here.welcome("anna")
    held = here.desk.turnout(anna.id).task
    assert held is not None
    judged = Judged(ranks=[2, None, 1, None], likert=[None, 7, None, None], flags=[[], ["opinion"], [], []], note="hm")
    here.desk.keep_draft(anna.id, Draft(task=held.task, judged=Judged(ranks=[1, None, None, None])))
    here.desk.keep_draft(anna.id, Draft(task=held.task, judged=judged, seconds=12.5))
    again = here.desk.turnout(anna.id).task
    assert again is not None
    assert (again.task, again.draft, again.seconds) == (held.task, judged, 12.5)
    assert again.cards == held.cards


def test_a_skipped_task_goes_to_somebody_else_and_never_comes_back(database: Database) -> None:
    here = room(database, [task(n) for n in range(2)])
    anna, bert = here.welcome("anna"), here.welcome("bert")
    skipped = here.desk.turnout(anna.id).task
    assert skipped is not None
    receipt = here.desk.skip(anna.id, Skip(task=skipped.task, reason="not_clear"))
    assert receipt.next.task is not None and receipt.next.task.task != skipped.task
    assert here.answer(anna) is not None
    assert here.desk.turnout(anna.id).reason == "all_done"  # for her; it waits for somebody else
    assert here.answer(bert).task == skipped.task  # type: ignore[union-attr]


def test_undo_brings_the_last_answer_back_filled_in_and_only_once(database: Database) -> None:
    here = room(database, [task(n) for n in range(2)])
    anna = here.welcome("anna")
    first = here.answer(anna, [2, 1, 1, 3])
    other = here.desk.turnout(anna.id).task
    back = here.desk.undo(anna.id).task
    assert first is not None and back is not None and other is not None
    assert back.task == first.task
    assert back.draft is not None and back.draft.ranks == [2, 1, 1, 3]
    assert back.seconds == 7.5
    with pytest.raises(Refused, match="nothing to undo"):
        here.desk.undo(anna.id)
    receipt = here.desk.rank(anna.id, Submission(task=back.task, judged=Judged(ranks=[1, 1, 1, 2])))
    assert receipt.next.task is not None and receipt.next.task.task == other.task
    with database.read() as connection:
        kinds = connection.exec_driver_sql("SELECT kind FROM events ORDER BY id").scalars().all()
        assert connection.exec_driver_sql("SELECT count(*) FROM rankings").scalar() == 1
    assert kinds == ["rankings: added", "rankings: withdrawn", "rankings: added"]


def test_the_same_submission_twice_is_one_answer_with_the_same_receipt(database: Database) -> None:
    here = room(database, [task(n) for n in range(2)])
    anna = here.welcome("anna")
    held = here.desk.turnout(anna.id).task
    assert held is not None
    sent = Submission(task=held.task, judged=Judged(ranks=[1, 2, 3, 4], flags=[["opinion", "violent"], [], [], []]))
    first = here.desk.rank(anna.id, sent)
    assert here.desk.rank(anna.id, sent) == first
    with pytest.raises(Refused, match="already"):
        here.desk.rank(anna.id, Submission(task=held.task, judged=Judged(ranks=[4, 3, 2, 1])))
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM rankings").scalar() == 1
        assert connection.exec_driver_sql(
            "SELECT done FROM quotas WHERE labeler_group = 'train' AND done > 0"
        ).scalars().all() == [1]


def test_the_order_is_blind_each_labelers_own_and_the_same_every_time(database: Database) -> None:
    here = room(database, [task(n) for n in range(20)], reviewers=2)
    orders: dict[str, dict[int, list[str]]] = {}
    for name in ("anna", "bert"):
        labeler, orders[name] = here.welcome(name), {}
        for _ in range(20):
            found = here.desk.turnout(labeler.id).task
            assert found is not None and found == here.desk.turnout(labeler.id).task
            orders[name][found.task] = [card.text for card in found.cards]
            assert "model-" not in found.model_dump_json()
            receipt = here.desk.rank(labeler.id, Submission(task=found.task, judged=Judged(ranks=[1, 2, 3, 4])))
            assert receipt.models == [f"model-{card.text[-1]}" for card in found.cards]
    # 24 orders: that two people see the same one has odds of 1 in 24
    assert sum(orders["anna"][n] != orders["bert"][n] for n in orders["anna"]) > 14
    firsts = Counter(order[0][-1] for each in orders.values() for order in each.values())
    assert set(firsts) == set("0123") and max(firsts.values()) < 22  # 10 of 40 expected


def test_ranks_are_kept_by_candidate_and_not_by_slot(database: Database) -> None:
    here = room(database, [task(1)])
    anna = here.welcome("anna")
    found = here.desk.turnout(anna.id).task
    assert found is not None
    wanted = [3, 1, 2, 2]  # of response 1.0, 1.1, 1.2, 1.3
    slots = [int(card.text[-1]) for card in found.cards]
    judged = Judged(
        ranks=[wanted[k] for k in slots],
        likert=[k + 1 for k in slots],
        flags=[["opinion"] if k == 2 else [] for k in slots],
    )
    here.desk.rank(anna.id, Submission(task=found.task, judged=judged))
    from heed.labeling.store import reading

    with database.read() as connection:
        (row,) = reading.all_rankings(connection)
    assert row.ranks == (3, 1, 2, 2)
    assert row.likert == (1, 2, 3, 4)
    assert row.flags == ((), (), ("opinion",), ())
    assert list(row.shown) == slots


def golden(count: int) -> list[object]:
    return [replace(task(100 + n), gold=(1, 2, 3, 4)) for n in range(count)]


def by_gold(here: Room, labeler: people.Labeler, right: bool) -> int | None:
    """Answer one task in the order of the responses' numbers, or against it; returns its task."""
    found = here.desk.turnout(labeler.id).task
    if found is None:
        return None
    order = [int(card.text[-1]) + 1 for card in found.cards]
    ranks = order if right else [5 - rank for rank in order]
    here.desk.rank(labeler.id, Submission(task=found.task, judged=Judged(ranks=ranks)))
    return found.task


def test_new_labelers_are_screened_by_gold_questions(database: Database) -> None:
    new = [task(n) for n in range(4)]
    here = room(database, [*new, *golden(3)], screening=2, gold_every=0)  # type: ignore[list-item]
    anna, bert = (here.welcome(name, status="screening") for name in ("anna", "bert"))
    screened = [by_gold(here, anna, right=True) for _ in range(2)]
    assert sorted(filter(None, screened)) == [5, 6]  # the gold questions were added after the four tasks
    assert by_gold(here, anna, right=True) == 1
    assert [by_gold(here, bert, right=False) for _ in range(2)] == screened
    turnout = here.desk.turnout(bert.id)
    assert (turnout.task, turnout.reason) == (None, "not_admitted")
    with database.read() as connection:
        assert [each.status for each in people.everybody(connection)] == ["admitted", "refused"]


def test_a_gold_question_comes_every_so_many_tasks(database: Database) -> None:
    here = room(database, [*[task(n) for n in range(9)], *golden(2)], gold_every=4)  # type: ignore[list-item]
    anna = here.welcome("anna")
    given = [by_gold(here, anna, right=True) for _ in range(11)]
    assert [number is not None and number > 9 for number in given] == [False] * 4 + [True] + [False] * 3 + [True] + [
        False
    ] * 2


def test_gold_accuracy_by_hand() -> None:
    # expected 1 < 2 < 3 < 3: five pairs with an order. Given 1, 1, 2, 3: one tie (half), four right.
    assert gold_accuracy([((1, 2, 3, 3), (1, 1, 2, 3))]) == (0.5 + 4) / 5
    assert gold_accuracy([((1, 2), (2, 1)), ((2, 1), (2, 1))]) == 1 / 2
    assert gold_accuracy([((1, 1), (1, 2))]) is None


@pytest.mark.parametrize("reviewers", [1, 2])
def test_many_at_once_never_hold_one_slot(database: Database, reviewers: int) -> None:
    """Eight people ask at the same time: every task is answered exactly so often, and by nobody twice."""
    here = room(database, [task(n) for n in range(30)], reviewers=reviewers)
    crew = [here.welcome(f"labeler {k}") for k in range(8)]
    failures: list[BaseException] = []

    def work(labeler: people.Labeler) -> None:
        try:
            while here.answer(labeler) is not None:
                pass
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=work, args=(labeler,)) for labeler in crew]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    # who found everything in others' hands left early; whoever comes now does the rest
    for labeler in crew:
        work(labeler)
    assert not failures
    with database.read() as connection:
        rows = connection.exec_driver_sql("SELECT task_id, labeler_id FROM rankings").all()
        counts = connection.exec_driver_sql(
            "SELECT wanted, done, taken FROM quotas WHERE labeler_group = 'train'"
        ).all()
    assert Counter(row[0] for row in rows) == dict.fromkeys(range(1, 31), reviewers)
    assert len(set(map(tuple, rows))) == len(rows)
    assert set(map(tuple, counts)) == {(reviewers, reviewers, reviewers)}
