"""What the page of each stage shows, in the order in which a reader looks for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from heed.formulas.statistics import spearman, wilson, win_rate
from heed.report import course
from heed.report.blocks import Block, FigureTable, Form, Panels, Section, Words, figure, figures
from heed.report.chart import Chart, Line, estimated
from heed.report.frontier import frontier, near, rooted
from heed.report.read import Run, number
from heed.report.samples import SHOTS, in_order
from heed.report.words import is_figure, short

LIKENESS = {
    "length": ("Tokens in a response", ""),
    "eos_rate": ("Responses that end themselves", ""),
    "bleu": ("BLEU, 0 to 100", "Words and their order in common with the reference answers."),
    "chrf": ("chrF, 0 to 100", "Letters in common with the reference answers."),
    "rouge1": ("ROUGE-1, 0 to 1", "Words in common with the reference answers."),
    "rouge2": ("ROUGE-2, 0 to 1", ""),
    "rougeL": ("ROUGE-L, 0 to 1", ""),
    "distinct_2": ("Distinct word pairs, 0 to 1", "Of ten answers each. Less is less variety."),
    "self_bleu": ("Self-BLEU, 0 to 100", "Each of ten answers with the others. More is less variety."),
}
TAX = {
    "nats_per_token": ("Nats a token of plain text", "Lower is better: what was learned from text is still known."),
    "reference_nats_per_token": ("Nats a token of the reference answers", "Lower is better. SFT learns to lower it."),
}
"""Figures of a model in an evaluation's report → what they are called, and what to know about them."""

BY_BATCH = ("sample", "best-of-n", "evaluate", "evaluate-reward", "score")
"""Stages whose rows are batches or models, not steps of learning: a curve over them says nothing."""


def sections(run: Run, prefix: str = "") -> list[Section]:
    """Charts and figures of one run; samples, settings and files are the page's own."""
    found = [*OF_STAGE.get(run.stage, _of_any)(run, prefix), *_closing(run, prefix)]
    return [section for section in found if section.blocks]


def of_ppo(run: Run, prefix: str) -> Iterator[Section]:
    """Reward and KL first, then the frontier, the update, the value model, length."""
    yield Section(f"{prefix}score", "Score and KL", _panels(run, course.SCORE_AND_KL, prefix, "stacked"))
    yield frontier_section([run], {}, prefix)
    yield Section(f"{prefix}updates", "Updates", _panels(run, course.UPDATES, prefix))
    yield Section(f"{prefix}values", "Value model", _panels(run, course.VALUES, prefix))
    length = [*course.charts(run, course.LENGTHS, prefix), *length_chart(run, prefix)]
    yield Section(f"{prefix}length", "Length", [Panels(length)] if length else [])
    yield Section(f"{prefix}held-out", "Before and after: held-out prompts", list(_before_and_after(run)))
    yield Section(
        f"{prefix}measurement", "Measurement: is the KL what it says?", _panels(run, course.MEASUREMENT, prefix)
    )


def of_reward(run: Run, prefix: str) -> Iterator[Section]:
    """Accuracy over steps, by source and by gap in rank; calibration; what the scores follow."""
    yield Section(f"{prefix}accuracy", "Agreement with people", _panels(run, course.ACCURACY, prefix))
    yield Section(f"{prefix}figures", "On held-out rankings", list(_reward_figures(run.report)))
    yield Section(f"{prefix}calibration", "Calibration: is it as sure as it is right?", list(_calibration(run, prefix)))


def of_text(run: Run, prefix: str) -> Iterator[Section]:
    """Pretraining and SFT: losses, then what the answers are like."""
    yield Section(f"{prefix}loss", "Loss", _panels(run, course.LOSSES, prefix))
    loss = {name: found for name, found in run.report.get("validation_loss", {}).items() if name != "difference"}
    blocks: list[Block] = [figures("Held-out loss, nats a token", loss)] if loss else []
    titles = {
        "bleu": "BLEU, 0 to 100",
        "chrf": "chrF, 0 to 100",
        "eos_rate": "Answers that end themselves",
        "length": "Tokens",
    }
    blocks += [
        figures(title, run.report[name]) for name, title in titles.items() if isinstance(run.report.get(name), dict)
    ]
    yield Section(f"{prefix}figures", "Before and after", [block for block in blocks if _has_rows(block)])


