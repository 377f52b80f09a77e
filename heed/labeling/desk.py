"""What a labeler asks of the server, message by message. A request is one transaction: what is answered is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from sqlalchemy import Connection

from heed.labeling import assignment, slots
from heed.labeling.assignment import Policy
from heed.labeling.messages import (
    Draft,
    DraftText,
    Judged,
    Kept,
    Progress,
    Receipt,
    ShownTurn,
    Skip,
    Submission,
    Task,
    Turnout,
    Written,
)
from heed.labeling.messages import Lease as LeaseMessage
from heed.labeling.slots import Refused
from heed.labeling.store import answers, claims, people, tasks
from heed.labeling.store.answers import Answer
from heed.labeling.store.claims import Lease
from heed.labeling.store.database import Database
from heed.labeling.store.people import Labeler
from heed.labeling.store.tasks import StoredTask
from heed.labeling.visible import pieces
from heed.words import clean

HEARTBEATS = 5  # in the time of a lease


class Visit(NamedTuple):
    """One request of a labeler inside its transaction."""

    connection: Connection
    labeler: Labeler
    now: float


class Desk:
    """Answers the labelers' requests from the database, by the rules of `policy`."""

    def __init__(self, database: Database, policy: Policy) -> None:
        self.database = database
        self.policy = policy

    def turnout(self, labeler: int) -> Turnout:
        """The task in hand, or the next one."""
        with self._visit(labeler) as visit:
            return self._turnout(visit)

    def progress(self, labeler: int) -> Progress:
        """How far the labeler and everybody has come."""
        with self._visit(labeler) as visit:
            return self._progress(visit)

    def heartbeat(self, labeler: int, task: int) -> LeaseMessage:
        """Hold the task on."""
        with self._visit(labeler) as visit:
            return self._lease(self._in_hand(visit, _existing(visit, task)), visit.now)

    def keep_draft(self, labeler: int, draft: Draft) -> Kept:
        """Save what is there so far."""
        with self._visit(labeler) as visit:
            self._in_hand(visit, _existing(visit, draft.task))
            body = draft.model_dump(mode="json", exclude={"task"})
            answers.save_draft(visit.connection, visit.labeler, draft.task, body, visit.now)
        return Kept(task=draft.task)

    def rank(self, labeler: int, submission: Submission) -> Receipt:
        """Save a judgement of all responses."""
        with self._visit(labeler) as visit:
            stored = _existing(visit, submission.task)
            judged = slots.checked(submission.judged, len(stored.candidates), self.policy.mode)

            def answer(shown: Sequence[int]) -> Answer:
                columns = slots.ranking_columns(judged, shown) | {
                    "mode": self.policy.mode,
                    "seconds": submission.seconds,
                }
                return Answer("rankings", submission.task, columns)

            return self._finish(visit, stored, answer)

    def write(self, labeler: int, written: Written) -> Receipt:
        """Save a demonstration."""
        with self._visit(labeler) as visit:
            stored = _existing(visit, written.task)
            if self.policy.mode != "write":
                raise Refused(400, "this page ranks responses; texts are written in the mode `write`")
            if not written.text.strip() or (written.edited_slot or 0) >= max(1, len(stored.candidates)):
                raise Refused(422, "the text is empty, or made from a response that is not there")

            def answer(shown: Sequence[int]) -> Answer:
                edited = None if written.edited_slot is None or not shown else shown[written.edited_slot]
                text = {"text": clean(written.text), "edited": edited, "shown": list(shown)}
                return Answer("demonstrations", written.task, text | {"seconds": written.seconds})

            return self._finish(visit, stored, answer)

    def skip(self, labeler: int, skip: Skip) -> Receipt:
        """Leave the task to somebody else."""
        with self._visit(labeler) as visit:
            stored = _existing(visit, skip.task)

            def answer(shown: Sequence[int]) -> Answer:
                columns = {"reason": skip.reason, "note": clean(skip.note), "shown": list(shown)}
                return Answer("skips", skip.task, columns | {"seconds": skip.seconds})

            return self._finish(visit, stored, answer)

    def undo(self, labeler: int) -> Turnout:
        """Withdraw the last answer and take its task in hand again, filled in."""
        with self._visit(labeler) as visit:
            task = answers.last_task(visit.connection, visit.labeler, self.policy.kind)
            given = None if task is None else answers.given(visit.connection, visit.labeler, task)
            if given is None or visit.labeler.status == "refused":
                raise Refused(409, "there is nothing to undo")
            answers.withdraw(visit.connection, visit.labeler, given, visit.now)
            if given.table == "skips":
                if not claims.take_again(visit.connection, visit.labeler, given.task):
                    raise Refused(409, "somebody else has taken the skipped task meanwhile")
            else:
                claims.reopen(visit.connection, visit.labeler, given.task)
            shown, expires = given.columns["shown"], visit.now + self.policy.lease_seconds
            claims.hold(visit.connection, visit.labeler, given.task, shown, expires)
            answers.save_draft(visit.connection, visit.labeler, given.task, slots.as_draft(given), visit.now)
            return self._turnout(visit)

    @contextmanager
    def _visit(self, labeler: int) -> Iterator[Visit]:
        with self.database.write() as connection:
            known = people.lock(connection, labeler)
            if known is None:
                raise Refused(401, "you are not known here any more; ask for a new link")
            yield Visit(connection, known, self.database.clock())

    def _in_hand(self, visit: Visit, stored: StoredTask) -> Lease:
        if stored.kind != self.policy.kind:
            raise Refused(409, "this task belongs to another mode of the page")
        lease = assignment.regain(visit.connection, visit.labeler, self.policy, stored.id, visit.now)
        if lease is None:
            raise Refused(409, "this task is not in your hands any more")
        return lease

    def _finish(self, visit: Visit, stored: StoredTask, answer: Callable[[Sequence[int]], Answer]) -> Receipt:
        """Record an answer once; the same answer again gets the same receipt."""
        before = answers.given(visit.connection, visit.labeler, stored.id)
        if before is not None:
            if slots.content(answer(before.columns["shown"])) != slots.content(before):
                raise Refused(409, "you have answered this task already, perhaps in another window; undo to change it")
            return self._receipt(visit, stored, before.columns["shown"])
        lease = self._in_hand(visit, stored)
        given = answer(lease.shown)
        answers.record(visit.connection, visit.labeler, given, visit.now)
        claims.let_go(visit.connection, visit.labeler, stored.id, answered=given.table != "skips")
        return self._receipt(visit, stored, lease.shown)

    def _receipt(self, visit: Visit, stored: StoredTask, shown: Sequence[int]) -> Receipt:
        models = [stored.candidates[place].model for place in shown]
        return Receipt(task=stored.id, models=models, next=self._turnout(visit))

    def _turnout(self, visit: Visit) -> Turnout:
        found = assignment.next_task(visit.connection, visit.labeler, self.policy, visit.now)
        if isinstance(found, str):
            return Turnout(task=None, reason=found, progress=self._progress(visit))
        return Turnout(task=self._task(visit, found), progress=self._progress(visit))

    def _task(self, visit: Visit, lease: Lease) -> Task:
        stored = _existing(visit, lease.task)
        draft = answers.draft(visit.connection, visit.labeler, lease.task) or {}
        return Task(
            task=stored.id,
            mode=self.policy.mode,
            prompt=[ShownTurn(role=turn.role, pieces=pieces(turn.content)) for turn in stored.prompt],
            cards=slots.cards([(stored.candidates[p].text, stored.candidates[p].finished) for p in lease.shown]),
            lease=self._lease(lease, visit.now),
            draft=Judged.model_validate(draft["judged"]) if draft.get("judged") else None,
            written=DraftText.model_validate(draft["written"]) if draft.get("written") else None,
            seconds=draft.get("seconds", 0),
        )

    def _lease(self, lease: Lease, now: float) -> LeaseMessage:
        every = self.policy.lease_seconds / HEARTBEATS
        return LeaseMessage(task=lease.task, seconds_left=max(0.0, lease.expires - now), heartbeat_seconds=every)

    def _progress(self, visit: Visit) -> Progress:
        counts = answers.counts(visit.connection, visit.labeler, self.policy.kind, visit.now)
        return Progress(
            done_by_me=counts.by_labeler,
            skipped_by_me=counts.skipped,
            done=counts.done,
            wanted=counts.wanted,
            can_undo=counts.by_labeler + counts.skipped > 0,
            minutes_today=round(counts.seconds_today / 60, 1),
        )


def _existing(visit: Visit, task: int) -> StoredTask:
    stored = tasks.read(visit.connection, task)
    if stored is None:
        raise Refused(404, "there is no such task")
    return stored
