"""The doctor after a run: its rows are judged again, and its last checkpoint answers a few prompts more."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from heed.clinic.live import FILE, LiveDoctor
from heed.data.order import EndlessOrder
from heed.doctor import health
from heed.doctor.causes import settle
from heed.doctor.chart import Chart
from heed.doctor.findings import Finding, by_severity
from heed.doctor.verdict import Verdict, not_made
from heed.records import read_objects
from heed.rl.questions import Question
from heed.rl.rollout import Rollout, RolloutWorker

ROLLOUTS = 2


def postmortem(path: Path, bands: health.Run, fresh: Callable[[int], tuple[Chart, int, int]] | None) -> Verdict:
    """What the rows of a run say, what the doctor wrote down while it ran, and what the last policy's answers say.

    `fresh(step)` lets the last policy answer a few prompts more (`answer_again`); None where there is no policy.
    """
    rows = [row for _, row in read_objects(path / "metrics.jsonl")] if (path / "metrics.jsonl").is_file() else []
    if not rows:
        return Verdict(
            f"{path}, no steps", {}, [], 0, 0, unjudged="the run has no steps in metrics.jsonl: examine its recipe"
        )
    file = path / FILE
    noted = [(row["step"], of_row(row)) for _, row in read_objects(file)] if file.is_file() else []
    findings = counted(noted) + counted(health.replay(rows, bands))  # of two with one id the first is told
    findings = ended(findings, health.at_the_end(rows, bands))
    chart, responses, tokens, unjudged = Chart(None), 0, 0, ""
    title = f"{path}, {len(rows)} steps"
    if fresh is None:
        unjudged = f"the run stopped after step {rows[-1]['step']} and has no checkpoint to test"
    else:
        chart, responses, tokens = fresh(rows[-1]["step"])
    return Verdict(
        title, chart.results, settle([*chart.findings.values(), *findings]), responses, tokens,
        during=_during(path), skipped=not_made(unjudged) | chart.skipped, unjudged=unjudged,
    )  # fmt: skip


def answer_again(
    worker: RolloutWorker, doctor: LiveDoctor, questions: list[Question], order: EndlessOrder, batch: int, step: int
) -> tuple[Chart, int, int]:
    """The last policy answers two more batches of questions, which are tested as those of the run were; returns what
    was found, and how many responses and tokens that was."""
    sizes = []
    for number in range(ROLLOUTS):
        asked = [questions[i] for i in order.take(batch)]
        prompts, responses = worker.draw(asked, worker.generator)
        scored = worker.scored_tokens(prompts, responses, doctor.observers)
        finished, none = responses.finished(worker.roles.policy.trunk.stop_ids), torch.zeros(len(asked))
        values = torch.zeros(responses.mask.shape)
        rollout = Rollout(asked, prompts, responses, finished, scored, values, none, none)
        doctor.examine(step + 1 + number, rollout)
        sizes.append((len(asked), int(responses.mask.sum())))
    return doctor.chart, sum(rows for rows, _ in sizes), sum(tokens for _, tokens in sizes)


def ended(findings: Sequence[Finding], names: Sequence[str]) -> list[Finding]:
    """What a policy has become by the end of its run is no warning any more."""
    return [
        replace(found, severity="error", message=f"{found.message} The run ends like this.")
        if found.id in names else found for found in findings
    ]  # fmt: skip


def of_row(row: Mapping[str, Any]) -> Finding:
    """A line of `findings.jsonl` as a finding."""
    return Finding(row["id"], row["severity"], row["message"], row["hint"], row.get("evidence", {}))


def counted(told: Sequence[tuple[int, Finding]]) -> list[Finding]:
    """One finding an id, the first of its gravest, with the first step and how often it was told."""
    steps: dict[str, list[int]] = {}
    for step, found in told:
        steps.setdefault(found.id, []).append(step)
    gravest: dict[str, Finding] = {}
    for found in by_severity(found for _, found in told):
        gravest.setdefault(found.id, found)
    return [
        replace(
            found, message=f"Step {steps[name][0]}, {len(steps[name])} in all: {found.message}",
            evidence={**found.evidence, "first_step": steps[name][0], "count": len(steps[name])},
        )
        for name, found in gravest.items()
    ]  # fmt: skip


def _during(path: Path) -> dict[str, str]:
    """Outcomes of the tests that the run made itself; empty for a run that did not finish."""
    return dict(read_json(path / "report.json").get("doctor", {}).get("tests", {}))


def read_json(file: Path) -> dict[str, Any]:
    """A JSON file of a run; empty where there is none."""
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
