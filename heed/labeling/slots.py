"""From slots to candidates and back: what the page says about card A, B, … and what is kept about each response.

The page knows a response by its slot only; `shown[slot]` is the response's place among the task's candidates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from heed.labeling.messages import LETTERS, Card, Judged
from heed.labeling.store.answers import Answer
from heed.labeling.visible import pieces
from heed.words import clean

T = TypeVar("T")


class Refused(Exception):
    """A request that makes no sense now; `words` are for a person."""

    def __init__(self, status: int, words: str) -> None:
        super().__init__(status, words)
        self.status, self.words = status, words


def cards(responses: Sequence[tuple[str, bool]]) -> list[Card]:
    """Cards for (text, finished) pairs in the order in which they are shown."""
    return [
        Card(
            letter=LETTERS[slot],
            pieces=pieces(text),
            text=text,
            characters=len(text),
            words=len(text.split()),
            finished=finished,
        )
        for slot, (text, finished) in enumerate(responses)
    ]


def checked(judged: Judged, responses: int, mode: str) -> Judged:
    """A judgement that is complete for the mode, its ranks without gaps. Raises Refused for any other."""
    lists = [part for part in (judged.ranks, judged.likert, judged.flags) if part is not None]
    if any(len(part) != responses for part in lists):
        raise Refused(422, f"every list must have an entry for each of the {responses} responses")
    if mode == "write":
        raise Refused(400, "this page collects texts; responses are ranked in other modes")
    if mode == "likert":
        if judged.likert is None or None in judged.likert:
            raise Refused(422, "rate every response from 1 to 7 first")
        return judged.model_copy(update={"ranks": None})
    ranks = [rank for rank in judged.ranks or [] if rank is not None]
    if len(ranks) < responses and not judged.none_acceptable:
        raise Refused(422, "place every response first")
    if len(ranks) < responses:
        return judged.model_copy(update={"ranks": [1] * responses})  # none would do, and no order was given
    levels = sorted(set(ranks))
    return judged.model_copy(update={"ranks": [levels.index(rank) + 1 for rank in ranks]})


def ranking_columns(judged: Judged, shown: Sequence[int]) -> dict[str, Any]:
    """The columns of a ranking: lists over slots become lists over the candidates."""
    return {
        "ranks": by_place(judged.ranks, shown),
        "likert": by_place(judged.likert, shown),
        "flags": by_place(judged.flags and [sorted(set(names)) for names in judged.flags], shown),
        "none_acceptable": judged.none_acceptable,
        "note": clean(judged.note),
        "shown": list(shown),
    }


def by_place(over_slots: Sequence[T] | None, shown: Sequence[int]) -> list[T] | None:
    """A list over slots in the order of the candidates."""
    if over_slots is None:
        return None
    return [value for _, value in sorted(zip(shown, over_slots, strict=True), key=lambda pair: pair[0])]


def content(answer: Answer) -> dict[str, Any]:
    """What the labeler said, without the time that it took."""
    said = {name: value for name, value in answer.columns.items() if name != "seconds"}
    return said | {"table": answer.table}


def as_draft(answer: Answer) -> dict[str, Any]:
    """An answer as the draft that its page would have sent."""
    columns, shown = answer.columns, answer.columns["shown"]
    draft: dict[str, Any] = {"seconds": columns["seconds"]}
    if answer.table == "rankings":
        over_slots = {
            name: columns[name] and [columns[name][place] for place in shown] for name in ("ranks", "likert", "flags")
        }
        draft["judged"] = over_slots | {"none_acceptable": columns["none_acceptable"], "note": columns["note"]}
    if answer.table == "demonstrations":
        edited = columns["edited"]
        draft["written"] = {"text": columns["text"], "edited_slot": None if edited is None else shown.index(edited)}
    return draft
