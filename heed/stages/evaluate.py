"""Two or more checkpoints on the same held-out prompts → report.json and samples.jsonl."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import torch
from torch import Tensor

from heed.data.batch import text_rows
from heed.data.encode import encode_demonstrations, encode_prompts, encode_responses, encode_texts
from heed.data.prompts import PromptSet, prompt_set, take_shots, until_next_turn
from heed.data.sources import read_prompts, read_rankings, read_texts
from heed.data.template import Template
from heed.errors import CheckpointError, ConfigError
from heed.evaluation.best import best
from heed.evaluation.endpoint import Endpoint, Judgements, key_of
from heed.evaluation.harness import benchmarks, require_harness
from heed.evaluation.judge import Judge
from heed.evaluation.people import Outcomes, Rankings
from heed.evaluation.rouge import require_rouge
from heed.evaluation.side_by_side import Answered, AnswerSheet, compared, sample_rows, summary, tables
from heed.formulas.kl import best_of_n_kl
from heed.imitation import response_loss
from heed.models.answers import Answers, answer, divergence
from heed.models.checkpoint import Checkpoint, open_checkpoint
from heed.models.load import load_tokenizer
from heed.models.policy import Policy
from heed.models.roles import Shelf, weight_count
from heed.models.text_loss import text_loss
from heed.pocket.gold import judge as gold
from heed.records import Demonstration, Dialogue
from heed.settings.evaluate import EvaluateSettings
from heed.training.begin import announce
from heed.training.device import pick_device, pick_dtype
from heed.training.loop import Loop
from heed.training.metrics import Progress, print_completions
from heed.training.randomness import Randomness, seed_everything
from heed.training.run_dir import RunDir

TEXT_SEQUENCE = 256  # tokens in a row of running text, or the context if that is shorter


def run(settings: EvaluateSettings) -> Path:
    """Let every model answer the same prompts with the same random numbers; score, measure and compare."""
    checkpoints = check(settings)
    records = read_prompts(settings.prompts, settings.seed)
    shots, records = take_shots(records, settings.few_shot)
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
        text = text_rows(encode_texts(documents, tokenizer), min(TEXT_SEQUENCE, context), tokenizer.eos_token_id)
        sheet, names = AnswerSheet(), [*policies, *best_name(settings)]
        parts = {"answers": sheet, "random": Randomness(generator)}
        announce(run_dir, reference.trunk.model.parameters(), threads=reference.trunk.threads.count)
        with Loop(run_dir, "evaluate", len(names), parts, settings.save_every) as loop:
            for step in loop:
                name = names[step - 1]
                model = Measured(name, policies.get(name, policies[names[0]]), reference, judges, template, settings)
                if name not in policies:
                    answers = model.best_of(settings.best_of, prompts)
                elif shots and not checkpoints[name].metadata:
                    answers = model.after(shots, prompts, text)
                else:
                    answers = model.alone(prompts, text)
                sheet.answered[name] = answers
                loop.record(summary(answers), tokens=sum(answers.lengths))
        told = preferences(prompts, sheet.answered, settings, rankings, run_dir)
        found = report(prompts, sheet.answered, settings, template, told)
        run_dir.samples(0, sample_rows(prompts.records, sheet.answered))
        run_dir.write_json("report.json", found)
        for title, rows in tables(found, prompts.records, sheet.answered).items():
            print_completions(rows, title)
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
    if taken := set(best_name(settings)) & settings.models.keys():
        raise ConfigError("models", f"{min(taken)} is what `best_of` is called", "call the model otherwise")
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


class Measured:
    """A model among those it is measured by. Every model draws with the same seed, so equal models answer alike."""

    def __init__(
        self,
        name: str,
        policy: Policy,
        reference: Policy,
        judges: dict[str, Judge],
        template: Template,
        settings: EvaluateSettings,
    ) -> None:
        self.name, self.policy, self.reference = name, policy, reference
        self.judges, self.template, self.settings = judges, template, settings
        self.size = settings.sampling.batch

    def alone(self, prompts: PromptSet, text: Tensor) -> Answered:
        """Answers to the prompts as they are, with scores and KL from the very tokens that were drawn."""
        answers = self._answer(prompts.tokens)
        scores = self._scores([record.prompt for record in prompts.records], answers)
        kl = divergence(self.policy, self.reference, answers, self.settings.sampling.temperature, self.size)
        return Answered(
            answers.texts, answers.finished, answers.lengths, scores, kl, self._text_loss(text),
            **self._reference_loss(prompts), benchmarks=self._benchmarks(),
        )  # fmt: skip

    def after(self, shots: Dialogue, prompts: PromptSet, text: Tensor) -> Answered:
        """Answers given after demonstrations, which the judges do not see. They end where the model goes on to write
        the next turn. The reference reads other prompts, so there is no KL."""
        asked = [record.prompt for record in prompts.records]
        tokenizer, longest = self.policy.trunk.tokenizer, self.settings.sampling.max_new_tokens
        tokens = encode_prompts([(*shots, *prompt) for prompt in asked], self.template, tokenizer)
        needed = max(map(len, tokens)) + longest
        if needed > self.policy.trunk.context:
            told = f"demonstrations, prompt and response need {needed} of {self.policy.trunk.context} positions"
            raise ConfigError("few_shot", told, "lower `few_shot`, `hygiene.max_prompt_tokens` or `max_new_tokens`")
        answers = self._answer(tokens)
        cut = [until_next_turn(text) for text in answers.texts]
        texts = [words for words, _ in cut]
        finished = [went_on or ended for (_, went_on), ended in zip(cut, answers.finished, strict=True)]
        lengths = [len(row) for row in encode_responses(texts, self.template, tokenizer, finished)]
        scores = {name: judge.scores_of_texts(asked, texts, finished, self.size) for name, judge in self.judges.items()}
        return Answered(
            texts, finished, lengths, scores | self._gold(asked, texts, finished), None, self._text_loss(text),
            few_shot=self.settings.few_shot, **self._reference_loss(prompts), benchmarks=self._benchmarks(),
        )  # fmt: skip

    def best_of(self, n: int, prompts: PromptSet) -> Answered:
        """The best of n answers by the first judge, and what all judges say of it. Only its KL's bound is known, and
        what it knows of texts is what the model itself does."""
        every, asked = self._answer(prompts.tokens, n), [record.prompt for record in prompts.records]
        chooses, *_ = self.judges.values()
        answers = best(every, chooses.scores(asked, every, self.policy, self.template, self.size))
        bound = best_of_n_kl(n) if self.policy is self.reference else None
        return Answered(
            answers.texts, answers.finished, answers.lengths, self._scores(asked, answers), None, None, kl_bound=bound
        )

    def _answer(self, tokens: list[list[int]], copies: int = 1) -> Answers:
        generator = torch.Generator(self.policy.trunk.device).manual_seed(self.settings.seed)
        with Progress(self.name, len(tokens)) as progress:
            return answer(
                self.policy, tokens, self.settings.sampling, generator, copies,
                answered=lambda prompts: progress.update(prompts, {}),
            )  # fmt: skip

    def _scores(self, asked: list[Dialogue], answers: Answers) -> dict[str, Tensor]:
        scores = {
            name: judge.scores(asked, answers, self.policy, self.template, self.size)
            for name, judge in self.judges.items()
        }
        return scores | self._gold(asked, answers.texts, answers.finished)

    def _gold(self, asked: list[Dialogue], texts: list[str], finished: list[bool]) -> dict[str, Tensor]:
        if not self.settings.gold:
            return {}
        return {"gold": torch.tensor([gold(*one).score for one in zip(asked, texts, finished, strict=True)])}

    def _reference_loss(self, prompts: PromptSet) -> dict[str, Tensor]:
        """Nats and tokens of the reference answers that fit the context, as SFT's validation loss has them."""
        known = [Demonstration(record.prompt, record.reference) for record in prompts.records if record.reference]
        encoded = encode_demonstrations(known, self.template, self.policy.trunk.tokenizer)
        fitting = [one for one in encoded if len(one.tokens) <= self.reference.trunk.context]
        if not fitting:
            return {}
        loss = response_loss.measure(self.policy, fitting, self.size * max(len(one.tokens) for one in fitting))
        return {"reference_nats": torch.from_numpy(loss.nats), "reference_tokens": torch.from_numpy(loss.tokens)}

    def _benchmarks(self) -> dict[str, dict[str, float | int | None]]:
        asked = self.settings.harness
        if not asked.tasks:
            return {}
        found = benchmarks(self.policy, asked.tasks, asked.limit, self.size, asked.include, self.settings.seed)
        return {name: figure.as_dict() for name, figure in found.items()}

    def _text_loss(self, text: Tensor) -> Tensor | None:
        return text_loss(self.policy, text, self.size) if len(text) else None
