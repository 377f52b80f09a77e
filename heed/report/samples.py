"""Which answers a person should read: the biggest gains and losses, the worst, and some that nobody selected."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from heed.report.blocks import Answer, Sample, Samples
from heed.report.read import Row, Run, number

EACH = 10  # in every list
UNSELECTED = 20
LONGEST = 1500  # characters of a text; the rest is in samples.jsonl
GAIN, LOSS, WORST, BEST, FIRST, LAST = (
    "biggest gain", "biggest loss", "worst ten", "best ten", "unselected", "last step",
)  # fmt: skip
SHOTS = re.compile(r"-\d+-shot$")
ORDER = ("base", "few_shot", "sft", "ppo", "ppo-ptx")


def samples(run: Run, gold: Sequence[Row] = ()) -> Samples | None:
    """The table of a run's samples, or None where it has none. `gold` holds a demo's judgement of the same prompts."""
    if not run.samples:
        return None
    if "responses" in run.samples[0] and isinstance(run.samples[0]["responses"], dict):
        return side_by_side(run, gold)
    if "responses" in run.samples[0]:
        return candidates(run)
    return single(run)


def side_by_side(run: Run, gold: Sequence[Row] = ()) -> Samples:
    """Every model's answer to the same prompt. Gain is the last policy's score less the baseline's."""
    judged = {prompt_text(row.get("prompt")): row.get("answers", {}) for row in gold}
    rows = [_compared(row, run, judged) for row in run.samples]
    models = sorted({name for row in rows for name in row.answers}, key=_place)
    main, baseline = _main(models), str(run.report.get("baseline") or ("sft" if "sft" in models else models[0]))
    rows = [replace(row, gain=_gain(row, main, baseline)) for row in rows]
    note = f"Gain is the score of {main} less that of {baseline}." if any(row.gain is not None for row in rows) else ""
    by_gain = sorted((i for i, row in enumerate(rows) if row.gain is not None), key=lambda i: rows[i].gain or 0.0)
    lists = {
        GAIN: [i for i in by_gain[::-1][:EACH] if (rows[i].gain or 0) > 0],
        LOSS: [i for i in by_gain[:EACH] if (rows[i].gain or 0) < 0],
        WORST: _lowest(rows, main),
        FIRST: list(range(min(UNSELECTED, len(rows)))),
    }
    return _chosen(models, rows, lists, note)


def single(run: Run) -> Samples:
    """One answer a row: rollouts of PPO by step, or the winners of best-of-n."""
    rows = [_one(row, run) for row in run.samples]
    name = run.stage if run.stage != "run" else "response"
    ordered = [replace(row, answers={name: row.answers[""]}) for row in rows]
    low, known = _lowest(ordered, name), [i for i, row in enumerate(ordered) if row.answers[name].score is not None]
    last = run.samples[-1].get("step")
    of_last = [i for i, row in enumerate(run.samples) if row.get("step") == last][:UNSELECTED]
    stepped = run.stage == "ppo"
    evenly = _spread(len(ordered), UNSELECTED)
    best = sorted(known, key=lambda i: -(ordered[i].answers[name].score or 0.0))[:EACH]
    lists = {LAST: of_last} if stepped else {}
    return _chosen([name], ordered, {**lists, BEST: best, WORST: low, FIRST: evenly}, "")


def candidates(run: Run) -> Samples:
    """Several answers of one model to each prompt, the first prompts."""
    rows, most = [], 0
    for row in run.samples[:UNSELECTED]:
        ends = row.get("finished") or [True] * len(row["responses"])
        answers = {
            str(k): Answer(shown(text), words=() if finished else ("did not end",))
            for k, (text, finished) in enumerate(zip(row["responses"], ends, strict=False), start=1)
        }
        most = max(most, len(answers))
        rows.append(Sample(prompt_text(row.get("prompt")), answers, about=str(row.get("source", ""))))
    models = [str(k) for k in range(1, most + 1)]
    return _chosen(models, rows, {FIRST: list(range(len(rows)))}, f"The first of {len(run.samples):,} prompts.")


