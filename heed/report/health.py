"""Is this run sound, in plain language: what the doctor found, what the figures say, and what to do about it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from heed.formulas.frontier import over_optimised
from heed.report.blocks import LEVELS, Level, Note, figure
from heed.report.course import COIN
from heed.report.read import Row, Run, number, series
from heed.report.words import short

SEVERITIES: Mapping[str, Level] = {"error": "grave", "warning": "warning", "info": "told"}
RISE = 0.02  # of the held-out loss over its lowest, as a share
AGREE = 0.73  # people with each other, InstructGPT section 3.4


def notes(run: Run, live: bool = False) -> list[Note]:
    """Everything worth saying about a run's health, the gravest first; never empty."""
    found = [*state(run, live), *findings(run), *SIGNS.get(run.stage, _nothing)(run)]
    found += [Note("warning", f"{problem}.") for problem in run.problems]
    return sorted(found, key=lambda note: LEVELS.index(note.level))


def state(run: Run, live: bool = False) -> Iterator[Note]:
    """Whether the run came to its end, and what the doctor's tests said in all."""
    if live and not run.finished:
        yield Note("told", f"The run goes on: {_steps(run)}.")
    elif not run.finished:
        todo = "its rows are kept; heed resume RUN goes on from the last state that it saved"
        yield Note("warning", f"The run did not come to its end: {_steps(run)}.", todo)
    tests = _outcomes(run)
    passed, failed = ([name for name, told in tests.items() if told == one] for one in ("passed", "failed"))
    if failed:
        told: dict[str, set[str]] = {name: set() for name in failed}
        for row in run.findings:
            if isinstance(evidence := row.get("evidence"), dict) and str(evidence.get("test")) in told:
                told[str(evidence["test"])].add(str(row.get("severity")))
        mild = all(severities == {"warning"} for severities in told.values())
        words = "failed, with no more than a warning" if mild else "failed"
        yield Note("warning" if mild else "grave", f"{len(failed)} of the doctor's tests {words}: {', '.join(failed)}.")
    elif passed:
        untested = len(tests) - len(passed)
        rest = f" {untested} could not be made." if untested else ""
        yield Note("good", f"All {len(passed)} tests of the KL measurement that were made passed.{rest}")
    if run.finished and not run.findings:
        yield Note("good", "The run came to its end, and nothing was found.")


def findings(run: Run) -> Iterator[Note]:
    """Each kind of finding once, with how often and since which step; its last message holds the latest numbers."""
    by_id: dict[str, list[Row]] = {}
    for row in run.findings:
        by_id.setdefault(str(row.get("id", "?")), []).append(row)
    for name, rows in by_id.items():
        steps = sorted({int(step) for row in rows if (step := number(row.get("step"))) is not None})
        span = (
            f"step {steps[0]}"
            if len(steps) == 1
            else f"{len(steps)} times, steps {steps[0]} to {steps[-1]}"
            if steps
            else ""
        )
        worst = min((SEVERITIES.get(str(row.get("severity")), "warning") for row in rows), key=LEVELS.index)
        sentence, todo = str(rows[-1].get("message", "")), str(rows[-1].get("hint", ""))
        yield Note(worst, sentence, todo, f"{name}, {span}" if span else name)


def held_out_loss(run: Run) -> Iterator[Note]:
    """SFT and pretraining: is the model learning the examples by heart?"""
    steps, values = series(run.rows, "loss/validation")
    known = [(value, step) for step, value in zip(steps, values, strict=True) if value is not None]
    if len(known) < 2:
        return
    (lowest, at), (first, _), (last, _) = min(known), known[0], known[-1]
    if last > lowest * (1 + RISE):
        rose = f"The held-out loss rose from {short(lowest)} (step {at:.0f}) to {short(last)}"
        told = f"{rose}: the model learns its examples by heart."
        yield Note("warning", told, "take fewer epochs, or give more examples")
    elif last < first:
        yield Note("good", f"The held-out loss fell from {short(first)} to {short(last)} nats a token.")
    else:
        yield Note(
            "warning",
            f"The held-out loss did not fall: {short(first)} before, {short(last)} after.",
            "raise optimizer.learning_rate, or look at the data",
        )


def agreement(run: Run) -> Iterator[Note]:
    """Reward models: do they know more than a coin, and how sure are they of it?"""
    accuracy, nll = _estimate(run.report, "accuracy"), _estimate(run.report, "nll")
    if accuracy is None:
        return
    low, high, share = number(accuracy.get("low")), number(accuracy.get("high")), number(accuracy["estimate"])
    if low is None or high is None or share is None:
        return
    told = f"It orders {share:.1%} of held-out pairs as people do ({low:.1%} to {high:.1%})"
    if low <= 0.5 <= high:
        yield Note(
            "warning", f"{told}, which a coin might as well.", "more rankings, or another optimizer.learning_rate"
        )
    elif high < 0.5:
        yield Note("grave", f"{told}: fewer than a coin.", "look whether rank 1 is the best in the rankings")
    else:
        yield Note("good", f"{told}; people agree with each other on about {AGREE:.0%} in InstructGPT.")
    if nll is not None and (loss := number(nll["estimate"])) is not None and loss > COIN and low > 0.5:
        yield Note(
            "warning",
            f"It is surer than it is right: {short(loss)} nats a comparison, a coin has {COIN:.3f}.",
            "take fewer epochs, or a lower rate",
        )
    follows = number((_estimate(run.report.get("length_bias", {}), "spearman") or {}).get("estimate"))
    if follows is not None and abs(follows) > 0.5:
        yield Note(
            "warning",
            f"Its scores follow length (rank correlation {follows:.2f}).",
            "PPO would learn to write long answers: give rankings where the shorter wins",
        )


