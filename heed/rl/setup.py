"""What PPO begins with: settings that go together, questions, four models. The doctor's pre-flight begins so too."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from heed.data.batch import text_rows
from heed.data.encode import encode_texts
from heed.data.hygiene import split_by_group
from heed.data.prompts import prompt_set
from heed.data.sources import read_prompts, read_texts
from heed.data.template import Template
from heed.errors import CheckpointError, ConfigError
from heed.models.checkpoint import open_checkpoint
from heed.models.external_reward import ExternalReward
from heed.models.load import context_length, load_config, load_tokenizer
from heed.models.roles import Roles, Shelf, load_roles
from heed.records import Prompt
from heed.rl.rollout import Question, normalise
from heed.settings.ppo import PPOSettings
from heed.training.device import pick_dtype


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
    if settings.kl_target and not settings.kl_coef:
        raise ConfigError("kl_target", "moves a kl_coef that is 0 nowhere", "set kl_coef to where it should begin")
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
    checkpoint = open_checkpoint(settings.model)
    tokenizer = load_tokenizer(checkpoint.path)
    context = context_length(load_config(checkpoint.base or checkpoint.path))

    def questions(records: list[Prompt]) -> list[Question]:
        kept = prompt_set(records, settings.hygiene, template, tokenizer, context, settings.sampling.max_new_tokens)
        return [Question(record, tokens) for record, tokens in zip(kept.records, kept.tokens, strict=True)]

    records = read_prompts(settings.prompts, settings.seed)
    if settings.validation_prompts.path:
        held_out = read_prompts(settings.validation_prompts, settings.seed)
        groups = {record.group for record in held_out}
        records = [record for record in records if record.group not in groups]
    else:
        records, held_out = split_by_group(records, settings.validation_share, settings.seed)
    return questions(records), questions(held_out)[: settings.validation_limit]


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
