"""What a stage hands on: a stock directory with weights, tokenizer, `heed.json` and card, written in one place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from heed.models.card import Card, write_card
from heed.models.checkpoint import write_metadata
from heed.models.policy import Policy, save_policy
from heed.models.publish import write_generation_files
from heed.models.scalar_head import RewardModel, ValueModel, save_scalar
from heed.models.trunk import Trunk


class TemplateUsed(NamedTuple):
    """The template that a model was trained with, as `heed.json` and stock libraries want to know it."""

    name: str
    hash: str
    chat_template: str


@dataclass(frozen=True)
class Artefact:
    """What is said of a model beside its weights: in `heed.json`, and on its card.

    `figures` are `{"estimate", "low", "high", "n"}` by name; `settings` is the stage's recipe; `notes` go into
    `heed.json` as they are. `max_new_tokens` is what stock `generate` writes at most. A model that stands on no other
    has no `base`.
    """

    stage: str
    title: str
    sentence: str
    settings: str
    made_with: Mapping[str, str | None]
    template: TemplateUsed | None = None
    base: str = ""
    base_hash: str = ""
    figures: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)
    max_new_tokens: int = 64

    def save(self, model: Policy | RewardModel | ValueModel, path: Path) -> None:
        """Write `model` into a directory that is being saved."""
        if isinstance(model, Policy):
            save_policy(model, path)
            chat_template = self.template.chat_template if self.template else None
            write_generation_files(path, model.trunk.tokenizer, chat_template, self.max_new_tokens)
        else:
            save_scalar(model, path)
        write_metadata(path, self.metadata(model))
        write_card(path, self.card(model))

    def of_value(self, sentence: str, normalisation: Mapping[str, float], trunk: Trunk) -> Artefact:
        """The same for the value model of a run, of which nothing was measured."""
        notes = {**self.notes, "reward": dict(normalisation)}
        return replace(
            self, title=f"{self.title}, value model", sentence=sentence, figures={}, notes=notes, base=trunk.name,
            base_hash=trunk.hash,
        )  # fmt: skip

    def metadata(self, model: Policy | RewardModel | ValueModel) -> dict[str, Any]:
        """`heed.json`."""
        about: dict[str, Any] = {"kind": kind_of(model), "stage": self.stage, **self.notes}
        if self.template:
            about["template"] = {"name": self.template.name, "hash": self.template.hash}
        if self.base:
            about |= {"base": self.base, "base_hash": self.base_hash}
        return about

    def card(self, model: Policy | RewardModel | ValueModel) -> Card:
        """The model card, without figures that nothing was there to measure by."""
        opened_by, task = STOCK[kind_of(model)]
        measured = {name: figure for name, figure in self.figures.items() if figure["estimate"] is not None}
        adapter = model.adapter is not None
        return Card(
            self.title, self.sentence, self.base, adapter, measured, self.settings, self.made_with, opened_by, task
        )


STOCK = {
    "policy": ("AutoModelForCausalLM", "text-generation"),
    "reward": ("AutoModelForSequenceClassification", "text-classification"),
    "value": ("AutoModelForTokenClassification", "token-classification"),
}
"""By kind: the stock class that opens it, and what the hub calls its task."""


def kind_of(model: Policy | RewardModel | ValueModel) -> str:
    """policy, reward or value."""
    if isinstance(model, Policy):
        return "policy"
    return "reward" if isinstance(model, RewardModel) else "value"
