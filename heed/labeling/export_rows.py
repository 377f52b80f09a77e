"""Answers as rows of each format that labels are exported in. `exports.py` makes files of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

from heed.labeling.store.reading import StoredDemonstration, StoredRanking, StoredVote
from heed.labeling.store.tasks import StoredTask
from heed.records import prompt_to_json

FormatName = Literal["rankings", "pairs", "demonstrations", "argilla", "csv"]
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Export:
    """What is wanted of the labels.

    `ties`: a tied pair gives no pair (drop) or one each way with half the weight (half); rankings keep their ties.
    `agreement`: only tasks of which at least this share of pairs is ordered alike by those who ranked them; tasks that
    one person ranked have none, so that anything above 0 leaves them out. `labelers`: names, empty = everybody.
    """

    format: FormatName = "rankings"
    group: Literal["train", "held_out", "all"] = "train"
    labelers: tuple[str, ...] = ()
    ties: Literal["drop", "half"] = "drop"
    agreement: float = 0.0


@dataclass(slots=True)
class Labels:
    """The answers that an export is made from, and the names under which labelers appear."""

    tasks: Mapping[int, StoredTask]
    rankings: Sequence[StoredRanking]
    demonstrations: Sequence[StoredDemonstration]
    votes: Sequence[StoredVote]
    salt: str
    named: dict[str, str] = field(default_factory=dict)

    def pseudonym(self, labeler: str) -> str:
        """The name of a labeler in files: the same in every export of this database, and telling nothing elsewhere."""
        name = hashlib.sha256(f"{self.salt} {labeler}".encode()).hexdigest()[:12]
        self.named[labeler] = name
        return name


def _ranking_rows(labels: Labels, export: Export) -> Iterator[Row]:
    """What `heed reward` reads, with everything else that was said beside it; votes are rankings of two."""
    for row in labels.rankings:
        yield _ranked(row, labels.tasks[row.task], labels)
    for vote in labels.votes:
        first, second = {"first": (1, 2), "second": (2, 1)}.get(vote.preferred, (1, 1))
        yield {
            "prompt": vote.prompt[0]["content"] if len(vote.prompt) == 1 else vote.prompt,
            "responses": list(vote.responses),
            "ranks": [first, second],
            "finished": list(vote.finished),
            "labeler": labels.pseudonym(vote.labeler),
            "seconds": vote.seconds,
            "source": "chat",
            "task": f"exchange-{vote.exchange}",
            "models": list(vote.models),
            "none_acceptable": vote.preferred == "both_bad",
        }


def _ranked(row: StoredRanking, task: StoredTask, labels: Labels) -> Row:
    ranks = list(row.ranks or _order_of(row.likert or ()))
    return {
        "prompt": prompt_to_json(task.prompt),
        "responses": [candidate.text for candidate in task.candidates],
        "ranks": ranks,
        "finished": [candidate.finished for candidate in task.candidates],
        "labeler": labels.pseudonym(row.labeler),
        "seconds": row.seconds,
        **_tags(task),
        "ties": sum(a == b for a, b in combinations(ranks, 2)),
        "models": [candidate.model for candidate in task.candidates],
        "shown": list(row.shown),
        **_said(row),
    }


def _order_of(likert: Sequence[int | None]) -> list[int]:
    """Ranks of responses that were only rated: the best rated first, equal ratings tied."""
    levels = sorted({rating or 0 for rating in likert}, reverse=True)
    return [levels.index(rating or 0) + 1 for rating in likert]


def _said(row: StoredRanking) -> Row:
    """What was said beside the order, where anything was."""
    said: Row = {"likert": row.likert and list(row.likert), "flags": row.flags and [list(names) for names in row.flags]}
    said |= {"none_acceptable": row.none_acceptable or None, "note": row.note}
    return {name: value for name, value in said.items() if value}


def _tags(task: StoredTask) -> Row:
    tags = {"source": task.source, "group": task.group}
    return {**{name: value for name, value in tags.items() if value}, "task": task.key}


def _pair_rows(labels: Labels, export: Export) -> Iterator[Row]:
    """TRL's preference rows with an explicit prompt: text, or messages where the prompt is a dialogue."""
    for row in _ranking_rows(labels, export):
        for i, j in combinations(range(len(row["ranks"])), 2):
            gap = row["ranks"][j] - row["ranks"][i]
            ways = [(i, j), (j, i)] if gap == 0 else [(i, j)] if gap > 0 else [(j, i)]
            if gap == 0 and export.ties == "drop":
                continue
            for chosen, rejected in ways:
                yield _pair(row, chosen, rejected, abs(gap))


