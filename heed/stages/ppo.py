"""Step 3: prompts and a reward model → a better policy. InstructGPT (arXiv 2203.02155), section 3.5, appendix C.4."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from heed.clinic.live import LiveDoctor
from heed.data.order import EndlessOrder
from heed.data.provenance import provenance
from heed.data.tally import Tally
from heed.data.template import Template
from heed.errors import ConfigError, DataError
from heed.evaluation.judge import Judge
from heed.evaluation.printed import print_answers
from heed.formulas.advantages import shaped_rewards
from heed.models.adapter import settled
from heed.models.artefact import Artefact, TemplateUsed, check_saveable
from heed.models.card import made_with
from heed.models.checkpoint import Checkpoint, open_checkpoint, weights_hash
from heed.models.external_reward import ExternalReward
from heed.models.lineage import judged_by, lineage
from heed.models.load import context_length, load_config, load_tokenizer
from heed.models.reader import require_same_reader
from heed.models.roles import Roles, Shelf, load_roles, weight_count
from heed.pocket.gold import scores as gold_scores
from heed.rl.artefacts import keep, save_policies
from heed.rl.critic import Critic
from heed.rl.held_out import SCORE, HeldOut, Judging, headline, normalised, reported
from heed.rl.kl_price import KLPrice
from heed.rl.policy_update import PolicyUpdate
from heed.rl.ptx import Ptx
from heed.rl.questions import Question, read_questions, read_text
from heed.rl.rollout import RolloutWorker, rollout_metrics, sample_rows
from heed.rl.update import Update
from heed.rows.threads import RowThreads
from heed.settings.ppo import PPOSettings
from heed.training.begin import announce
from heed.training.device import pick_device, pick_dtype
from heed.training.figures import print_figures
from heed.training.guards import require_finite
from heed.training.loop import Loop
from heed.training.optimizer import ppo_learning_rate_factor
from heed.training.randomness import Randomness, seed_everything
from heed.training.run_dir import DROPPED, RunDir
from heed.training.state import Same

log = logging.getLogger("heed")

SHOWN = ("score/mean", "kl/exact", "kl/k1", "policy/entropy", "length/mean", "length/eos_rate")


def run(settings: PPOSettings) -> Path:
    """Train a policy against a reward model, with the SFT model as the reference of the KL price."""
    inputs = read(settings)
    settings = settings.model_copy(update={"lora": settled(settings.lora, inputs.sft)})
    if settings.dry_run:  # of its three steps two are whole ones
        settings = settings.model_copy(update={"critic_warmup": min(1, settings.critic_warmup)})
    device = pick_device(settings.device, weight_count(inputs.sft))
    generator = seed_everything(settings.seed, device)
    with RunDir.create(settings) as run_dir:
        inputs.dropped.write(run_dir.path / DROPPED)
        ppo = prepare(settings, inputs, device, generator)
        notes = map(check_saveable, (ppo.roles.policy, ppo.roles.value))
        for note in filter(None, [*lineage(inputs.sft, inputs.reward), *notes]):
            log.info("%s", note)
        doctor = live_doctor(settings, ppo.roles, run_dir.path)
        price = KLPrice(settings.kl_coef, settings.kl_target, settings.kl_horizon, settings.batch)
        worker, update, held_out, order = ppo.worker, ppo.update, ppo.held_out, ppo.order
        trunk, trained = ppo.roles.policy.trunk, {**ppo.roles.policy.parameters(), **ppo.roles.value.parameters()}
        announce(run_dir, trunk.model.parameters(), trained, update.critic.threads.count)
        if run_dir.saved is None:
            held_out.answer(step=0)
        parts = {"policy": update.policy, "critic": update.critic, "price": price, "order": order, "doctor": doctor}
        same = Same(trunk=weights_hash(trunk.model), data=provenance(settings.prompts, len(inputs.questions)))
        parts |= {"held_out": held_out, "random": Randomness(generator), "inputs": same}
        with Loop(run_dir, "ppo", settings.steps, parts, settings.save_every) as loop:
            for step in loop:
                questions = [inputs.questions[i] for i in order.take(settings.batch)]
                rollout = worker.collect(questions, doctor.observers, loop.clock)
                loop.reads(partial(sample_rows, ppo.roles.policy, rollout, settings.batch))
                require_finite(float(rollout.scores.sum()), "a score of the reward model")
                with loop.clock("doctor"):
                    doctor.examine(step, rollout)
                scored = rollout.scored
                rewards = shaped_rewards(scored.logprobs, scored.ref_logprobs, rollout.paid, rollout.mask, price.coef)
                metrics = rollout_metrics(rollout, rewards, price.coef)
                over_budget = 0 < settings.kl_budget < (metrics["kl/exact"] or 0)
                if over_budget:
                    loop.end()
                else:
                    with loop.clock("update"):
                        metrics |= update(step, rollout, rewards)
                if over_budget or loop.is_due(max(1, settings.evaluations - 1)):
                    with loop.clock("evaluation"):
                        metrics |= evaluated(ppo, step, settings, run_dir)
                with loop.clock("doctor"):
                    doctor.follow(step, metrics)
                price.follow(metrics["kl/exact"], doctor.valid)
                loop.record(metrics, SHOWN, int(rollout.mask.sum()))
                with loop.clock("io"):
                    run_dir.samples(step, sample_rows(ppo.roles.policy, rollout, 4))
                if loop.saves:
                    run_dir.save_checkpoint(partial(save, ppo, settings, held_out.report(held_out.last), run_dir))
        report = reported(held_out, update.policy.average, picks(settings), settings.kl_budget)
        report |= {"kept": settings.select, "doctor": doctor.chart.summary()}
        keep(run_dir, report, settings.select == "last", partial(save, ppo, settings, report, run_dir))
        run_dir.write_json("report.json", report)
        print_answers(held_out.table()[:6], "held-out prompts, before and after PPO")
        print_figures(headline(report), f"{len(held_out.questions)} held-out prompts")
        run_dir.finished(*next_command(settings))
    return run_dir.path


def evaluated(ppo: Prepared, step: int, settings: PPOSettings, run_dir: RunDir) -> dict[str, float | None]:
    """Answer the held-out prompts; the best policy so far is saved in `best/`."""
    found = ppo.held_out.answer(step)
    ppo.held_out.warn()
    if ppo.held_out.best(picks(settings), settings.kl_budget) == step:
        run_dir.save_directory("best", partial(save, ppo, settings, ppo.held_out.report(found), run_dir))
    return ppo.held_out.metrics(step)


def picks(settings: PPOSettings) -> str:
    """By which scores the best policy is picked."""
    return settings.select if settings.select in ("heldout", "gold") else SCORE


# ── what it begins with; the doctor's pre-flight begins so too ───────────────────────────────────────────────────────


@dataclass(frozen=True)
class Inputs:
    """What can be read before a model is loaded. `text` is pretraining text for PPO-ptx, `[rows, sequence]`."""

    sft: Checkpoint
    reward: Checkpoint | None
    template: Template
    tokenizer: PreTrainedTokenizerBase
    questions: list[Question]
    held_out: list[Question]
    text: Tensor | None
    dropped: Tally = field(default_factory=Tally)


@dataclass(frozen=True)
class Prepared:
    """The four models, and the parts of a step."""

    inputs: Inputs
    roles: Roles
    worker: RolloutWorker
    update: Update
    held_out: HeldOut
    order: EndlessOrder


def check(settings: PPOSettings) -> None:
    """What settings alone can tell."""
    if settings.minibatch > settings.batch:
        raise ConfigError("minibatch", f"{settings.minibatch} is more than batch {settings.batch}", "make it smaller")
    if bool(settings.reward_model) == bool(settings.external_reward.model):
        hint = "set either reward_model or external_reward.model"
        raise ConfigError("reward_model", "one reward model is needed", hint)
    if settings.ptx.coef and not settings.ptx.text:
        raise ConfigError("ptx.text", "is empty, but ptx.coef is above 0", "name text files, or set ptx.coef to 0")
    if settings.steps <= settings.critic_warmup:
        told = f"{settings.steps} are not more than critic_warmup, {settings.critic_warmup}"
        raise ConfigError("steps", f"{told}: the policy would never move", "raise it, or lower `critic_warmup`")
    if settings.kl_target and not settings.kl_coef:
        raise ConfigError("kl_target", "moves a kl_coef that is 0 nowhere", "set kl_coef to where it should begin")
    for name, judge in (("heldout", settings.judge), ("gold", settings.gold)):
        if settings.select == name and not judge:
            given = "judge" if name == "heldout" else "gold"
            raise ConfigError("select", f"{name} has nobody to ask", f"set `{given}`, or select kl_budget")
    if not settings.prompts.path:
        raise ConfigError("prompts", "no prompts are given", "set prompts.path to a file, directory or hub data set")


def read(settings: PPOSettings) -> Inputs:
    """Find the checkpoints, read the prompts and the text; everything that can be wrong with them is told here."""
    check(settings)
    sft = open_checkpoint(settings.model, "policy")
    if settings.judge:
        open_checkpoint(settings.judge, "reward")
    reward = open_checkpoint(settings.reward_model, "reward") if settings.reward_model else None
    if reward:
        require_same_reader(reward, sft)
    tokenizer = load_tokenizer(sft.path)
    template = Template.named(sft.template or "dialogue", tokenizer)
    context, dropped = context_length(load_config(sft.base or sft.path)), Tally()
    questions, held_out = read_questions(
        settings.prompts, settings.validation_prompts, settings.validation_share, settings.validation_limit,
        settings.hygiene, template, tokenizer, context, settings.sampling.max_new_tokens, settings.seed, dropped,
    )  # fmt: skip
    if not questions:
        told = f"none of the prompts in {settings.prompts.path} is left to train on"
        raise DataError("prompts", told, "give more prompts, or lower `validation_share`")
    text = read_text(settings.ptx.text, settings.ptx.sequence, tokenizer, context) if settings.ptx.coef else None
    return Inputs(sft, reward, template, tokenizer, questions, held_out, text, dropped)


def prepare(settings: PPOSettings, inputs: Inputs, device: torch.device, generator: torch.Generator) -> Prepared:
    """Load the models and put together what a step consists of."""
    roles, judge = load(settings, inputs, device)
    missing_eos = settings.missing_eos.mode, settings.missing_eos.value
    worker = RolloutWorker(roles, inputs.template, settings.sampling, settings.microbatch, missing_eos, generator)
    if settings.external_reward.model:
        reference = inputs.questions[: settings.external_reward.normalise_prompts]
        roles = normalised(worker, reference, settings.seed)
        worker = replace(worker, roles=roles)
    threads, microbatch = RowThreads.for_model(roles.policy.trunk.model), settings.microbatch
    policy = PolicyUpdate(
        roles.policy, settings.optimizer, settings.clip_range, settings.sampling.temperature, settings.ema,
        microbatch, threads,
    )  # fmt: skip
    ptx = None
    if inputs.text is not None:
        ptx = Ptx(roles.policy, inputs.text, settings.ptx.coef, settings.ptx.ratio, microbatch, generator, threads)
    ramp = {"steps": settings.steps - settings.critic_warmup, "warmup_steps": settings.warmup_steps}
    schedule = partial(ppo_learning_rate_factor, **ramp, settings=settings.optimizer)
    update = Update(
        Critic(roles.value, settings.value_optimizer, settings.value_clip_range, microbatch, threads), policy, ptx,
        settings.epochs, settings.minibatch, settings.gamma, settings.gae_lambda, settings.critic_warmup,
        schedule, generator,
    )  # fmt: skip
    judges: dict[str, Judging] = {}
    if judge:
        writer, template, size = roles.policy, inputs.template, settings.microbatch
        judges["heldout"] = partial(judge.scores, policy=writer, template=template, size=size)
    if settings.gold:
        judges["gold"] = lambda prompts, answers: gold_scores(prompts, answers.texts, answers.finished)
    held_out = HeldOut(worker, inputs.held_out, settings.seed, judges)
    return Prepared(inputs, roles, worker, update, held_out, EndlessOrder(len(inputs.questions), generator))


def live_doctor(
    settings: PPOSettings, roles: Roles, path: Path | None, allow_biased_kl: bool | None = None
) -> LiveDoctor:
    """The doctor of a run; in memory without a `path`."""
    allowed = settings.allow_biased_kl if allow_biased_kl is None else allow_biased_kl
    return LiveDoctor(
        roles.policy, roles.reference, roles.value, batch=settings.batch, longest=settings.sampling.max_new_tokens,
        temperature=settings.sampling.temperature, microbatch=settings.microbatch, seed=settings.seed,
        kl_target=settings.kl_target, allow_biased_kl=allowed, path=path,
    )  # fmt: skip


def load(settings: PPOSettings, inputs: Inputs, device: torch.device) -> tuple[Roles, Judge | None]:
    """The four models, and the judge of evaluations if there is one. All are float32 where every weight is trained, so
    that policy = reference at first, exactly."""
    dtype = "float32" if settings.lora.rank == 0 else settings.dtype
    pick, reward = partial(pick_dtype, dtype, device), settings.external_reward
    shelf = Shelf(pick, device, settings.recompute)
    pays = (
        ExternalReward.load(reward.model, reward.form, reward.batch, device)
        if inputs.reward is None
        else shelf.reward_model(inputs.reward, "reward")
    )
    roles = load_roles(shelf, inputs.sft, pays, settings.lora)
    return roles, Judge.load(shelf, settings.judge, "judge") if settings.judge else None


# ── what it leaves ───────────────────────────────────────────────────────────────────────────────────────────────────


def save(ppo: Prepared, settings: PPOSettings, report: dict[str, Any], run_dir: RunDir, path: Path) -> None:
    """The policy as the checkpoint itself, the averaged policy in `ema/`, the value model in `value/`."""
    trunk, template, sft = ppo.roles.policy.trunk, ppo.worker.template, ppo.inputs.sft
    notes: dict[str, Any] = {"data": provenance(settings.prompts, len(ppo.inputs.questions))}
    notes |= judged_by(ppo.inputs.reward) if ppo.inputs.reward else {}
    artefact = Artefact(
        stage="ppo",
        title=Path(settings.output).name,
        sentence="A language model trained by PPO against a reward model (step 3 of InstructGPT).",
        settings=run_dir.recipe,
        made_with=made_with(run_dir.path),
        template=TemplateUsed(template.name, template.hash, template.chat_template),
        base=trunk.name,
        base_hash=trunk.hash,
        figures=headline(report),
        start=sft,
        notes=notes,
        max_new_tokens=settings.sampling.max_new_tokens,
    )
    save_policies(artefact, ppo.roles, ppo.update.policy, report.get("ema"), path)


def next_command(settings: PPOSettings) -> list[str]:
    """What to run after this."""
    judge = ["--reward_models.reward", settings.reward_model] if settings.reward_model else []
    models = ["--models.sft", settings.model, "--models.ppo", settings.output]
    return ["heed", "evaluate", *models, *judge, "--prompts", "FILE", "--output", "runs/evaluate"]
