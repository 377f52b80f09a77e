"""The doctor's post-mortem: rollouts of any library, and the models they came from, → findings."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from heed.doctor.audit import Results, audit
from heed.doctor.causes import settle
from heed.doctor.findings import TESTS, Finding
from heed.doctor.rollouts import Rollouts, read_rollouts
from heed.errors import ConfigError
from heed.models.roles import Shelf
from heed.settings.doctor import DoctorSettings
from heed.stages.exact_tests import exact_tests
from heed.training.device import pick_device, pick_dtype, seed_everything
from heed.training.metrics import print_completions
from heed.training.run_dir import write_json

log = logging.getLogger("heed")
FOUND = 3
"""Exit code where something grave was found."""


def run(settings: DoctorSettings) -> int:
    """Test the rollouts, print what was tested and found; returns the exit code."""
    if bool(settings.model) != bool(settings.reference):
        missing = "reference" if settings.model else "model"
        raise ConfigError(
            missing, "is not given", "exact tests need both --model and --reference; leave both out for the others"
        )
    rollouts = read_rollouts(Path(settings.rollouts))
    results = audit(rollouts, settings.temperature)
    if settings.model:
        results = _joined(results, _exact(rollouts, settings))
    findings = settle([found for found in results.values() for found in found])
    print_report(results, findings, rollouts)
    if settings.json:
        write_json(Path(settings.json), report(results, findings, rollouts))
        log.info("wrote  %s", settings.json)
    return FOUND if any(found.severity == "error" for found in findings) else 0


def _exact(rollouts: Rollouts, settings: DoctorSettings) -> Results:
    device = pick_device(settings.device)
    generator = seed_everything(settings.seed)
    shelf = Shelf(partial(pick_dtype, settings.dtype, device), device)
    policy, reference = shelf.policy(settings.model, "policy"), shelf.policy(settings.reference, "reference")
    return exact_tests(rollouts, policy, reference, settings, generator)


def _joined(one: Results, other: Results) -> Results:
    return {name: one.get(name, []) + other.get(name, []) for name in TESTS if name in one or name in other}


def report(results: Results, findings: list[Finding], rollouts: Rollouts) -> dict[str, object]:
    """The findings for programs."""
    return {
        "findings": [found.as_dict() for found in findings],
        "tests": {name: outcome(results.get(name)) for name in TESTS},
        "responses": len(rollouts.responses),
        "tokens": int(rollouts.written.sum()),
    }


def outcome(found: list[Finding] | None) -> str:
    """passed, failed, or not tested."""
    if found is None:
        return "not tested"
    return "failed" if any(one.severity != "info" for one in found) else "passed"


def print_report(results: Results, findings: list[Finding], rollouts: Rollouts) -> None:
    """Two tables for people: what was tested, and what is wrong."""
    rows = [{"test": name, "what should hold": text, "": outcome(results.get(name))} for name, text in TESTS.items()]
    tokens = int(rollouts.written.sum())
    print_completions(rows, f"{len(rollouts.responses):,} responses, {tokens:,} tokens")
    told = [
        {"id": found.id, "severity": found.severity, "what is wrong": found.message, "what to do": found.hint}
        for found in findings
    ]
    if told:
        print_completions(told, "findings")
    else:
        log.info("nothing is wrong with what could be tested")
