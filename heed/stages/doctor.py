"""`heed doctor`: a recipe before it runs, a run after it, or rollouts of any library → findings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from heed import config
from heed.clinic.exact_tests import exact_tests
from heed.clinic.opening import put_on
from heed.clinic.postmortem import answer_again, postmortem, read_json
from heed.clinic.preflight import preflight
from heed.data.order import EndlessOrder
from heed.doctor import health
from heed.doctor.audit import Results, audit, says_nothing, why_not
from heed.doctor.causes import settle
from heed.doctor.chart import Chart
from heed.doctor.findings import TESTS
from heed.doctor.rollouts import Rollouts, read_rollouts
from heed.doctor.verdict import Verdict
from heed.errors import ConfigError
from heed.models.checkpoint import open_checkpoint
from heed.models.policy import Policy
from heed.models.roles import Roles, Shelf, weight_count
from heed.rl.rollout import RolloutWorker
from heed.settings.doctor import DoctorSettings
from heed.settings.ppo import PPOSettings
from heed.stages import ppo
from heed.training.device import pick_device, pick_dtype
from heed.training.files import write_json
from heed.training.metrics import print_completions
from heed.training.randomness import seed_everything

log = logging.getLogger("heed")
ANY = {"target", "set", "json"}
"""Settings that mean something with a target: everything else is in its recipe."""


def run(settings: DoctorSettings) -> int:
    """Test what is named, print what was tested and found; returns the exit code."""
    return diagnose(settings).code


def diagnose(settings: DoctorSettings) -> Verdict:
    """Test what is named, print what was tested and found, and write it where `json` says."""
    verdict = examined(settings)
    print_verdict(verdict)
    if settings.json:
        write_json(Path(settings.json), verdict.as_dict())
        log.info("wrote  %s", settings.json)
    return verdict


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
        return of_run(target)
    return of_recipe(recipe_of(target, settings.set), settings.target)


def recipe_of(path: Path, variables: Mapping[str, str]) -> PPOSettings:
    """The settings of `heed ppo` in a recipe."""
    if path.suffix not in (".yaml", ".yml"):
        hint = "give a recipe of heed ppo (.yaml) or the directory of a run"
        raise ConfigError("target", f"{path} is neither a recipe nor a directory", hint)
    return config.load(PPOSettings, [str(path), *(f"--set.{name}={text}" for name, text in variables.items())], "ppo")


def of_recipe(settings: PPOSettings, title: str) -> Verdict:
    """PPO begins as it would, in memory; nothing is written to the recipe's output."""
    inputs = ppo.read(settings)
    device = pick_device(settings.device, weight_count(inputs.sft))
    begun = ppo.prepare(settings, inputs, device, seed_everything(settings.seed, device))
    doctor = ppo.live_doctor(settings, begun.roles, None, allow_biased_kl=True)
    peak = partial(begun.update, settings.critic_warmup + settings.warmup_steps + 1)  # the first step at the peak
    return preflight(
        title, begun.worker, peak, doctor, inputs.questions, begun.order, settings.batch, settings.kl_coef,
        settings.seed,
    )  # fmt: skip


def of_run(path: Path) -> Verdict:
    """The rows of a run of `heed ppo` and its last policy. Raises ConfigError where the directory is not one."""
    described = read_json(path / "run.json")
    if not (path / "config.yaml").is_file() or not described:
        raise ConfigError("target", f"{path} is not the directory of a run", "give one that `heed ppo` wrote")
    if described.get("settings") != PPOSettings.__name__:
        stage = str(described.get("settings")).removesuffix("Settings").lower()
        raise ConfigError("target", f"{path} is a run of {stage}, not of ppo", "the doctor examines runs of heed ppo")
    settings = config.load(PPOSettings, [str(path / "config.yaml")])
    fresh = partial(last_policy, path, settings) if (path / "checkpoint").is_dir() else None
    return postmortem(path, health.Run(settings.batch, settings.sampling.max_new_tokens), fresh)


def last_policy(path: Path, settings: PPOSettings, step: int) -> tuple[Chart, int, int]:
    """The policy that a run left answers more questions. Neither reward nor value model is needed for that."""
    inputs = ppo.read(settings)
    device = pick_device(settings.device, weight_count(inputs.sft))
    generator = seed_everything(settings.seed + step, device)
    dtype = "float32" if settings.lora.rank == 0 else settings.dtype
    shelf = Shelf(partial(pick_dtype, dtype, device), device)
    reference, policy = shelf.policy(inputs.sft, "reference"), shelf.policy(str(path), "policy")
    roles = Roles(policy, reference, cast(Any, None), cast(Any, None))
    doctor = ppo.live_doctor(settings, roles, None, allow_biased_kl=True)
    questions = inputs.held_out or inputs.questions
    worker = RolloutWorker(
        roles, inputs.template, settings.sampling, settings.microbatch, ("none", 0.0), generator
    )  # fmt: skip
    order = EndlessOrder(len(questions), generator)
    return answer_again(worker, doctor, questions, order, settings.batch, step)


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
    device = pick_device(settings.device, weight_count(open_checkpoint(settings.model, "policy")))
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