def prompt_text(prompt: Any) -> str:
    """A prompt as text: a plain one as it is, a dialogue with who says what."""
    if isinstance(prompt, list):
        turns = [turn for turn in prompt if isinstance(turn, dict)]
        if len(turns) == 1:
            return str(turns[0].get("content", ""))
        return "\n".join(f"{turn.get('role', '?')}: {turn.get('content', '')}" for turn in turns)
    return "" if prompt is None else str(prompt)


def shown(text: Any) -> str:
    """A text, cut where it is very long."""
    words = str(text)
    rest = len(words) - LONGEST
    return words if rest <= 0 else f"{words[:LONGEST]} … ({rest:,} more characters in samples.jsonl)"


def _compared(row: Row, run: Run, judged: Mapping[str, Mapping[str, Any]]) -> Sample:
    prompt = prompt_text(row.get("prompt"))
    gold = judged.get(prompt, {})
    answers = {}
    for name, text in row["responses"].items():
        scores = _scores(row, name)
        first = next(iter(scores), None)
        others = {judge: score for judge, score in scores.items() if judge != first}
        told = gold.get(name, {})
        others |= {"gold": number(told["gold"])} if "gold" in told else {}
        words = ["right" if told["right"] else "wrong"] if "right" in told else []
        words += [] if row.get("finished", {}).get(name, True) else ["did not end"]
        kl = number(row.get("kl", {}).get(name))
        answers[name] = Answer(shown(text), scores[first] if first else None, kl, others, words)
    return Sample(shown(prompt), answers, about=str(row.get("source", "")), reference=shown(row.get("reference") or ""))


def _scores(row: Row, name: str) -> dict[str, float | None]:
    found = row.get("scores", {}).get(name, {})
    if not isinstance(found, dict):
        return {"score": number(found)}
    return {judge: number(score) for judge, score in found.items()}


def _one(row: Row, run: Run) -> Sample:
    others = {"mean": number(row["mean_score"])} if "mean_score" in row else {}
    others |= {"judge": number(row["judge_score"])} if "judge_score" in row else {}
    words = () if row.get("finished", True) else ("did not end",)
    answer = Answer(shown(row.get("response", "")), number(row.get("score")), number(row.get("kl")), others, words)
    about = f"step {row.get('step')}" if run.stage == "ppo" else str(row.get("source", ""))
    return Sample(shown(prompt_text(row.get("prompt"))), {"": answer}, about=about)


def in_order(found: Mapping[str, Any]) -> dict[str, Any]:
    """What is told of models, base first and PPO last."""
    return {name: found[name] for name in sorted(found, key=_place)}


def _place(name: str) -> tuple[int, str]:
    """Base first, and a model that was shown demonstrations right after itself: `base`, `base-4-shot`."""
    own = SHOTS.sub("", name)
    return (ORDER.index(own) if own in ORDER else len(ORDER), name)


def _main(models: Sequence[str]) -> str:
    """The model whose gain is of interest: `ppo`, else the last."""
    return "ppo" if "ppo" in models else models[-1]


def _gain(row: Sample, main: str, baseline: str) -> float | None:
    if main == baseline or main not in row.answers or baseline not in row.answers:
        return None
    after, before = row.answers[main].score, row.answers[baseline].score
    return None if after is None or before is None else after - before


def _lowest(rows: Sequence[Sample], name: str) -> list[int]:
    scored = [
        (answer.score, i)
        for i, row in enumerate(rows)
        if (answer := row.answers.get(name)) and answer.score is not None
    ]
    return [i for _, i in sorted(scored)[:EACH]]


def _spread(count: int, most: int) -> list[int]:
    """At most so many places, evenly over all."""
    return sorted({i * count // most for i in range(most)}) if count > most else list(range(count))


def _chosen(models: Sequence[str], rows: Sequence[Sample], lists: Mapping[str, Sequence[int]], note: str) -> Samples:
    """Each row that is in a list once, in the order of the lists, with the names of all lists that it is in."""
    places = list(dict.fromkeys(i for some in lists.values() for i in some))
    tagged = [replace(rows[i], tags=tuple(_tags(i, lists))) for i in places]
    return Samples(models, tagged, [name for name, some in lists.items() if some], note)


def _tags(place: int, lists: Mapping[str, Sequence[int]]) -> Iterator[str]:
    return (name for name, some in lists.items() if place in some)
