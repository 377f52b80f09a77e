"""The doctor before a run: the recipe's own models, three rollouts and one update, all in memory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from heed import config
from heed.clinic.live import LiveDoctor
from heed.clinic.probing import probe
from heed.doctor.causes import settle
from heed.doctor.verdict import Verdict
from heed.errors import ConfigError
from heed.formulas.advantages import shaped_rewards
from heed.rl.policy_update import Update
from heed.rl.rollout import collect, rollout_metrics
from heed.rl.setup import check, load, prompt_batches, read_ptx, read_questions
from heed.settings.ppo import PPOSettings
from heed.training.device import pick_device, seed_everything

ROLLOUTS = 3
UPDATED = 2  # the rollout that is learned from: the last one is of a policy that has left the reference


def recipe_of(path: Path, variables: Mapping[str, str]) -> PPOSettings:
    """The settings of `heed ppo` in a recipe."""
    if path.suffix not in (".yaml", ".yml"):
        hint = "give a recipe of heed ppo (.yaml) or the directory of a run"
        raise ConfigError("target", f"{path} is neither a recipe nor a directory", hint)
    return config.load(PPOSettings, [str(path), *(f"--set.{name}={text}" for name, text in variables.items())], "ppo")


def preflight(settings: PPOSettings, title: str) -> Verdict:
    """Everything that PPO would do in its first steps, tested; nothing is written to the recipe's output.

    The update has the peak learning rate, so that the last rollout tells the policy from the reference.
    """
    template = check(settings)
    device, generator = pick_device(settings.device), seed_everything(settings.seed)
    questions, _ = read_questions(settings, template)
    text = read_ptx(settings)
    roles = load(settings, device, template, questions)
    update = Update(roles, settings, text, generator)
    doctor = LiveDoctor(
        roles.policy, roles.reference, roles.value, batch=settings.batch, longest=settings.sampling.max_new_tokens,
        temperature=settings.sampling.temperature, microbatch=settings.microbatch, seed=settings.seed,
        kl_target=settings.kl_target, allow_biased_kl=True, path=None,
    )  # fmt: skip
    batches, rollouts = prompt_batches(questions, settings.batch, generator), []
    for step in range(1, ROLLOUTS + 1):
        rollout = collect(roles, next(batches), settings, template, generator, doctor.observers)
        doctor.examine(step, rollout)
        rollouts.append(rollout)
        if step == UPDATED:
            scored = rollout.scored
            paid = shaped_rewards(scored.logprobs, scored.ref_logprobs, rollout.paid, rollout.mask, settings.kl_coef)
            metrics = rollout_metrics(rollout, paid, settings.kl_coef)
            trained = update(settings.critic_warmup + settings.warmup_steps + 1, rollout, paid)
            doctor.follow(step, metrics | trained)
    found, figures = probe(
        roles, questions, rollouts[:UPDATED], template, seed=settings.seed, microbatch=settings.microbatch
    )
    return Verdict(
        title, doctor.chart.results, settle([*doctor.chart.findings.values(), *found]),
        sum(len(rollout.mask) for rollout in rollouts), sum(int(rollout.mask.sum()) for rollout in rollouts),
        figures=figures, skipped=doctor.chart.skipped,
    )  # fmt: skip
