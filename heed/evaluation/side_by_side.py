"""Answers of several models to the same prompts, side by side: figures with intervals, rows, tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jaxtyping import Float
from torch import Tensor

from heed.formulas.length_control import length_controlled_win_rate
from heed.formulas.overlap import bleu, chrf
from heed.formulas.statistics import bootstrap_difference, bootstrap_mean, wilson, win_rate
from heed.models.answers import Divergence
from heed.records import Prompt, prompt_to_json
from heed.training.figures import interval
from heed.training.metrics import short

SHOWN = 6  # prompts in the printed table


@dataclass(frozen=True)
class Answered:
    """One model's answers to the prompts, in their order, and what was measured of them."""

    texts: list[str]
    finished: list[bool]
    lengths: list[int]  # tokens, the end-of-text token included
    scores: dict[str, Float[Tensor, " prompts"]]  # by reward model
    kl: Divergence | None  # None for a model that was shown demonstrations first
    text_loss: Float[Tensor, " rows"] | None  # nats per token of rows of running text
    few_shot: int = 0


def compared(records: list[Prompt], answered: Mapping[str, Answered], seed: int) -> dict[str, Any]:
    """Every model's figures, and each model against the first, the baseline."""
    baseline, *others = answered
    return {
        "baseline": baseline,
        "models": {name: model_figures(records, model, seed) for name, model in answered.items()},
        "against_baseline": {name: against(answered[name], answered[baseline], seed) for name in others},
        "nats_per_token_rise": {
            name: found for name in others if (found := text_rise(answered[name], answered[baseline], seed))
        },
    }


class AnswerSheet:
    """The answers of the models that have answered so far; a part of a run's state."""

    def __init__(self) -> None:
        self.answered: dict[str, Answered] = {}

    def state_dict(self) -> dict[str, Any]:
        """All answers, with what was measured of them."""
        return {name: asdict(answered) for name, answered in self.answered.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """The answers as they were."""
        for name, fields in state.items():
            kl = None if fields["kl"] is None else Divergence(**fields["kl"])
            self.answered[name] = Answered(**{**fields, "kl": kl})


def model_figures(records: list[Prompt], model: Answered, seed: int) -> dict[str, Any]:
    """What one model's answers are like. KL is in nats per response, length in tokens, BLEU and chrF from 0 to 100."""
    found: dict[str, Any] = {
        "few_shot": model.few_shot,
        "score": {judge: bootstrap_mean(scores.numpy(), seed).as_dict() for judge, scores in model.scores.items()},
        "length": bootstrap_mean(model.lengths, seed).as_dict(),
        "eos_rate": wilson(sum(model.finished), len(model.finished)).as_dict(),
    }
    if model.kl is not None:
        kinds = {"exact": model.kl.exact, "k1": model.kl.k1}
        found["kl"] = {kind: bootstrap_mean(nats.numpy(), seed).as_dict() for kind, nats in kinds.items()}
    known = [i for i, record in enumerate(records) if record.reference]
    if known:
        texts, references = [model.texts[i] for i in known], [records[i].reference or "" for i in known]
        found |= {"bleu": bleu(texts, references, seed).as_dict(), "chrf": chrf(texts, references, seed).as_dict()}
    if model.text_loss is not None:
        found["nats_per_token"] = bootstrap_mean(model.text_loss.numpy(), seed).as_dict()
    return found


def against(model: Answered, baseline: Answered, seed: int) -> dict[str, dict[str, Any]]:
    """One model against the baseline under each reward model: paired by prompt, equal scores being half a win."""
    found = {}
    for judge, scores in model.scores.items():
        ours, theirs = scores.numpy(), baseline.scores[judge].numpy()
        at_equal_length = length_controlled_win_rate(ours, theirs, model.lengths, baseline.lengths, seed)
        found[judge] = {
            "score_difference": bootstrap_difference(ours, theirs, seed).as_dict(),
            "win_rate": win_rate(ours, theirs, seed).as_dict(),
            "length_controlled_win_rate": at_equal_length.as_dict(),
        }
    return found


def text_rise(model: Answered, baseline: Answered, seed: int) -> dict[str, Any] | None:
    """The alignment tax: by how much running text costs more nats per token than under the baseline, row by row."""
    if model.text_loss is None or baseline.text_loss is None:
        return None
    return bootstrap_difference(model.text_loss.numpy(), baseline.text_loss.numpy(), seed).as_dict()


def sample_rows(records: list[Prompt], answered: dict[str, Answered]) -> list[dict[str, Any]]:
    """A row for every prompt, none left out, with all models' responses and scores."""
    rows = []
    for i, record in enumerate(records):
        row: dict[str, Any] = {"prompt": prompt_to_json(record.prompt)}
        row["responses"] = {name: model.texts[i] for name, model in answered.items()}
        row["scores"] = {
            name: {judge: float(scores[i]) for judge, scores in model.scores.items()}
            for name, model in answered.items()
        }
        row["finished"] = {name: model.finished[i] for name, model in answered.items()}
        row["kl"] = {name: float(model.kl.exact[i]) for name, model in answered.items() if model.kl is not None}
        tags = {"reference": record.reference, "source": record.source, "group": record.group}
        rows.append(row | {name: value for name, value in tags.items() if value})
    return rows


def tables(
    found: dict[str, Any], records: list[Prompt], answered: dict[str, Answered]
) -> dict[str, list[dict[str, object]]]:
    """What is printed: the first answers, unselected, then the figures."""
    judge = found["judge"]
    answers = []
    for i, record in enumerate(records[:SHOWN]):
        row: dict[str, object] = {"prompt": record.prompt[-1].content}
        for name, model in answered.items():
            row[name] = model.texts[i]
            if judge is not None:
                row[f"{name}: score"] = float(model.scores[judge][i])
        answers.append(row)
    figures: list[dict[str, object]] = [{"model": name, **_line(found, name, judge)} for name in answered]
    count = f"{found['prompts']:,} prompts"
    return {f"the first {len(answers)} of {count}": answers, f"{count}, 95 % intervals": figures}


def _line(found: dict[str, Any], name: str, judge: str | None) -> dict[str, str]:
    model = found["models"][name]
    named = {
        "score": model["score"].get(judge),
        "win rate": found["against_baseline"].get(name, {}).get(judge, {}).get("win_rate"),
        "KL": model.get("kl", {}).get("exact"),
        "length": model["length"],
        "EOS": model["eos_rate"],
        "BLEU": model.get("bleu"),
        "nats/token": model.get("nats_per_token"),
    }
    return {
        title: f"{short(figure['estimate'])} ({interval(figure)})" if figure else "–" for title, figure in named.items()
    }
