"""What a stage hands on: a stock directory with weights, tokenizer, `heed.json` and card, written in one place."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

from safetensors import SafetensorError

from heed.disk import is_full
from heed.errors import CheckpointError, HeedError
from heed.models.card import Card, write_card
from heed.models.checkpoint import HEAD, Checkpoint, write_metadata
from heed.models.layout import layout_of
from heed.models.lineage import in_words, merged, parent
from heed.models.policy import Policy, save_policy
from heed.models.publish import write_generation_files, write_tokenizer
from heed.models.readout import FAILURES
from heed.models.scalar_head import ScalarModel, kind_of, save_scalar
from heed.models.trunk import Trunk
from heed.models.usage import Usage, code, serving


class TemplateUsed(NamedTuple):
    """The template that a model was trained with, as `heed.json` and stock libraries want to know it."""

    name: str
    hash: str
    chat_template: str


@dataclass(frozen=True)
class Artefact:
    """What is said of a model beside its weights: in `heed.json`, and on its card.

    `figures` are `{"estimate", "low", "high", "n"}` by name; `settings` is the stage's recipe; `notes` go into
    `heed.json` as they are. `max_new_tokens` is what stock `generate` writes at most. `start` is the checkpoint that
    training began with, which `lineage` asks for later. A model that stands on no other
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
    start: Checkpoint | None = None

    def save(self, model: Policy | ScalarModel, path: Path) -> None:
        """Write `model` into a directory that is being saved."""
        if isinstance(model, Policy):
            save_policy(model, path)
            longest = max(1, min(self.max_new_tokens, model.trunk.context // 2))  # a prompt must fit too
            write_generation_files(path, model.trunk.tokenizer, self._chat_template, longest, model.trunk.stop_ids)
        else:
            save_scalar(model, path)
            write_tokenizer(path, model.trunk.tokenizer, self._chat_template)
        write_metadata(path, self.metadata(model))
        write_card(path, self.card(model))

    def of_value(self, sentence: str, trunk: Trunk) -> Artefact:
        """The same for the value model of a run, of which nothing was measured."""
        title = f"{self.title}, value model"
        return replace(self, title=title, sentence=sentence, figures={}, base=trunk.name, base_hash=trunk.hash)

    def metadata(self, model: Policy | ScalarModel) -> dict[str, Any]:
        """`heed.json`."""
        about: dict[str, Any] = {"kind": kind_of(model), "stage": self.stage, **self.notes}
        if self.template:
            about["template"] = {"name": self.template.name, "hash": self.template.hash}
        if self.base:
            about |= {"base": self.base, "base_hash": self.base_hash}
            about |= {"base_revision": revision} if (revision := revision_of(model)) else {}
        if self.start:
            about["from"] = parent(self.start)
        if rankings := merged(about.get("rankings", []), self.start.rankings if self.start else []):
            about["rankings"] = rankings
        if isinstance(model, ScalarModel):
            about["reward"] = {**about.get("reward", {}), "gain": model.gain, "bias": model.bias}
        return about

    def card(self, model: Policy | ScalarModel) -> Card:
        """The model card, without figures that nothing was there to measure by."""
        opened_by, task = STOCK[kind_of(model)]
        measured = {name: figure for name, figure in self.figures.items() if figure["estimate"] is not None}
        return Card(
            self.title, self.sentence, self.base, model.adapter is not None, measured, self.settings, self.made_with,
            opened_by, task, code(self._usage(model)), serving(self._usage(model), Path(self.base).name or "BASE"),
            self._lineage(), revision_of(model),
        )  # fmt: skip

    def _lineage(self) -> list[str]:
        told = [f"trained on {in_words(self.notes['data'])}"] if "data" in self.notes else []
        came = {"trained from": parent(self.start) if self.start else None, "against": self.notes.get("reward_model")}
        return told + [f"{how} {one['name']}, weights {one['fingerprint']}" for how, one in came.items() if one]

    @property
    def _chat_template(self) -> str | None:
        return self.template.chat_template if self.template else None

    def _usage(self, model: Policy | ScalarModel) -> Usage:
        name = self.template.name if self.template else ""
        adapter, chat, space = model.adapter is not None, bool(self._chat_template), name in ("dialogue", "alpaca")
        if isinstance(model, Policy):
            return Usage("policy", adapter, True, chat, space)
        stock = layout_of(model.trunk.model, kind_of(model)).stock is not None
        return Usage(kind_of(model), adapter, stock, chat, space, model.gain, model.bias)


def revision_of(model: Policy | ScalarModel) -> str | None:
    """The commit of a base that came from the hub, as transformers found it; None for a directory."""
    found: str | None = getattr(model.trunk.model.config, "_commit_hash", None)
    return found


STOCK = {
    "policy": ("AutoModelForCausalLM", "text-generation"),
    "reward": ("AutoModelForSequenceClassification", "text-classification"),
    "value": ("AutoModelForTokenClassification", "token-classification"),
}
"""By kind: the stock class that opens it, and what the hub calls its task."""


def check_saveable(model: Policy | ScalarModel) -> str | None:
    """Everything that saving needs beside room on the disk, asked before the first step; a line where the model will
    not be written as a stock class, else None.

    Raises `CheckpointError` where the config or the tokenizer cannot be written.
    """
    trunk = model.trunk
    try:
        with tempfile.TemporaryDirectory() as place:
            trunk.model.config.save_pretrained(place)
            write_generation_files(Path(place), trunk.tokenizer, None, 1, trunk.stop_ids)
    except FAILURES as error:
        told = f"cannot be saved: {next(iter(str(error).splitlines()), type(error).__name__)}"
        raise CheckpointError(trunk.name, told, "load it with transformers, mend that, and save it") from None
    if isinstance(model, Policy):
        return None
    layout = layout_of(trunk.model, kind_of(model))
    if layout.stock is not None:
        return None
    return f"{layout.why}: the {kind_of(model)} model is written as a causal language model with {HEAD} beside it"


def save_parts(parts: Mapping[Path, Callable[[Path], None]]) -> list[CheckpointError]:
    """Save several artefacts, each to its own directory, in their order; the failure of one takes no other with it.

    What a part left of its directory is removed. Returns what went wrong, for the caller to raise when the others are
    in their place. A full disk is raised at once.
    """
    failures = []
    for path, save in parts.items():
        try:
            save(path)
        except (OSError, *FAILURES, SafetensorError, HeedError) as error:
            for file in path.glob("*"):
                if file.is_file():  # directories in it are other parts
                    file.unlink()
            if is_full(error):
                raise  # the run stops, and goes on from its state when there is room
            told = f"could not be saved: {next(iter(str(error).splitlines()), type(error).__name__)}"
            failures.append(
                CheckpointError(str(path), told, "free some room on the disk, and go on from what was saved")
            )
    return failures
