"""Step 3b: rollouts → a better policy. InstructGPT (arXiv 2203.02155), section 3.5 and appendix C.4."""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

from heed import config
from heed.clinic.live import LiveDoctor
from heed.data.template import Template
from heed.formulas.advantages import shaped_rewards
from heed.formulas.kl import adaptive_coefficient
from heed.formulas.statistics import bootstrap_difference, bootstrap_mean, win_rate
from heed.models.card import Card, made_with, write_card
from heed.models.checkpoint import write_metadata
from heed.models.policy import save_policy
from heed.models.publish import write_generation_files
from heed.models.roles import Roles
from heed.models.scalar_head import save_scalar
from heed.rl.policy_update import Update
from heed.rl.rollout import Answers, Question, answer, collect, rollout_metrics, sample_rows
from heed.rl.setup import check, load, prompt_batches, read_ptx, read_questions
from heed.settings.ppo import PPOSettings
from heed.training.device import pick_device, seed_everything
from heed.training.figures import print_figures
from heed.training.metrics import Progress, print_completions
from heed.training.run_dir import RunDir

SHOWN = ("score/mean", "kl/exact", "kl/k1", "length/mean", "length/eos_rate")


def run(settings: PPOSettings) -> Path:
    """Train a policy against a reward model, with the SFT model as the reference of the KL price."""
    template = check(settings)
    device, generator = pick_device(settings.device), seed_everything(settings.seed)
    questions, held_out = read_questions(settings, template)
    text = read_ptx(settings)
    with RunDir.create(settings) as run_dir, Progress("ppo", settings.steps) as progress:
        roles = load(settings, device, template, questions)
        update = Update(roles, settings, text, generator)
        doctor = LiveDoctor(
            roles.policy, roles.reference, roles.value, batch=settings.batch, longest=settings.sampling.max_new_tokens,
            temperature=settings.sampling.temperature, microbatch=settings.microbatch, seed=settings.seed,
            kl_target=settings.kl_target,
            allow_biased_kl=settings.allow_biased_kl, path=run_dir.path,
        )  # fmt: skip
        batches = prompt_batches(questions, settings.batch, generator)
        answered, kl_coef = {0: answer(roles, held_out, settings, template)}, settings.kl_coef
        for step in range(1, settings.steps + 1):
            started = time.perf_counter()
            rollout = collect(roles, next(batches), settings, template, generator, doctor.observers)
            doctor.examine(step, rollout)
            scored, rolled_out = rollout.scored, time.perf_counter()
            rewards = shaped_rewards(scored.logprobs, scored.ref_logprobs, rollout.paid, rollout.mask, kl_coef)
            metrics = rollout_metrics(rollout, rewards, kl_coef)
            spent = 0 < settings.kl_budget < (metrics["kl/exact"] or 0)
            if not spent:
                metrics |= update(step, rollout, rewards)
            if spent or is_due(step, settings):
                answered[step] = answer(roles, held_out, settings, template)
                metrics["validation/score"] = float(answered[step].scores.mean())
            doctor.follow(step, metrics)
            kl_coef = next_coefficient(kl_coef, metrics["kl/exact"], settings, doctor.valid)
            run_dir.record(step, metrics)
            run_dir.time(step, {"time/rollout": rolled_out - started, "time/step": time.perf_counter() - started})
            run_dir.samples(step, sample_rows(roles, rollout, 4))
            progress.update(step, {name: metrics[name] for name in SHOWN})
            if spent:
                break
        before, after = answered[0], answered[max(answered)]
        found = {**report(before, after, settings.seed), "doctor": doctor.summary()}
        run_dir.save_checkpoint(partial(save, roles, update, template, settings, found, run_dir.path))
        run_dir.write_json("report.json", found)
    print_completions(side_by_side(held_out, before, after)[:6], "held-out prompts, before and after PPO")
    print_figures(headline(found), f"{len(held_out)} held-out prompts")
    run_dir.finished(next_command(settings))
    return run_dir.path


