"""Answers of several models to the same prompts, side by side: figures with intervals, rows, tables."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from heed.evaluation.people import Outcomes
from heed.evaluation.rouge import rouge
from heed.formulas.diversity import distinct, groups_of, self_bleu
from heed.formulas.length_control import length_controlled_win_rate
from heed.formulas.overlap import bleu, chrf
from heed.formulas.statistics import (
    Estimate,
    bootstrap_difference,
    bootstrap_mean,
    bootstrap_statistic,
    wilson,
    win_rate,
)
from heed.models.answers import Divergence
from heed.records import Prompt, prompt_to_json

_OVERLAP: Mapping[str, Callable[[Sequence[str], Sequence[str], int], Estimate]] = {"bleu": bleu, "chrf": chrf}


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
    kl_bound: float | None = None  # of best-of-n, nats: no KL of it is measured
    reference_nats: Float[Tensor, " references"] | None = None  # nats of each reference answer, all of its tokens
    reference_tokens: Float[Tensor, " references"] | None = None
    benchmarks: dict[str, dict[str, float | int | None]] = field(default_factory=dict)


Preferences = Mapping[str, Mapping[str, Outcomes]]
"""Of judges that compare answers instead of scoring them: judge → model → its outcomes against the baseline."""


def compared(
    records: list[Prompt], answered: Mapping[str, Answered], seed: int, overlap: Sequence[str], preferences: Preferences
) -> dict[str, Any]:
    """Every model's figures, and each model against the first, the baseline."""
    baseline, *others = answered
    versus = {name: against(answered[name], answered[baseline], seed) for name in others}
    for judge, by_model in preferences.items():
        for name, outcomes in by_model.items():
            if found := preferred(outcomes, answered[name], answered[baseline], seed):
                versus[name][judge] = found
    rises = {name: rise(answered[name], answered[baseline], seed) for name in others}
    return {
        "baseline": baseline,
        "models": {name: model_figures(records, model, seed, overlap) for name, model in answered.items()},
        "against_baseline": versus,
        "nats_per_token_rise": {name: found["text"] for name, found in rises.items() if "text" in found},
        "reference_nats_rise": {name: found["reference"] for name, found in rises.items() if "reference" in found},
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


def model_figures(records: list[Prompt], model: Answered, seed: int, overlap: Sequence[str]) -> dict[str, Any]:
    """What one model's answers are like. KL is in nats per response, length in tokens, BLEU, chrF and self-BLEU from 0
    to 100, distinct n-grams and ROUGE from 0 to 1."""
    found: dict[str, Any] = {
        "few_shot": model.few_shot,
        "score": {judge: bootstrap_mean(scores.numpy(), seed).as_dict() for judge, scores in model.scores.items()},
        "length": bootstrap_mean(model.lengths, seed).as_dict(),
        "eos_rate": wilson(sum(model.finished), len(model.finished)).as_dict(),
    }
    if model.kl is not None:
        kinds = {"exact": model.kl.exact, "k1": model.kl.k1}
        found["kl"] = {kind: bootstrap_mean(nats.numpy(), seed).as_dict() for kind, nats in kinds.items()}
    if model.kl_bound is not None:
        found["kl_bound"] = model.kl_bound
    known = [i for i, record in enumerate(records) if record.reference]
    if known:
        texts, references = [model.texts[i] for i in known], [records[i].reference or "" for i in known]
        found |= {name: _OVERLAP[name](texts, references, seed).as_dict() for name in overlap if name in _OVERLAP}
        if "rouge" in overlap:
            found |= {kind: figure.as_dict() for kind, figure in rouge(texts, references, seed).items()}
    if groups_of(model.texts):
        found |= {f"distinct_{n}": distinct(model.texts, n, seed).as_dict() for n in (1, 2)}
        found["self_bleu"] = self_bleu(model.texts, seed).as_dict()
    if model.reference_nats is not None and model.reference_tokens is not None:
        found["reference_nats_per_token"] = per_token(model.reference_nats, model.reference_tokens, seed).as_dict()
    if model.benchmarks:
        found["benchmarks"] = model.benchmarks
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


def preferred(outcomes: Outcomes, model: Answered, baseline: Answered, seed: int) -> dict[str, dict[str, Any]]:
    """The same of a judge that compares: over the prompts that it judged; nothing where it judged none. At equal length
    a prompt counts for the side that most of its judgements prefer."""
    judged = [i for i, outcome in enumerate(outcomes) if outcome is not None]
    if not judged:
        return {}
    wins = np.array([outcomes[i] for i in judged], dtype=np.float64)
    lengths = ([side.lengths[i] for i in judged] for side in (model, baseline))
    return {
        "win_rate": bootstrap_mean(wins, seed).as_dict(),
        "length_controlled_win_rate": length_controlled_win_rate(wins, 1 - wins, *lengths, seed).as_dict(),
    }


def rise(model: Answered, baseline: Answered, seed: int) -> dict[str, Any]:
    """The alignment tax: by how much `text` and the `reference` answers cost more nats per token than under the
    baseline, row by row."""
    found = {}
    if model.text_loss is not None and baseline.text_loss is not None:
        found["text"] = bootstrap_difference(model.text_loss.numpy(), baseline.text_loss.numpy(), seed).as_dict()
    if None not in (model.reference_nats, model.reference_tokens, baseline.reference_nats):
        more = model.reference_nats - baseline.reference_nats
        found["reference"] = per_token(more, model.reference_tokens, seed).as_dict()
    return found


def per_token(nats: Float[Tensor, " rows"], tokens: Float[Tensor, " rows"], seed: int) -> Estimate:
    """Σ nats / Σ tokens, bootstrapped over rows."""
    a, b = nats.double().numpy(), tokens.double().numpy()
    return bootstrap_statistic(lambda rows: float(a[rows].sum() / b[rows].sum()), len(a), seed)


def summary(answers: Answered) -> dict[str, float | None]:
    """The row of one model in `metrics.jsonl`."""
    return {
        "length/mean": sum(answers.lengths) / len(answers.lengths),
        "length/eos_rate": sum(answers.finished) / len(answers.finished),
        "kl/exact": None if answers.kl is None else float(answers.kl.exact.mean()),
        **{f"score/{judge}": float(scores.mean()) for judge, scores in answers.scores.items()},
    }


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
