"""Settings of `heed label`."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from heed.settings.common import Settings


class ExportSettings(Settings):
    """Labels as a file. With a path nothing is served: the file is written, and that is all."""

    path: str = Field("", description="file to write; empty = serve the page")
    format: Literal["rankings", "pairs", "demonstrations", "argilla", "csv"] = Field(
        "rankings", description="rankings for heed reward; pairs are TRL's preference rows; demonstrations for heed sft"
    )
    group: Literal["train", "held_out", "all"] = Field(
        "train", description="whose labels: training labelers', held-out ones', or all"
    )
    labelers: tuple[str, ...] = Field((), description="only these labelers, by name; empty = everybody of the group")
    ties: Literal["drop", "half"] = Field(
        "drop", description="a tied pair among pairs: left out, or one row each way with weight 0.5"
    )
    agreement: float = Field(
        0.0, ge=0, le=1, description="only tasks of which two people order this share of pairs alike; 0 = all tasks"
    )

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, values: Any) -> Any:
        """A plain string is short for its `path`."""
        return {"path": values} if isinstance(values, str) else values


class LabelSettings(Settings):
    """The page on which people rank responses, and its labels as files."""

    sources: tuple[str, ...] = Field(
        (), description="runs of heed sample or evaluate, or files; responses to the same prompt are ranked together"
    )
    mode: Literal["rank", "pairwise", "likert", "write"] = Field(
        "rank", description="rank all, choose of two, rate from 1 to 7, or write the answer (demonstrations)"
    )
    likert: bool = Field(
        True, description="ranking also asks for a rating from 1 to 7 and the paper's flags (both may be left out)"
    )
    guidelines: str = Field("", description="text file that labelers can open beside a task")
    output: str = Field(
        "", description="directory of the database and its files; empty = the run's, or FILE.labels beside a file"
    )
    database: str = Field(
        "", description="postgresql://user:password@host/name, or sqlite:///FILE; empty = labels.sqlite in `output`"
    )

    reviewers: int = Field(1, ge=1, description="people who answer each task of the overlap")
    overlap: float = Field(
        1.0, ge=0, le=1, description="share of tasks that `reviewers` people answer; one person answers the others"
    )
    gold: str = Field("", description="file of rankings that are known to be right; they are mixed in and not exported")
    gold_every: int = Field(10, ge=0, description="one gold question in so many tasks; 0 = only for screening")
    screening: int = Field(
        0, ge=0, description="gold questions that a new labeler answers first; 0 = everybody is admitted"
    )
    pass_mark: float = Field(
        0.75, ge=0, le=1, description="share of gold pairs that a new labeler must order rightly (paper: 0.75)"
    )
    lease_minutes: float = Field(15.0, gt=0, description="a task that is left alone for so long goes to somebody else")
    seed: int = Field(0, ge=0, description="seed of the order in which a labeler sees the responses of a task")

    chat: tuple[str, ...] = Field(
        (), max_length=2, description="two checkpoints to talk to and to compare, on a page of their own"
    )

    invite: tuple[str, ...] = Field((), description="names of labelers to print a link for; each works once")
    invite_held_out: tuple[str, ...] = Field(
        (), description="the same for held-out labelers, whose labels are kept from training"
    )
    host: str = Field(
        "127.0.0.1", description="address to listen on; beyond this machine only invited labelers come in"
    )
    port: int = Field(8765, ge=0, le=65_535, description="port to listen on; 0 = any that is free")
    public: str = Field(
        "", description="address at which invited people reach the page, for example https://labels.example.org"
    )
    no_browser: bool = Field(False, description="print the link without opening a browser")

    export: ExportSettings = ExportSettings()
    simulate: Literal["", "gold", "curt", "courteous", "thorough", "short", "long", "random"] = Field(
        "", description="simulated labelers of this taste answer everything over HTTP, then the server stops"
    )