def _pair(row: Row, chosen: int, rejected: int, gap: int) -> Row:
    is_text = isinstance(row["prompt"], str)
    texts = [row["responses"][k] for k in (chosen, rejected)]
    sides = texts if is_text else [[{"role": "assistant", "content": text}] for text in texts]
    pair = {"prompt": row["prompt"], "chosen": sides[0], "rejected": sides[1]}
    kept = ("labeler", "seconds", "source", "group", "task")
    pair |= {"rank_gap": gap, **({} if gap else {"weight": 0.5})}
    return pair | {name: row[name] for name in kept if name in row}


def _demonstration_rows(labels: Labels, export: Export) -> Iterator[Row]:
    """What `heed sft` reads."""
    for row in labels.demonstrations:
        task = labels.tasks[row.task]
        edited = {} if row.edited is None else {"edited_from": task.candidates[row.edited].text}
        yield {
            "prompt": prompt_to_json(task.prompt),
            "response": row.text,
            **_tags(task),
            "labeler": labels.pseudonym(row.labeler),
            "seconds": row.seconds,
            **edited,
        }


def _argilla_rows(labels: Labels, export: Export) -> Iterator[Row]:
    """Records of Argilla 2: fields, a ranking question, metadata."""
    for row in labels.rankings:
        task, labeler = labels.tasks[row.task], labels.pseudonym(row.labeler)
        fields = {"prompt": "\n\n".join(f"{turn.role}: {turn.content}" for turn in task.prompt)}
        names = [f"response_{k}" for k in range(1, len(task.candidates) + 1)]
        fields |= {name: c.text for name, c in zip(names, task.candidates, strict=True)}
        order = [{"value": name, "rank": rank} for name, rank in zip(names, row.ranks or (), strict=bool(row.ranks))]
        said: Row = {"ranking": [{"value": order, "user_id": labeler, "status": "submitted"}]} if order else {}
        if row.likert is not None:
            said["rating"] = [{"value": list(row.likert), "user_id": labeler, "status": "submitted"}]
        metadata = {"task": task.key, "seconds": row.seconds, "models": [c.model for c in task.candidates]}
        yield {"id": f"{task.key}-{labeler}", "fields": fields, "metadata": metadata, "responses": said}


def _csv_rows(labels: Labels, export: Export) -> Iterator[Row]:
    """A response a row, for spreadsheets."""
    for row in labels.rankings:
        task = labels.tasks[row.task]
        for place, candidate in enumerate(task.candidates):
            yield {
                "task": task.key,
                "labeler": labels.pseudonym(row.labeler),
                "prompt": task.prompt[-1].content,
                "response": candidate.text,
                "model": candidate.model,
                "rank": "" if row.ranks is None else row.ranks[place],
                "likert": "" if row.likert is None or row.likert[place] is None else row.likert[place],
                "flags": "" if row.flags is None else " ".join(row.flags[place]),
                "seconds": row.seconds,
            }


ROWS: dict[FormatName, Callable[[Labels, Export], Iterator[Row]]] = {
    "rankings": _ranking_rows,
    "pairs": _pair_rows,
    "demonstrations": _demonstration_rows,
    "argilla": _argilla_rows,
    "csv": _csv_rows,
}