def of_evaluation(run: Run, prefix: str) -> Iterator[Section]:
    """Win rates, scores, the frontier, then length, likeness to references, and the alignment tax."""
    yield Section(f"{prefix}wins", "Who wins?", list(_wins(run)))
    yield frontier_section([run], {}, prefix)
    models = in_order(run.report.get("models", {}))
    yield Section(f"{prefix}likeness", "What the answers are like", list(_by_model(models, LIKENESS)))
    tax = [
        *_by_model(models, TAX),
        figures("Rise over the baseline, plain text, by row", run.report.get("nats_per_token_rise", {}), reference=0.0),
        figures("Rise, reference answers, by answer", run.report.get("reference_nats_rise", {}), reference=0.0),
        *_benchmarks(models),
    ]
    yield Section(f"{prefix}tax", "Alignment tax", [table for table in tax if table.figures])


def _by_model(models: Mapping[str, Any], told: Mapping[str, tuple[str, str]]) -> Iterator[FigureTable]:
    """A table for each figure that some model has."""
    for name, (title, note) in told.items():
        table = figures(title, {model: found.get(name) for model, found in models.items()}, note)
        if table.figures:
            yield table


def _benchmarks(models: Mapping[str, Any]) -> Iterator[FigureTable]:
    """A table for each public benchmark."""
    for name in dict.fromkeys(name for found in models.values() for name in found.get("benchmarks", {})):
        yield figures(name, {model: found.get("benchmarks", {}).get(name) for model, found in models.items()})


def of_best_of_n(run: Run, prefix: str) -> Iterator[Section]:
    """The curve over n, over KL, and what the winners are like."""
    curve = run.report.get("curve", [])
    lines = []
    for name, title in (("score", "the judge that chose"), ("judge", "a second judge"), ("gold", "gold")):
        having = [point for point in curve if isinstance(point.get(name), dict)]
        n = [float(point["n"]) for point in having]
        lines += [estimated(title, n, [point[name] for point in having])] if having else []
    chart = Chart(f"{prefix}curve", "Mean score of the best of n", lines, x_name="n", scale="log2",
                  y_name="standard deviations of the SFT model's scores",
                  note="Unbiased for every n, from all samples. The shade is the 95 % interval.")  # fmt: skip
    yield Section(f"{prefix}curve", "Best of n", [Panels([chart])] if lines else [])
    yield frontier_section([run], {}, prefix)
    titles = {"length": "Tokens in a response", "eos_rate": "Responses that end themselves"}
    who = {"all responses": "all", "the best of them": "winners"}
    both = [
        figures(title, {words: run.report.get(key, {}).get(name) for words, key in who.items()})
        for name, title in titles.items()
    ]
    yield Section(f"{prefix}winners", "Length: what choosing does to it", [table for table in both if table.figures])


def frontier_section(runs: Sequence[Run], gold: Mapping[str, Any], prefix: str) -> Section:
    """The frontier over KL and over √KL."""
    found = frontier(runs, gold, prefix)
    if found is None:
        return Section(f"{prefix}frontier", "Score against KL", [])
    both = [chart for pair in zip(near(found.charts), rooted(found.charts), strict=True) for chart in pair]
    blocks: list[Block] = [Panels(both, "paired")]
    return Section(
        f"{prefix}frontier",
        "Frontier: what the score cost",
        [*blocks, *(Words(told) for told in found.missing)],
    )


