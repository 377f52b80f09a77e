"""Two or more checkpoints on the same held-out prompts → report.json and samples.jsonl."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import torch

from heed.data.batch import text_rows
from heed.data.encode import encode_demonstrations, encode_texts
from heed.data.prompts import PromptSet, prompt_set, take_shots
from heed.data.sources import read_prompts, read_rankings, read_texts
from heed.data.template import Template
from heed.errors import CheckpointError, ConfigError
from heed.evaluation.endpoint import Endpoint, Judgements, key_of
from heed.evaluation.exam import Exam
from heed.evaluation.harness import benchmarks, require_harness
from heed.evaluation.judge import Judge
from heed.evaluation.people import Outcomes, Rankings
from heed.evaluation.printed import print_compared
from heed.evaluation.rouge import require_rouge
from heed.evaluation.side_by_side import Answered, AnswerSheet, compared, sample_rows, summary
from heed.imitation import response_loss
from heed.models.checkpoint import Checkpoint, open_checkpoint
from heed.models.load import load_tokenizer
from heed.models.policy import Policy
from heed.models.roles import Shelf, weight_count
from heed.pocket.gold import scores as gold_scores
from heed.records import Demonstration
from heed.settings.evaluate import EvaluateSettings
from heed.training.begin import announce
from heed.training.device import pick_device, pick_dtype
from heed.training.loop import Loop
from heed.training.randomness import Randomness, seed_everything
from heed.training.run_dir import RunDir

TEXT_SEQUENCE = 256  # tokens in a row of running text, or the context if that is shorter


def run(settings: EvaluateSettings) -> Path:
    """Let every model answer the same prompts with the same random numbers; score, measure and compare."""
    checkpoints = check(settings)
    records = read_prompts(settings.prompts, settings.seed)
    shots, records = take_shots(records, settings.few_shot)
    shown = few_shot_names(settings, checkpoints)
    rankings = Rankings(read_rankings(settings.people, settings.seed)) if settings.people.path else None
    documents = read_texts(settings.text, settings.text_characters) if settings.text else []
    device = pick_device(settings.device, max(map(weight_count, checkpoints.values())))
    generator = seed_everything(settings.seed, device)
    with RunDir.create(settings) as run_dir:
        shelf = Shelf(partial(pick_dtype, settings.dtype, device), device)
        policies = {name: shelf.policy(found, f"policy{i}") for i, (name, found) in enumerate(checkpoints.items())}
        paths = enumerate(settings.reward_models.items())
        judges = {name: Judge.load(shelf, path, f"judge{i}") for i, (name, path) in paths}
        reference = policies[settings.reference or next(iter(policies))]
        tokenizer, context = reference.trunk.tokenizer, min(policy.trunk.context for policy in policies.values())
        template = Template.named(common_template(checkpoints), tokenizer)
        longest = settings.sampling.max_new_tokens
        prompts = prompt_set(records, settings.hygiene, template, tokenizer, context, longest)
        rows = text_rows(encode_texts(documents, tokenizer), min(TEXT_SEQUENCE, context), tokenizer.eos_token_id)
        judge_of_words = gold_scores if settings.gold else None
        exam = Exam(prompts, reference, judges, template, settings.sampling, settings.seed, rows, judge_of_words)
        after_shots = exam.after_shots(shots, context) if shots else []
        sheet, names = AnswerSheet(), [*policies, *shown, *best_name(settings)]
        parts = {"answers": sheet, "random": Randomness(generator)}
        announce(run_dir, reference.trunk.model.parameters(), threads=reference.trunk.threads.count)
        with Loop(run_dir, "evaluate", len(names), parts, settings.save_every) as loop:
            for step in loop:
                name = names[step - 1]
                if name in policies:
                    answers = replace(exam.alone(name, policies[name]), **known(policies[name], exam, settings))
                elif name in shown:
                    answers = exam.few_shot(name, policies[shown[name]], settings.few_shot, after_shots)
                else:
                    answers = exam.best_of(name, policies[names[0]], settings.best_of, settings.missing_eos)
                sheet.answered[name] = answers
                loop.record(summary(answers), tokens=sum(answers.lengths))
        told = preferences(prompts, sheet.answered, settings, rankings, run_dir)
        found = report(prompts, sheet.answered, settings, template, told)
        run_dir.samples(0, sample_rows(prompts.records, sheet.answered))
        run_dir.write_json("report.json", found)
        print_compared(found, prompts.records, sheet.answered)
        run_dir.finished("heed", "chat", *list(settings.models.values())[:2])
    return run_dir.path


def check(settings: EvaluateSettings) -> dict[str, Checkpoint]:
    """The checkpoints by name, and everything that can be told before their weights are loaded."""
    if not settings.prompts.path:
        raise ConfigError("prompts", "no prompts are named", "give held-out prompts: --prompts FILE")
    if settings.reference and settings.reference not in settings.models:
        raise ConfigError(
            "reference", f"{settings.reference!r} is not in `models`", f"one of {', '.join(settings.models)}"
        )
    checkpoints = {name: open_checkpoint(path, "policy") for name, path in settings.models.items()}
    for path in settings.reward_models.values():
        open_checkpoint(path, "reward")
    if settings.best_of and not settings.reward_models:
        raise ConfigError("best_of", "nothing chooses the best", "give a reward model: --reward-models.NAME RUN")
    shown = few_shot_names(settings, checkpoints)
    if settings.few_shot and not shown:
        told = "every model is fine-tuned, so there is none to show demonstrations to"
        raise ConfigError("few_shot", told, "add the base: --models.base MODEL, or set `few_shot` to 0")
    for setting, taken in (("best_of", best_name(settings)), ("few_shot", shown)):
        if same := settings.models.keys() & set(taken):
            raise ConfigError("models", f"{min(same)} is what `{setting}` is called", "call the model otherwise")
    names = judge_names(settings)
    if twice := {name for name in names if names.count(name) > 1}:
        raise ConfigError("reward_models", f"{min(twice)} is another judge's name", "call the reward model otherwise")
    if bool(settings.endpoint.url) != bool(settings.endpoint.model):
        raise ConfigError("endpoint", "needs both url and model", "give both, or neither")
    if "rouge" in settings.overlap:
        require_rouge()
    if settings.harness.tasks:
        require_harness()
    common_template(checkpoints)
    first, *others = checkpoints.values()
    vocabulary = load_tokenizer(first.path).get_vocab()
    for other in others:
        if load_tokenizer(other.path).get_vocab() != vocabulary:
            told = f"has another vocabulary than {first.name}, so neither prompts nor KL are the same"
            raise CheckpointError(other.name, told, "compare models of one tokenizer")
    return checkpoints


def common_template(checkpoints: dict[str, Checkpoint]) -> str:
    """The template that all models were trained with; one that names none is asked with that of the others."""
    trained = [checkpoint for checkpoint in checkpoints.values() if checkpoint.template]
    for other in trained[1:]:
        if other.metadata["template"] != trained[0].metadata["template"]:
            told = f"was trained with template {other.template}, but {trained[0].name} with {trained[0].template}"
            same = " of other content" if other.template == trained[0].template else ""
            raise CheckpointError(other.name, told + same, "evaluate models of one template together")
    return str(trained[0].template) if trained else "dialogue"


def best_name(settings: EvaluateSettings) -> list[str]:
    """What best-of-n is called among the models, where it is one of them."""
    return [f"best-of-{settings.best_of}"] if settings.best_of else []


def few_shot_names(settings: EvaluateSettings, checkpoints: dict[str, Checkpoint]) -> dict[str, str]:
    """What each model that was not fine-tuned is called where it is shown demonstrations first → its own name."""
    bare = [name for name, found in checkpoints.items() if not found.template] if settings.few_shot else []
    return {f"{name}-{settings.few_shot}-shot": name for name in bare}


def judge_names(settings: EvaluateSettings) -> list[str]:
    """All judges, the one that decides first: reward models, then whoever else was asked."""
    others = {"gold": settings.gold, "people": settings.people.path, "endpoint": settings.endpoint.url}
    return [*settings.reward_models, *(name for name, asked in others.items() if asked)]


def preferences(
    prompts: PromptSet,
    answered: dict[str, Answered],
    settings: EvaluateSettings,
    rankings: Rankings | None,
    run_dir: RunDir,
) -> dict[str, dict[str, Outcomes]]:
    """What people, and the model behind the endpoint, prefer: each model against the first."""
    asked = [record.prompt for record in prompts.records]
    baseline, *others = answered.values()
    names = list(answered)[1:]
    found: dict[str, dict[str, Outcomes]] = {}
    if rankings is not None:
        found["people"] = {
            name: rankings.outcomes(asked, model.texts, baseline.texts)
            for name, model in zip(names, others, strict=True)
        }
    if settings.endpoint.url:
        one, most = settings.endpoint, settings.endpoint.prompts
        judge = Judgements(Endpoint(one.url, one.model, key_of(one.key), timeout=one.timeout), run_dir.path)
        with httpx2.Client() as client:
            found["endpoint"] = {
                name: judge.outcomes(asked[:most], model.texts[:most], baseline.texts[:most], client)
                for name, model in zip(names, others, strict=True)
            }
    return found


def report(
    prompts: PromptSet,
    answered: dict[str, Answered],
    settings: EvaluateSettings,
    template: Template,
    told: dict[str, dict[str, Outcomes]],
) -> dict[str, Any]:
    """`report.json`: what was asked, every model's figures, and each model against the first, the baseline."""
    return {
        "prompts": len(prompts.records),
        "dropped": prompts.dropped,
        "template": {"name": template.name, "hash": template.hash},
        "temperature": settings.sampling.temperature,
        "max_new_tokens": settings.sampling.max_new_tokens,
        "reference": settings.reference or next(iter(answered)),
        "judge": next(iter(judge_names(settings)), None),
        "judged": {judge: {name: judged(some) for name, some in models.items()} for judge, models in told.items()},
        "checkpoints": dict(settings.models),
        "reward_models": dict(settings.reward_models),
        **compared(prompts.records, answered, settings.seed, settings.overlap, told),
    }


