"""Step 3b: rollouts → a better policy. InstructGPT (arXiv 2203.02155), section 3.5 and appendix C.4."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heed.data.batch import text_rows
from heed.data.encode import encode_prompts, encode_texts
from heed.data.hygiene import clean, split_by_group
from heed.data.sources import read_prompts, read_texts
from heed.data.template import Template
from heed.errors import CheckpointError, ConfigError
from heed.formulas.advantages import shaped_rewards
from heed.formulas.statistics import bootstrap_difference, bootstrap_mean, win_rate
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.external_reward import ExternalReward
from heed.models.load import load_tokenizer
from heed.models.policy import save_policy
from heed.models.roles import Roles, Shelf, load_roles
from heed.models.scalar_head import save_scalar
from heed.records import Prompt
from heed.settings.common import DataSettings
from heed.settings.ppo import PPOSettings
from heed.stages.rollout import Answers, Question, answer, collect, normalise, rollout_metrics, sample_rows
from heed.stages.update import Update
from heed.training.device import pick_device, pick_dtype, seed_everything
from heed.training.metrics import Progress, print_completions
from heed.training.run_dir import RunDir

log = logging.getLogger("heed")
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
        batches = prompt_batches(questions, settings.batch, generator)
        answered = {0: answer(roles, held_out, settings, template)}
        for step in range(1, settings.steps + 1):
            started = time.perf_counter()
            rollout = collect(roles, next(batches), settings, template, generator)
            scored, rolled_out = rollout.scored, time.perf_counter()
            rewards = shaped_rewards(scored.logprobs, scored.ref_logprobs, rollout.paid, rollout.mask, settings.kl_coef)
            metrics = rollout_metrics(rollout, rewards, settings.kl_coef)
            spent = 0 < settings.kl_budget < (metrics["kl/exact"] or 0)
            if not spent:
                metrics |= update(step, rollout, rewards)
            if spent or is_due(step, settings):
                answered[step] = answer(roles, held_out, settings, template)
                metrics["validation/score"] = float(answered[step].scores.mean())
            run_dir.record(step, metrics)
            run_dir.time(step, {"time/rollout": rolled_out - started, "time/step": time.perf_counter() - started})
            run_dir.samples(step, sample_rows(roles, rollout, 4))
            progress.update(step, {name: metrics[name] for name in SHOWN})
            if spent:
                break
        run_dir.save_checkpoint(partial(save, roles, update, template, settings))
        before, after = answered[0], answered[max(answered)]
        run_dir.write_json("report.json", report(before, after, settings.seed))
    print_completions(side_by_side(held_out, before, after)[:6], "held-out prompts, before and after PPO")
    run_dir.finished(next_command(settings))
    return run_dir.path


def check(settings: PPOSettings) -> Template:
    """What can be told before anything is loaded; returns the template that the SFT model was trained with."""
    if settings.minibatch > settings.batch:
        raise ConfigError("minibatch", f"{settings.minibatch} is more than batch {settings.batch}", "make it smaller")
    if bool(settings.reward_model) == bool(settings.external_reward.model):
        raise ConfigError(
            "reward_model", "one reward model is needed", "set either reward_model or external_reward.model"
        )
    if settings.ptx.coef and not settings.ptx.text:
        raise ConfigError("ptx.text", "is empty, but ptx.coef is above 0", "name text files, or set ptx.coef to 0")
    if not settings.prompts.path:
        raise ConfigError("prompts", "no prompts are given", "set prompts.path to a file, directory or hub data set")
    model = open_checkpoint(settings.model, "policy")
    if settings.reward_model:
        reward = open_checkpoint(settings.reward_model, "reward")
        if None not in (model.template, reward.template) and model.template != reward.template:
            raise CheckpointError(
                settings.reward_model,
                f"was trained with template {reward.template}, but {settings.model} with {model.template}",
                "train the reward model from this SFT model",
            )
    return Template.named(model.template or "dialogue", load_tokenizer(model.path))


def read_questions(settings: PPOSettings, template: Template) -> tuple[list[Question], list[Question]]:
    """Cleaned prompts to train on and held-out ones that share no group with them, tokenised."""
    tokenizer = load_tokenizer(open_checkpoint(settings.model).path)

    def cleaned(source: DataSettings) -> list[Prompt]:
        records, report = clean(read_prompts(source, settings.seed), settings.hygiene, template, tokenizer)
        log.info("%s: %s", source.path, report)
        return records

    def encoded(records: list[Prompt]) -> list[Question]:
        rows = encode_prompts([record.prompt for record in records], template, tokenizer)
        return [Question(record, tokens) for record, tokens in zip(records, rows, strict=True)]

    records = cleaned(settings.prompts)
    if settings.validation_prompts.path:
        held_out = cleaned(settings.validation_prompts)
    else:
        records, held_out = split_by_group(records, settings.validation_share, settings.seed)
    return encoded(records), encoded(held_out[: settings.validation_limit])


def read_ptx(settings: PPOSettings) -> Tensor | None:
    """Pretraining text for PPO-ptx, `[rows, sequence]`."""
    if not settings.ptx.coef:
        return None
    tokenizer = load_tokenizer(open_checkpoint(settings.model).path)
    documents = encode_texts(read_texts(settings.ptx.text), tokenizer)
    return text_rows(documents, settings.ptx.sequence, tokenizer.eos_token_id)


def load(settings: PPOSettings, device: torch.device, template: Template, questions: list[Question]) -> Roles:
    """The four models. All are float32 where every weight is trained, so that policy = reference at first, exactly."""
    dtype = "float32" if settings.lora.rank == 0 else settings.dtype
    shelf = Shelf(partial(pick_dtype, dtype, device), device)
    external = settings.external_reward
    if not external.model:
        return load_roles(shelf, settings.model, shelf.reward_model(settings.reward_model, "reward"), settings.lora)
    reward = ExternalReward.load(external.model, external.form, external.batch, device)
    roles = load_roles(shelf, settings.model, reward, settings.lora)
    return normalise(roles, questions[: external.normalise_prompts], settings, template)


def prompt_batches(questions: list[Question], size: int, generator: torch.Generator) -> Iterator[list[Question]]:
    """Batches without end; every prompt is asked once before one is asked again."""
    waiting: list[int] = []
    while True:
        while len(waiting) < size:
            waiting += torch.randperm(len(questions), generator=generator).tolist()
        yield [questions[i] for i in waiting[:size]]
        waiting = waiting[size:]


def is_due(step: int, settings: PPOSettings) -> bool:
    """Whether held-out prompts are answered after this step: `evaluations` times in all, before the first included."""
    every = settings.steps / max(1, settings.evaluations - 1)
    return step == settings.steps or math.floor(step / every) > math.floor((step - 1) / every)


def save(roles: Roles, update: Update, template: Template, settings: PPOSettings, path: Path) -> None:
    """The policy as the checkpoint itself, the value model in `value/`, the averaged policy in `ema/`."""
    trunk = roles.policy.trunk
    about = {
        "stage": "ppo",
        "template": {"name": template.name, "hash": template.hash},
        "base": trunk.name,
        "base_hash": trunk.hash,
    }
    save_policy(roles.policy, path)
    write_metadata(path, {**about, "kind": "policy"})
    save_scalar(roles.value, path / "value")
    value = {"gain": roles.value.gain, "bias": roles.value.bias}
    base = {"base": roles.value.trunk.name, "base_hash": roles.value.trunk.hash}
    write_metadata(path / "value", {**about, **base, "kind": "value", "reward": value})
    if update.average:
        with update.average.applied():
            save_policy(roles.policy, path / "ema")
        write_metadata(path / "ema", {**about, "kind": "policy"})


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
