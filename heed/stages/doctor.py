"""`heed doctor`: a recipe before it runs, a run after it, or rollouts of any library → findings."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from heed.clinic.exact_tests import exact_tests
from heed.clinic.postmortem import postmortem
from heed.clinic.preflight import preflight, recipe_of
from heed.doctor.audit import Results, audit
from heed.doctor.causes import settle
from heed.doctor.findings import TESTS
from heed.doctor.rollouts import Rollouts, read_rollouts
from heed.doctor.verdict import Verdict
from heed.errors import ConfigError
from heed.models.roles import Shelf
from heed.settings.doctor import DoctorSettings
from heed.training.device import pick_device, pick_dtype, seed_everything
from heed.training.metrics import print_completions
from heed.training.run_dir import write_json

log = logging.getLogger("heed")
FOUND = 3
"""Exit code where something grave was found."""
ANY = {"target", "set", "json"}
"""Settings that mean something with a target: everything else is in its recipe."""


def run(settings: DoctorSettings) -> int:
    """Test what is named, print what was tested and found; returns the exit code."""
    verdict = examined(settings)
    print_verdict(verdict)
    if settings.json:
        write_json(Path(settings.json), verdict.as_dict())
        log.info("wrote  %s", settings.json)
    return FOUND if verdict.is_grave else 0


def examined(settings: DoctorSettings) -> Verdict:
    """Pre-flight, post-mortem, or a file. Raises ConfigError where it is not clear what to examine."""
    if bool(settings.target) == bool(settings.rollouts):
        told = "both `target` and `rollouts` are given" if settings.target else "nothing is named to be examined"
        raise ConfigError("target", told, "give a recipe of heed ppo, a run's directory, or --rollouts FILE")
    if settings.rollouts:
        return of_rollouts(settings)
    if elsewhere := sorted(settings.model_fields_set - ANY):
        raise ConfigError(elsewhere[0], "goes with --rollouts only", f"set it in {settings.target}")
    target = Path(settings.target).expanduser()
    if target.is_dir():
        return postmortem(target)
    return preflight(recipe_of(target, settings.set), settings.target)


def of_rollouts(settings: DoctorSettings) -> Verdict:
    """What a file tells by itself, and, where both models are named, what they say of it."""
    if bool(settings.model) != bool(settings.reference):
        missing = "reference" if settings.model else "model"
        raise ConfigError(
            missing, "is not given", "exact tests need both --model and --reference; leave both out for the others"
        )
    rollouts = read_rollouts(Path(settings.rollouts))
    results = audit(rollouts, settings.temperature)
    if settings.model:
        results = _joined(results, _exact(rollouts, settings))
    findings = settle([found for some in results.values() for found in some])
    return Verdict(settings.rollouts, results, findings, len(rollouts.responses), int(rollouts.written.sum()))


def _exact(rollouts: Rollouts, settings: DoctorSettings) -> Results:
    device = pick_device(settings.device)
    generator = seed_everything(settings.seed)
    shelf = Shelf(partial(pick_dtype, settings.dtype, device), device)
    policy, reference = shelf.policy(settings.model, "policy"), shelf.policy(settings.reference, "reference")
    return exact_tests(
        rollouts, policy, reference, temperature=settings.temperature, batch=settings.batch, generator=generator
    )


def _joined(one: Results, other: Results) -> Results:
    return {name: one.get(name, []) + other.get(name, []) for name in TESTS if name in one or name in other}


def print_verdict(verdict: Verdict) -> None:
    """Tables for people: what was tested, what the reward model prefers, and what is wrong."""
    print_completions(verdict.tests(), f"{verdict.title}: {verdict.responses:,} responses, {verdict.tokens:,} tokens")
    if verdict.figures:
        shown = [{"reward model": name, "": figure} for name, figure in verdict.figures.items()]
        print_completions(shown, "how often a good answer scores higher, and what score goes with")
    if verdict.findings:
        print_completions(verdict.told(), "findings")
    else:
        log.info("nothing is wrong with what could be tested")