def length_chart(run: Run, prefix: str) -> list[Chart]:
    """Score of the recorded responses by their length: does the reward model like length?"""
    rows = [row for row in run.samples if number(row.get("score")) is not None and isinstance(row.get("response"), str)]
    if len(rows) < 16:
        return []
    points = sorted((float(len(row["response"].split())), float(row["score"])) for row in rows)
    words, scores = [x for x, _ in points], [y for _, y in points]
    rho = spearman(words, scores)
    note = f"Rank correlation {short(rho)} over {len(rows)} recorded responses; over 0.5 the score follows length."
    line = Line("a response", words, scores, joined=False, marked=True)
    return [Chart(f"{prefix}score-length", "Score by length", [line], x_name="words", note=note)]


def _panels(run: Run, courses: Sequence[course.Course], prefix: str, form: Form = "beside") -> list[Block]:
    charts = course.charts(run, courses, prefix)
    return [Panels(charts, form)] if charts else []


def _closing(run: Run, prefix: str) -> Iterator[Section]:
    """Training in general, times, and whatever was logged that nothing above shows."""
    shown = [*course.SCORE_AND_KL, *course.UPDATES, *course.VALUES, *course.LENGTHS, *course.MEASUREMENT,
             *course.LOSSES, *course.ACCURACY, *course.TRAINING]  # fmt: skip
    yield Section(f"{prefix}training", "Training", _panels(run, course.TRAINING, prefix))
    if run.stage not in BY_BATCH:
        yield Section(f"{prefix}more", "Other metrics", _panels(run, course.other_courses(run, shown), prefix))
    times = course.charts(run, course.TIMES, f"{prefix}time-", run.timings)
    yield Section(f"{prefix}times", "Time", [Panels(times)] if times else [])


def _before_and_after(run: Run) -> Iterator[Block]:
    report = run.report
    if score := report.get("score"):
        yield figures("Mean score", {name: found for name, found in score.items() if name != "difference"})
        yield figures("Gain, paired by prompt", {"after less before": score.get("difference")}, reference=0.0)
    if is_figure(report.get("win_rate")):
        yield figures(
            "Wins against the SFT model, by the reward model", {"win rate": report["win_rate"]}, reference=0.5
        )
    for name, title in (("length", "Tokens in a response"), ("eos_rate", "Responses that end themselves")):
        if isinstance(report.get(name), dict):
            yield figures(title, report[name])


def _reward_figures(report: Mapping[str, Any]) -> Iterator[Block]:
    bias = report.get("length_bias", {})
    headline = {
        "accuracy": report.get("accuracy"),
        "accuracy at matched length": bias.get("accuracy_at_matched_length"),
        "always the longer answer": bias.get("longer_wins"),
    }
    table = figures("Share of pairs ordered rightly", headline, "A coin has 0.5.", 0.5)
    if table.figures:
        yield table
    for key, title in (("by_source", "Accuracy by source"), ("by_gap", "Accuracy by gap in rank")):
        found = {name: told.get("accuracy", told) for name, told in report.get(key, {}).items()}
        if len(found) > 1:
            yield figures(title, found, reference=0.5)
    if is_figure(bias.get("spearman")):
        yield figures(
            "Rank correlation of score and length", {"ρ": bias["spearman"]}, "Over 0.5 in size, PPO learns length.", 0.0
        )


def _calibration(run: Run, prefix: str) -> Iterator[Block]:
    told = run.report.get("calibration", {})
    rows = [row for row in told.get("reliability", []) if number(row.get("predicted")) is not None]
    if rows:
        shares = [wilson(row["observed"] * row["n"], row["n"]) for row in rows]
        seen = Line("observed", [row["predicted"] for row in rows], [row["observed"] for row in rows],
                    [share.low for share in shares], [share.high for share in shares], marked=True)  # fmt: skip
        perfect = Line("as sure as right", [0.5, 1.0], [0.5, 1.0])
        chart = Chart(f"{prefix}reliability", "Predicted and observed", [seen, perfect], x_name="predicted probability",
                      y_name="share of people who agree",
                      note="On the diagonal it is as sure as it is right; under it, surer. Pairs of a prompt are not "
                           "independent: the true intervals are wider.")  # fmt: skip
        yield Panels([chart])
    note = "What its scores should be divided by. Over 1: too sure; under 1: not sure enough."
    tables = (
        figures("Calibration error", {"mean distance from the diagonal": told.get("ece")}),
        figures("Best temperature", {"temperature": told.get("temperature")}, note, 1.0),
    )
    yield from (table for table in tables if table.figures)


