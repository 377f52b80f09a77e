"""`heed doctor`: a recipe before it runs, a run after it, or rollouts of any library → findings."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path

from heed.clinic.exact_tests import exact_tests
from heed.clinic.opening import put_on
from heed.clinic.postmortem import postmortem
from heed.clinic.preflight import preflight, recipe_of
from heed.doctor.audit import Results, audit, says_nothing, why_not
from heed.doctor.causes import settle
from heed.doctor.findings import TESTS
from heed.doctor.rollouts import Rollouts, read_rollouts
from heed.doctor.verdict import Verdict
from heed.errors import ConfigError
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.settings.doctor import DoctorSettings
from heed.training.device import pick_device, pick_dtype, seed_everything
from heed.training.metrics import print_completions
from heed.training.run_dir import write_json

log = logging.getLogger("heed")
ANY = {"target", "set", "json"}
"""Settings that mean something with a target: everything else is in its recipe."""


def run(settings: DoctorSettings) -> int:
    """Test what is named, print what was tested and found; returns the exit code."""
    verdict = examined(settings)
    print_verdict(verdict)
    if settings.json:
        write_json(Path(settings.json), verdict.as_dict())
        log.info("wrote  %s", settings.json)
    return verdict.code


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
    rollouts, vocab = read_rollouts(Path(settings.rollouts)), None
    if not settings.model:
        results = audit(rollouts, settings.temperature)
    else:
        policy, reference = _models(settings, rollouts)
        vocab = policy.trunk.model.config.vocab_size
        results = _joined(audit(rollouts, settings.temperature, vocab), _exact(rollouts, policy, reference, settings))
    findings = settle([finding for some in results.values() for finding in some])
    title = f"{settings.rollouts}, {rollouts.left_out} rows left out" if rollouts.left_out else settings.rollouts
    return Verdict(
        title, results, findings, len(rollouts.written), int(rollouts.written.sum()),
        skipped=why_not(rollouts, results, settings.temperature, vocab), unjudged=says_nothing(rollouts, results),
    )  # fmt: skip


def _models(settings: DoctorSettings, rollouts: Rollouts) -> tuple[Policy, Policy]:
    """Policy and reference. Of their tokenizers only two ids are needed, which the file may have."""
    device = pick_device(settings.device)
    shelf = Shelf(partial(pick_dtype, settings.dtype, device), device)
    for name in (settings.model, settings.reference):
        put_on(shelf, name, pad=rollouts.pad, eos=rollouts.eos)
    return shelf.policy(settings.model, "policy"), shelf.policy(settings.reference, "reference")


def _exact(rollouts: Rollouts, policy: Policy, reference: Policy, settings: DoctorSettings) -> Results:
    """Exact tests of the rows that the policy wrote: where some are from before the first update, of the others."""
    marked = set(rollouts.initial)
    if 0 < len(marked) < len(rollouts.written):
        rollouts = rollouts.rows([i for i in range(len(rollouts.written)) if i not in marked])
    generator = seed_everything(settings.seed)
    return exact_tests(
        rollouts, policy, reference, temperature=settings.temperature, batch=settings.batch, generator=generator
    )


def _joined(told: Results, exact: Results) -> Results:
    """What both say; T2 of the exact scoring outranks that of two columns."""
    if "T2" in exact:
        told = {name: found for name, found in told.items() if name != "T2"}
    return {name: told.get(name, []) + exact.get(name, []) for name in TESTS if name in told or name in exact}


def print_verdict(verdict: Verdict) -> None:
    """Tables for people: what was tested, what the reward model prefers, and what is wrong."""
    print_completions(
        verdict.test_rows(), f"{verdict.title}: {verdict.responses:,} responses, {verdict.tokens:,} tokens"
    )
    if verdict.figures:
        shown = [{"reward model": name, "": figure} for name, figure in verdict.figures.items()]
        print_completions(shown, "how often a good answer scores higher, and what score goes with")
    if verdict.findings:
        print_completions(verdict.finding_rows(), "findings")
    log.info(verdict.conclusion)
