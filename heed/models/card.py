"""The model card: `README.md` of a checkpoint, with front matter that the hub reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCard, ModelCardData

from heed.models.usage import Usage, code

LIMITS = """\
It was trained to imitate or to please, on the data named below and no more: it states false things fluently, repeats
what was in its data, and knows nothing of what came after. Measure it on what you want to use it for."""


@dataclass(frozen=True)
class Card:
    """What a checkpoint is and how it came to be.

    `figures` are `{"estimate", "low", "high", "n"}` by name; `opened_by` is the stock class that opens the directory;
    `code` is how (empty: as a policy).
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
    code: str = ""


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
    base = f"{kind} `{Path(card.base).name}`. " if card.base else ""
    versions = ", ".join(f"{name} {version}" for name, version in card.made_with.items() if version)
    return f"""\
# {card.title}

{card.sentence} {base}Made by heed{f" with {versions}" if versions else ""}.

## Use

```python
{card.code or code(Usage("policy", card.adapter))}
```

## Figures

{_table(card.figures)}
## Limits

{LIMITS}

## Settings

```yaml
{card.settings.strip()}
```
"""


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