def _wins(run: Run) -> Iterator[Block]:
    report = run.report
    baseline = report.get("baseline", "the baseline")
    judges = list(dict.fromkeys(judge for found in report.get("against_baseline", {}).values() for judge in found))
    for judge in judges:
        rates = {
            f"{name}{words}": found[judge].get(key)
            for name, found in report["against_baseline"].items()
            for key, words in (("win_rate", ""), ("length_controlled_win_rate", ", at equal length"))
            if judge in found
        }
        yield figures(f"Win rate against {baseline}, by {judge}", rates, "Paired by prompt; a tie is half a win.", 0.5)
        scores = {name: model.get("score", {}).get(judge) for name, model in in_order(report.get("models", {})).items()}
        yield figures(f"Mean score by {judge}", scores)
    models = in_order(report.get("models", {}))
    kl = {name: model.get("kl", {}).get("exact") for name, model in models.items()}
    kl |= {f"{name}, at most": model["kl_bound"] for name, model in models.items() if "kl_bound" in model}
    if any(is_figure(value) for value in kl.values()):
        yield figures(f"Exact KL from {report.get('reference', 'the reference')}, nats a response", kl)
    yield from _by_source(run, judges)


def _by_source(run: Run, judges: Sequence[str]) -> Iterator[Block]:
    """Win rate of the main model by the source of the prompt, where there are several."""
    models = [name for name in run.report.get("against_baseline", {}) if SHOTS.sub("", name) != "base"]
    if not judges or not models:
        return
    name, baseline, judge = ("ppo" if "ppo" in models else models[-1]), run.report.get("baseline"), judges[0]
    pairs: dict[str, list[tuple[float, float]]] = {}
    for row in run.samples:
        ours, theirs = (number(row.get("scores", {}).get(one, {}).get(judge)) for one in (name, baseline))
        if ours is not None and theirs is not None:
            pairs.setdefault(str(row.get("source", "unnamed")), []).append((ours, theirs))
    if len(pairs) > 1:
        rates = {
            source: win_rate([ours for ours, _ in some], [theirs for _, theirs in some]).as_dict()
            for source, some in sorted(pairs.items())
        }
        yield figures(f"Win rate of {name} by source of the prompt", rates, reference=0.5)


def _of_any(run: Run, prefix: str) -> Iterator[Section]:
    """A run of sampling, or of a stage that this version does not know: whatever figures its report has."""
    found = {name: value for name, value in run.report.items() if is_figure(value)}
    tables: list[Block] = [FigureTable(_titled(name), [figure("all", value)]) for name, value in found.items()]
    yield Section(f"{prefix}figures", "Figures", tables)


def _titled(name: str) -> str:
    words = name.replace("_", " ")
    return {"eos rate": "Responses that end themselves", "length": "Tokens in a response"}.get(
        words, words[:1].upper() + words[1:]
    )


def _has_rows(block: Block) -> bool:
    return not isinstance(block, FigureTable) or bool(block.figures)


OF_STAGE: dict[str, Callable[[Run, str], Iterator[Section]]] = {
    "pretrain": of_text,
    "sft": of_text,
    "reward": of_reward,
    "evaluate-reward": of_reward,
    "score": of_reward,
    "ppo": of_ppo,
    "evaluate": of_evaluation,
    "best-of-n": of_best_of_n,
}
"""What fits each stage."""
