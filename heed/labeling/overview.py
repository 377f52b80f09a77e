"""The messages of the quality, models and people pages (table in `messages.py`).

They are what `agreement.py` and `comparisons.py` find, field by field; what is not known (NaN there) is null here.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from heed.labeling.messages import Message

LabelerGroup = Literal["train", "held_out"]


class Figure(Message):
    """An estimate with its 95 % interval and the number of independent things that it comes from."""

    estimate: float | None
    low: float | None
    high: float | None
    n: int


class LabelerRow(Message):
    """One labeler on the quality page; `agreement` is with everybody else who did the same tasks."""

    name: str
    group: LabelerGroup
    status: Literal["screening", "admitted", "refused"]
    answers: int
    skips: int
    seconds: float | None = Field(description="median time for a task")
    agreement: Figure
    gold: Figure
    ties: Figure


class TwoLabelersRow(Message):
    """Two labelers on the tasks that both did."""

    names: tuple[str, str]
    tasks: int
    agreement: Figure
    kappa: float | None = Field(description="Cohen's kappa over pairs of responses: better, tie, worse")


class QualityPage(Message):
    """How far the labels can be trusted. `reference` is the paper's agreement of training labelers."""

    answers: int
    tasks: int
    reference: float
    agreement: Figure = Field(description="untied pairs that two labelers order alike")
    untied_pairs: int
    alpha_ranks: float | None = Field(description="Krippendorff's alpha, ordinal")
    alpha_ratings: float | None
    alpha_flags: dict[str, float | None] = Field(description="nominal, of each flag that anybody raised")
    slots: list[Figure] = Field(description="by place on the screen: share of its untied pairs that it won")
    longer: Figure = Field(description="untied pairs of unlike length that the longer response won")
    labelers: list[LabelerRow]
    pairs: list[TwoLabelersRow]
    remarks: list[str] = Field(description="what somebody should look at, in sentences")


class ModelRow(Message):
    """One model: strength on the Elo scale, mean Likert rating, how often each flag was raised."""

    model: str
    responses: int
    elo: Figure
    likert: Figure
    flags: dict[str, Figure]
    acceptable: Figure = Field(description="share of the answers in which not all responses were refused")


class WinCell(Message):
    """How often `model` was preferred to `other`, ties as half."""

    model: str
    other: str
    wins: Figure


class ModelsPage(Message):
    """Whose responses people prefer, by all labelers or by one group of them."""

    split: Literal["all", "train", "held_out"]
    judgements: int
    votes: int
    models: list[ModelRow] = Field(description="best first")
    matrix: list[WinCell]


class GroupRow(Message):
    """What a group of labelers is asked for and has given, over all tasks of a kind."""

    group: str
    kind: str
    tasks: int
    wanted: int
    done: int


class PersonRow(Message):
    """Somebody who may come in."""

    name: str
    group: LabelerGroup
    status: Literal["screening", "admitted", "refused"]
    owner: bool
    answers: int
    skips: int
    at_work: bool = Field(description="holds a task right now")
    link_unused: bool = Field(description="the newest link has not been used")


class PeoplePage(Message):
    """Who labels, and how far they have come."""

    groups: list[GroupRow]
    people: list[PersonRow]


class NewInvitation(Message):
    """Who is to be invited."""

    name: str = Field(min_length=1, max_length=80)
    group: LabelerGroup = "train"


class Invitation(Message):
    """A link: `path` at `public`, or where that is empty at the address of the page itself. It is told only now."""

    name: str
    group: LabelerGroup
    path: str
    public: str
