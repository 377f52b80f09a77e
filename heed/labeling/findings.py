"""From the database to the quality and models pages: rows become `Judgement`s, estimates become `Figure`s."""

from __future__ import annotations

import math
from typing import Literal

from sqlalchemy import Connection

from heed.formulas.statistics import Estimate
from heed.labeling import agreement, comparisons
from heed.labeling.agreement import PAPER_AGREEMENT, Judgement
from heed.labeling.overview import Figure, LabelerRow, ModelRow, ModelsPage, QualityPage, TwoLabelersRow, WinCell
from heed.labeling.remarks import remarks
from heed.labeling.store import people, reading, tasks
from heed.labeling.store.database import Database
from heed.labeling.store.people import Labeler
from heed.labeling.store.reading import StoredRanking, StoredVote
from heed.labeling.store.tasks import StoredTask

Split = Literal["all", "train", "held_out"]
BOTH = {"first": (1, 2), "second": (2, 1), "tie": (1, 1), "both_bad": (1, 1)}


def quality_page(database: Database) -> QualityPage:
    """Everything that the quality page shows."""
    with database.read() as connection:
        judged = judgements(connection, "all")
        everybody = {labeler.name: labeler for labeler in people.everybody(connection)}
        skips = reading.skip_counts(connection)
    found = agreement.quality(judged)
    return QualityPage(
        answers=found.answers,
        tasks=found.tasks,
        reference=PAPER_AGREEMENT,
        agreement=_figure(found.agreement),
        untied_pairs=found.untied_pairs,
        alpha_ranks=_known(found.alpha_ranks),
        alpha_ratings=_known(found.alpha_ratings),
        alpha_flags={flag: _known(alpha) for flag, alpha in found.alpha_flags.items()},
        slots=[_figure(slot) for slot in found.slots],
        longer=_figure(found.longer),
        labelers=[_labeler_row(row, everybody[row.name], skips[row.name]) for row in found.labelers],
        pairs=[
            TwoLabelersRow(names=p.names, tasks=p.tasks, agreement=_figure(p.agreement), kappa=_known(p.kappa))
            for p in found.pairs
        ],
        remarks=list(remarks(found)),
    )


def models_page(database: Database, split: Split) -> ModelsPage:
    """Everything that the models page shows, by all labelers or by one group of them."""
    with database.read() as connection:
        ranked = judgements(connection, split)
        voted = votes(connection, split)
    found = comparisons.models([*ranked, *voted])
    return ModelsPage(
        split=split,
        judgements=sum(not judgement.gold for judgement in ranked),
        votes=len(voted),
        models=[
            ModelRow(
                model=row.name,
                responses=row.responses,
                elo=_figure(row.elo),
                likert=_figure(row.likert),
                flags={flag: _figure(share) for flag, share in row.flags.items()},
                acceptable=_figure(row.acceptable),
            )
            for row in found.models
        ],
        matrix=[WinCell(model=cell.model, other=cell.other, wins=_figure(cell.wins)) for cell in found.matrix],
    )


def judgements(connection: Connection, split: Split) -> list[Judgement]:
    """Every ranking of a group of labelers, gold questions included."""
    shown = {task.id: task for task in tasks.read_many(connection)}
    rankings = reading.all_rankings(connection)
    return [_judgement(row, shown[row.task]) for row in rankings if split in ("all", row.labeler_group)]


def votes(connection: Connection, split: Split) -> list[Judgement]:
    """Every vote of chat and rate by a group of labelers, each a task of its own."""
    return [_voted(row) for row in reading.all_votes(connection) if split in ("all", row.labeler_group)]


def _judgement(row: StoredRanking, task: StoredTask) -> Judgement:
    slots = sorted(range(len(row.shown)), key=row.shown.__getitem__)  # where each candidate was shown
    return Judgement(
        task=task.key,
        labeler=row.labeler,
        ranks=row.ranks or (),
        slots=tuple(slots),
        lengths=tuple(len(candidate.text) for candidate in task.candidates),
        models=tuple(candidate.model for candidate in task.candidates),
        ratings=row.likert or (),
        flags=tuple(frozenset(names) for names in row.flags or ()),
        seconds=row.seconds,
        gold=task.gold or (),
        none_acceptable=row.none_acceptable,
    )


def _voted(row: StoredVote) -> Judgement:
    return Judgement(
        task=f"exchange {row.exchange}",
        labeler=row.labeler,
        ranks=BOTH[row.preferred],
        slots=(0, 1),
        lengths=tuple(len(response) for response in row.responses),
        models=row.models,
        seconds=row.seconds,
        none_acceptable=row.preferred == "both_bad",
    )


def _labeler_row(row: agreement.Labeler, labeler: Labeler, skips: int) -> LabelerRow:
    return LabelerRow(
        name=row.name,
        group=labeler.group,
        status=labeler.status,
        answers=row.answers,
        skips=skips,
        seconds=row.seconds,
        agreement=_figure(row.agreement),
        gold=_figure(row.gold),
        ties=_figure(row.ties),
    )


def _figure(found: Estimate) -> Figure:
    return Figure(estimate=_known(found.estimate), low=_known(found.low), high=_known(found.high), n=found.n)


def _known(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None