def gain(run: Run) -> Iterator[Note]:
    """PPO: did held-out prompts gain, and does a judge that was not paid agree?"""
    difference = _estimate(run.report.get("score", {}), "difference")
    if difference is not None:
        yield _gained("held-out prompts gained", difference, "in score")
    for judge in ("validation/gold", "validation/heldout"):
        rows = [row for row in run.rows if None not in (number(row.get(judge)), number(row.get("validation/score")))]
        margins = [_half(row, judge) for row in rows]
        proxy, gold = ([row[name] for row in rows] for name in ("validation/score", judge))
        at = over_optimised(proxy, gold, max(margins, default=0.0))
        if at is not None:
            highest = max(rows, key=lambda row: float(row[judge]))
            name = judge.removeprefix("validation/")
            told = f"Over-optimised since step {rows[at]['step']}: the score goes on rising while {name} falls."
            todo = f"--select {name} keeps the policy of step {highest['step']}, the best by {name}; or raise kl_coef"
            yield Note("grave", told, todo, "alarm")


def comparison(run: Run) -> Iterator[Note]:
    """Evaluation: which model is really better than the baseline, and what it costs."""
    baseline = run.report.get("baseline", "the baseline")
    for name, by_judge in run.report.get("against_baseline", {}).items():
        for judge, found in by_judge.items():
            if (rate := _estimate(found, "win_rate")) is not None:
                yield _won(f"{name} against {baseline}, judged by {judge}", rate)
    for name, found in run.report.get("nats_per_token_rise", {}).items():
        if (number(found.get("low")) or 0) > 0 and not str(name).startswith("base"):
            more = f"{figure('', found).words} nats a token more"
            told = f"{name} reads plain text worse than {baseline}: {more} (the alignment tax)."
            todo = "raise ptx.coef" if "ptx" in name else "PPO-ptx (ptx.coef) wins some of it back"
            yield Note("told", told, todo)


def _gained(what: str, found: Mapping[str, Any], unit: str) -> Note:
    low, high = number(found.get("low")) or 0.0, number(found.get("high")) or 0.0
    row = figure("", found)
    told = f"{what} {row.words} {unit} ({row.interval}, n = {found['n']})"
    if low <= 0 <= high:
        return Note(
            "warning", f"Perhaps nothing was gained: {told}.", "more steps, or more held-out prompts (validation_limit)"
        )
    if high < 0:
        return Note(
            "grave", f"The policy became worse: {told}.", "lower optimizer.learning_rate, and see what the doctor says"
        )
    return Note("good", f"{told[0].upper()}{told[1:]}.")


def _won(who: str, rate: Mapping[str, Any]) -> Note:
    share, low, high = (number(rate.get(name)) or 0.0 for name in ("estimate", "low", "high"))
    told = f"{who}: wins {share:.1%} ({low:.1%} to {high:.1%}, n = {rate['n']})"
    if low <= 0.5 <= high:
        return Note("told", f"{told}. No difference is certain.")
    return Note("good" if low > 0.5 else "told", f"{told}.")


def _estimate(found: Mapping[str, Any], name: str) -> Mapping[str, Any] | None:
    value = found.get(name)
    return value if isinstance(value, dict) and number(value.get("estimate")) is not None else None


def _half(row: Row, name: str) -> float:
    """Half of the 95 % interval that stands beside a metric; 0 where there is none."""
    low, high = number(row.get(f"{name}_low")), number(row.get(f"{name}_high"))
    return 0.0 if low is None or high is None else (high - low) / 2


def _outcomes(run: Run) -> Mapping[str, str]:
    doctor = run.report.get("doctor")
    tests = doctor.get("tests") if isinstance(doctor, dict) else None
    return tests if isinstance(tests, dict) else {}


def _steps(run: Run) -> str:
    planned = number(run.settings.get("steps"))
    if run.last_step is None:
        return "no row was written"
    return f"step {run.last_step} of {planned:.0f}" if planned else f"the last row is of step {run.last_step}"


def _nothing(run: Run) -> Iterator[Note]:
    return iter(())


SIGNS: dict[str, Callable[[Run], Iterator[Note]]] = {
    "pretrain": held_out_loss,
    "sft": held_out_loss,
    "reward": agreement,
    "evaluate-reward": agreement,
    "score": agreement,
    "ppo": gain,
    "evaluate": comparison,
}
"""What each stage's own figures tell."""


def together(found: Mapping[str, Sequence[Note]]) -> list[Note]:
    """The notes of several runs, each with the run's name; of those that are well, what their figures say."""
    named = [
        Note(note.level, f"{name}: {note.sentence}", note.todo, note.where)
        for name, some in found.items()
        for note in some
        if note.sentence != "The run came to its end, and nothing was found."
    ]
    return sorted(named, key=lambda note: LEVELS.index(note.level))
