"""The model card: `README.md` of a checkpoint, with front matter that the hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from heed.models.usage import Usage, code, serving

PLACE = re.compile(r"(?<![\w.:])(?:~|/)[^\s'\",\]}]*/")
"""The directories of an absolute path: where things lie on somebody's machine is nobody else's business."""

LIMITS = """\
It was trained to imitate or to please, on the data named below and no more: it states false things fluently, repeats
what was in its data, and knows nothing of what came after. Measure it on what you want to use it for."""


@dataclass(frozen=True)
class Card:
    """What a checkpoint is and how it came to be.

    `figures` are `{"estimate", "low", "high", "n"}` by name; `opened_by` is the stock class that opens the directory;
    `code` is how (empty: as a policy), `serve` how it is served, `lineage` what it came from, a line each; `revision`
    is the commit of a base from the hub: its name alone may mean other weights tomorrow.
    """

    title: str
    sentence: str
    base: str
    adapter: bool
    figures: Mapping[str, Mapping[str, Any]]
    settings: str
    made_with: Mapping[str, str | None] = field(default_factory=dict)
    opened_by: str = "AutoModelForCausalLM"
    task: str = "text-generation"
    code: Sequence[str] = ()
    serve: str = ""
    lineage: Sequence[str] = ()
    revision: str | None = None


def write_card(path: Path, card: Card) -> None:
    """Write the card as `README.md` into a checkpoint directory that is being saved. Needs no network."""
    front = ModelCardData(
        model_name=card.title,
        base_model=card.base if _is_on_the_hub(card.base) else None,
        library_name="peft" if card.adapter else "transformers",
        pipeline_tag=card.task,
        tags=["heed", "rlhf"],
        eval_results=[_result(name, figure, card.task) for name, figure in card.figures.items()] or None,
    )
    ModelCard(f"---\n{front.to_yaml()}\n---\n\n{_body(card)}").save(path / "README.md")


def made_with(run: Path) -> dict[str, str | None]:
    """Versions of what a run was made with, from its `run.json`."""
    versions: dict[str, str | None] = json.loads((run / "run.json").read_text(encoding="utf-8"))["versions"]
    return versions


def _body(card: Card) -> str:
    kind = "A LoRA adapter of" if card.adapter else "Trained from"
    named = Path(card.base).parent.name if Path(card.base).name == "checkpoint" else Path(card.base).name
    at = f" at revision `{card.revision}`" if card.revision else ""
    base = f"{kind} `{named}`{at}. " if card.base else ""
    versions = ", ".join(f"{name} {version}" for name, version in card.made_with.items() if version)
    served = f"## Serve\n\n```sh\n{card.serve}\n```\n\n" if card.serve else ""
    came = "".join(f"- {line}\n" for line in card.lineage)
    lineage = f"## Lineage\n\n{came}\n" if came else ""
    return f"""\
# {card.title}

{card.sentence} {base}Made by heed{f" with {versions}" if versions else ""}.

## Use

{_fenced(card.code or code(Usage("policy", card.adapter)))}

{served}## Figures

{_table(card.figures)}
{lineage}## Limits

{LIMITS}

## Settings

```yaml
{PLACE.sub("", card.settings.strip())}
```
"""


def recast(path: Path, usage: Usage) -> None:
    """Make the card that was copied into `path` say how the merged model there is used; write one if there is none."""
    file = path / "README.md"
    if not file.exists():
        stock, task = ("AutoModelForCausalLM", "text-generation") if usage.kind == "policy" else (
            "AutoModelForSequenceClassification", "text-classification"
        )  # fmt: skip
        write_card(path, Card(path.name, "A model.", "", False, {}, "", {}, stock, task, code(usage), serving(usage)))
        return
    card = ModelCard.load(file)
    card.data.library_name = "transformers"
    served = f"## Serve\n\n```sh\n{serving(usage)}\n```\n\n" if serving(usage) else ""
    used = f"## Use\n\n{_fenced(code(usage))}\n\n{served}## Figures"
    before, _, rest = card.text.partition("## Use\n")
    card.text = before.replace("A LoRA adapter of", "Merged with", 1) + used + rest.partition("## Figures")[2]
    card.save(file)


def _fenced(blocks: Sequence[str]) -> str:
    return "\n\n".join(f"```python\n{block}\n```" for block in blocks)


def _table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for name, found in figures.items():
        estimate, low, high = (_number(found[key]) for key in ("estimate", "low", "high"))
        rows.append(f"| {name} | {estimate} | {low} – {high} | {found['n']:,} |")
    return "\n".join(["| figure | estimate | 95 % | n |", "|---|---|---|---|", *rows, ""])


def _result(name: str, figure: Mapping[str, Any], task: str) -> EvalResult:
    said = f"{name} (95 %: {_number(figure['low'])} – {_number(figure['high'])}, n = {figure['n']})"
    return EvalResult(
        task_type=task, dataset_type="held-out", dataset_name="held-out data of the run",
        metric_type=name, metric_value=figure["estimate"], metric_name=said,
    )  # fmt: skip


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _is_on_the_hub(name: str) -> bool:
    """`gpt2` and `owner/name` are; a path of somebody's machine is nobody else's business."""
    return bool(name) and not Path(name).exists() and not name.startswith((".", "/", "~")) and name.count("/") < 2
