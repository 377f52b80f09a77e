"""Who gets which task next, and who is let in: the rules, over the statements of `store/claims.py`.

A labeler never gets a task twice. Partly done tasks come first, so that overlap is complete early. Gold questions,
whose answers are known, look like any other task: a new labeler gets some of them first, everybody one now and then.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

from sqlalchemy import Connection

from heed.labeling.messages import Mode
from heed.labeling.store import claims, people, tasks
from heed.labeling.store.claims import Lease
from heed.labeling.store.people import Labeler, LabelerGroup, Status
from heed.labeling.store.tasks import Kind

NoTask = Literal["all_done", "in_others_hands", "not_admitted"]
KINDS: dict[Mode, Kind] = {"rank": "rank", "likert": "rank", "pairwise": "pairwise", "write": "write"}
PASS_MARK = 0.75  # the paper's soft cut for labelers' agreement with the researchers (appendix B.1)


@dataclass(frozen=True, slots=True)
class Policy:
    """How tasks are handed out.

    `reviewers` people answer a share `overlap` of the tasks, one person the others. A new labeler answers `screening`
    gold questions first and is refused below `pass_mark`; an admitted one gets a gold question every `gold_every` tasks
    (0: never). `lease_seconds` pass without a heartbeat before a task goes to somebody else.
    """

    mode: Mode = "rank"
    reviewers: int = 1
    overlap: float = 1.0
    screening: int = 0
    pass_mark: float = PASS_MARK
    gold_every: int = 10
    lease_seconds: float = 900.0
    seed: int = 0

    @property
    def kind(self) -> Kind:
        """The kind of task that the mode works on."""
        return KINDS[self.mode]


def ask(
    connection: Connection, policy: Policy, groups: Iterable[LabelerGroup], soon: Collection[int] | None = None
) -> None:
    """Ask for the policy's number of answers to every task, of each group of labelers; or to those alone that are to
    come `soon`, before all that nobody has begun."""
    wanted = {
        number: policy.reviewers if _share(key) < policy.overlap else 1
        for number, key in tasks.keys(connection).items()
        if soon is None or number in soon
    }
    for group in groups:
        tasks.want(connection, group, wanted, soon is not None)


def next_task(connection: Connection, labeler: Labeler, policy: Policy, now: float) -> Lease | NoTask:
    """The task in the labeler's hands, or a new one, or why there is none."""
    claims.sweep(connection, now)
    labeler = admit_or_refuse(connection, labeler, policy)
    if labeler.status == "refused":
        return "not_admitted"
    lease = claims.held(connection, labeler, policy.kind)
    expires = now + policy.lease_seconds
    if lease is not None:
        return claims.renew(connection, labeler, lease.task, expires) or lease
    task = _new_task(connection, labeler, policy)
    if task is None:
        return "in_others_hands" if claims.others_hold(connection, labeler, policy.kind) else "all_done"
    return claims.hold(connection, labeler, task, blind_order(connection, task, labeler, policy.seed), expires)


def keep(connection: Connection, labeler: Labeler, policy: Policy, task: int, now: float) -> Lease | None:
    """Hold on what is in the labeler's hands; None where it is not."""
    return claims.renew(connection, labeler, task, now + policy.lease_seconds)


def regain(connection: Connection, labeler: Labeler, policy: Policy, task: int, now: float) -> Lease | None:
    """Hold a task on; after a lease that ran out, take it again where nobody else has. None where it is gone."""
    expires = now + policy.lease_seconds
    lease = claims.renew(connection, labeler, task, expires)
    if lease is None and claims.take_again(connection, labeler, task):
        return claims.hold(connection, labeler, task, blind_order(connection, task, labeler, policy.seed), expires)
    return lease


def admit_or_refuse(connection: Connection, labeler: Labeler, policy: Policy) -> Labeler:
    """Decide about a labeler who has answered enough gold questions, or all that there are."""
    if labeler.status != "screening":
        return labeler
    answered = claims.gold_answers(connection, labeler)
    unanswered = claims.next_gold(connection, labeler, policy.kind)
    if len(answered) < policy.screening and (unanswered or claims.held(connection, labeler, policy.kind)):
        return labeler
    accuracy = gold_accuracy(answered)
    status: Status = "refused" if accuracy is not None and accuracy < policy.pass_mark else "admitted"
    people.set_status(connection, labeler, status)
    return replace(labeler, status=status)


def gold_accuracy(answers: Iterable[tuple[Sequence[int], Sequence[int] | None]]) -> float | None:
    """Share of the pairs that (expected, given) ranks should order that are ordered so; a tie is half right."""
    right = pairs = 0.0
    for expected, given in answers:
        for i, j in combinations(range(len(expected)), 2):
            if expected[i] != expected[j]:
                better, worse = (i, j) if expected[i] < expected[j] else (j, i)
                pairs += 1
                right += 0.5 if given is None else (1 + _sign(given[worse] - given[better])) / 2
    return right / pairs if pairs else None


def blind_order(connection: Connection, task: int, labeler: Labeler, seed: int) -> list[int]:
    """The order in which a labeler sees a task's candidates: random, and the same whenever it is asked for."""
    key, responses = tasks.key_and_size(connection, task)
    places = list(range(responses))
    random.Random(f"{seed} {key} {labeler.name}").shuffle(places)
    return places


def _new_task(connection: Connection, labeler: Labeler, policy: Policy) -> int | None:
    if labeler.status == "screening" or _gold_is_due(connection, labeler, policy):
        gold = claims.next_gold(connection, labeler, policy.kind)
        if gold is not None or labeler.status == "screening":
            return gold
    return claims.claim(connection, labeler, policy.kind)


def _gold_is_due(connection: Connection, labeler: Labeler, policy: Policy) -> bool:
    if not policy.gold_every:
        return False
    ranked, gold = claims.ranked_counts(connection, labeler)
    return (gold - policy.screening + 1) * policy.gold_every <= ranked - policy.screening


def _share(key: str) -> float:
    """A number in [0, 1) that is drawn once and for all by the task's key."""
    return int(hashlib.sha256(f"overlap {key}".encode()).hexdigest()[:8], 16) / 2**32


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
