"""The doctor after a run: its rows are judged again, and its last checkpoint answers a few prompts more."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch

from heed import config
from heed.clinic.live import FILE, LiveDoctor
from heed.doctor import health
from heed.doctor.causes import settle
from heed.doctor.chart import Chart
from heed.doctor.findings import Finding, by_severity
from heed.doctor.verdict import Verdict, not_made
from heed.errors import ConfigError
from heed.models.roles import Roles, Shelf
from heed.records import read_objects
from heed.rl.rollout import Rollout, draw, scored_tokens
from heed.rl.setup import check, prompt_batches, read_questions
from heed.settings.ppo import PPOSettings
from heed.training.device import pick_device, pick_dtype, seed_everything

ROLLOUTS = 2


def postmortem(path: Path) -> Verdict:
    """What the rows of a run say, what the doctor wrote down while it ran, and what the last policy's answers say."""
    settings = settings_of(path)
    rows = [row for _, row in read_objects(path / "metrics.jsonl")] if (path / "metrics.jsonl").is_file() else []
    if not rows:
        return Verdict(
            f"{path}, no steps", {}, [], 0, 0, unjudged="the run has no steps in metrics.jsonl: examine its recipe"
        )
    file = path / FILE
    noted = [(row["step"], of_row(row)) for _, row in read_objects(file)] if file.is_file() else []
    run = health.Run(settings.batch, settings.sampling.max_new_tokens)
    findings = counted(noted) + counted(health.replay(rows, run))  # of two with one id the first is told
    findings = ended(findings, health.at_the_end(rows, run))
    chart, responses, tokens, unjudged = Chart(None), 0, 0, ""
    title = f"{path}, {len(rows)} steps"
    if not (path / "checkpoint").is_dir():
        unjudged = f"the run stopped after step {rows[-1]['step']} and has no checkpoint to test"
    else:
        chart, responses, tokens = fresh(path, settings, rows[-1]["step"])
    return Verdict(
        title, chart.results, settle([*chart.findings.values(), *findings]), responses, tokens,
        during=_during(path), skipped=not_made(unjudged) | chart.skipped, unjudged=unjudged,
    )  # fmt: skip


def settings_of(path: Path) -> PPOSettings:
    """The settings of a run of `heed ppo`. Raises ConfigError where the directory is not one."""
    described = _json(path / "run.json")
    if not (path / "config.yaml").is_file() or not described:
        raise ConfigError("target", f"{path} is not the directory of a run", "give one that `heed ppo` wrote")
    if described.get("settings") != PPOSettings.__name__:
        stage = str(described.get("settings")).removesuffix("Settings").lower()
        raise ConfigError("target", f"{path} is a run of {stage}, not of ppo", "the doctor examines runs of heed ppo")
    return config.load(PPOSettings, [str(path / "config.yaml")])


def fresh(path: Path, settings: PPOSettings, step: int) -> tuple[Chart, int, int]:
    """The last policy answers two more batches of prompts, which are tested as those of the run were."""
    template = check(settings)
    device, generator = pick_device(settings.device), seed_everything(settings.seed + step)
    dtype = "float32" if settings.lora.rank == 0 else settings.dtype
    shelf = Shelf(partial(pick_dtype, dtype, device), device)
    reference, policy = shelf.policy(settings.model, "reference"), shelf.policy(str(path), "policy")
    roles = Roles(policy, reference, cast(Any, None), cast(Any, None))  # nothing is scored or learned
    doctor = LiveDoctor(
        policy, reference, None, batch=settings.batch, longest=settings.sampling.max_new_tokens,
        temperature=settings.sampling.temperature, microbatch=settings.microbatch, seed=settings.seed,
        kl_target=settings.kl_target, allow_biased_kl=True, path=None,
    )  # fmt: skip
    questions, held_out = read_questions(settings, template)
    batches, sizes = prompt_batches(held_out or questions, settings.batch, generator), []
    for number in range(ROLLOUTS):
        asked = next(batches)
        prompts, responses = draw(roles, asked, settings, generator)
        scored = scored_tokens(roles, prompts, responses, settings, doctor.observers)
        finished, none = responses.finished(policy.trunk.tokenizer.eos_token_id), torch.zeros(len(asked))
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
    return dict(_json(path / "report.json").get("doctor", {}).get("tests", {}))


def _json(file: Path) -> dict[str, Any]:
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}