def next_coefficient(kl_coef: float, kl: float | None, settings: PPOSettings, valid: bool) -> float:
    """β of the next step. It moves only where there is a `kl_target`, and only after a KL that the doctor believes."""
    if not settings.kl_target or kl is None:
        return kl_coef
    return adaptive_coefficient(kl_coef, kl, settings.kl_target, settings.kl_horizon, settings.batch, valid)


def is_due(step: int, settings: PPOSettings) -> bool:
    """Whether held-out prompts are answered after this step: `evaluations` times in all, before the first included."""
    every = settings.steps / max(1, settings.evaluations - 1)
    return step == settings.steps or math.floor(step / every) > math.floor((step - 1) / every)


def save(
    roles: Roles,
    update: Update,
    template: Template,
    settings: PPOSettings,
    found: dict[str, Any],
    run_path: Path,
    path: Path,
) -> None:
    """The policy as the checkpoint itself, the value model in `value/`, the averaged policy in `ema/`."""
    save_trained(roles, template, settings, found, run_path, path)
    if update.average:
        with update.average.applied():
            save_trained(roles, template, settings, found, run_path, path / "ema")
    save_scalar(roles.value, path / "value")
    trunk, measured = roles.value.trunk, {"gain": roles.value.gain, "bias": roles.value.bias}
    about = {"kind": "value", "stage": "ppo", "template": {"name": template.name, "hash": template.hash}}
    base = {"base": trunk.name, "base_hash": trunk.hash}
    write_metadata(path / "value", {**about, **base, "reward": measured})


def save_trained(
    roles: Roles, template: Template, settings: PPOSettings, found: dict[str, Any], run_path: Path, path: Path
) -> None:
    """The policy with the weights that it has now: stock files, `heed.json`, and the model card."""
    trunk, sentence = (
        roles.policy.trunk,
        "A language model trained by PPO against a reward model (step 3 of InstructGPT).",
    )
    save_policy(roles.policy, path)
    write_generation_files(path, trunk.tokenizer, template.chat_template, settings.sampling.max_new_tokens)
    about = {"kind": "policy", "stage": "ppo", "template": {"name": template.name, "hash": template.hash}}
    write_metadata(path, {**about, "base": trunk.name, "base_hash": trunk.hash})
    title, adapter = Path(settings.output).name, roles.policy.adapter is not None
    card = Card(title, sentence, trunk.name, adapter, headline(found), config.dump(settings), made_with(run_path))
    write_card(path, card)


def headline(found: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures that are printed and stand in the model card."""
    named = {f"held-out score, {name}": figure for name, figure in found["score"].items()}
    return {**named, "wins against the SFT model, by the reward model": found["win_rate"]}


def report(before: Answers, after: Answers, seed: int) -> dict[str, Any]:
    """Held-out prompts answered by the SFT model and by the last policy: paired, with 95 % intervals."""
    a, b = after.scores.tolist(), before.scores.tolist()
    return {
        "score": {
            "before": bootstrap_mean(b, seed).as_dict(),
            "after": bootstrap_mean(a, seed).as_dict(),
            "difference": bootstrap_difference(a, b, seed).as_dict(),
        },
        "win_rate": win_rate(a, b, seed).as_dict(),
        "length": {"before": float(before.lengths.mean()), "after": float(after.lengths.mean())},
        "eos_rate": {"before": float(before.finished.mean()), "after": float(after.finished.mean())},
    }


def side_by_side(questions: list[Question], before: Answers, after: Answers) -> list[dict[str, Any]]:
    """Rows of the table that is printed at the end."""
    return [
        {
            "prompt": question.record.prompt[-1].content,
            "before": before.texts[i],
            "score before": float(before.scores[i]),
            "after": after.texts[i],
            "score after": float(after.scores[i]),
        }
        for i, question in enumerate(questions)
    ]


def next_command(settings: PPOSettings) -> str:
    """What to run after this."""
    judge = f" --reward_models.reward {settings.reward_model}" if settings.reward_model else ""
    models = f"--models.sft {settings.model} --models.ppo {settings.output}"
    return f"heed evaluate {models}{judge} --prompts FILE --output runs/evaluate"