def judged(outcomes: Outcomes) -> dict[str, int]:
    """How many pairs a judge was shown, and of how many its judgement could be read."""
    return {"asked": len(outcomes), "read": sum(outcome is not None for outcome in outcomes)}


def known(policy: Policy, exam: Exam, settings: EvaluateSettings) -> dict[str, Any]:
    """What a model knows without being asked: nats and tokens of the reference answers that fit the context, as SFT's
    validation loss has them, and public benchmarks."""
    size, asked = settings.sampling.batch, settings.harness
    found: dict[str, Any] = {}
    references = [Demonstration(one.prompt, one.reference) for one in exam.prompts.records if one.reference]
    encoded = encode_demonstrations(references, exam.template, policy.trunk.tokenizer)
    if fitting := [one for one in encoded if len(one.tokens) <= exam.reference.trunk.context]:
        loss = response_loss.measure(policy, fitting, size * max(len(one.tokens) for one in fitting))
        found |= {"reference_nats": torch.from_numpy(loss.nats), "reference_tokens": torch.from_numpy(loss.tokens)}
    if asked.tasks:
        told = benchmarks(policy, asked.tasks, asked.limit, size, asked.include, settings.seed)
        found["benchmarks"] = {name: figure.as_dict() for name, figure in told.items()}
    return found
