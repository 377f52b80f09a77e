"""Step 2: rankings → a reward model. InstructGPT (arXiv 2203.02155), section 3.5 and appendix C.2."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from heed import config
from heed.data.batch import ranking_batch
from heed.data.encode import EncodedRanking, encode_demonstrations, encode_prompts
from heed.data.hygiene import halves, split_by_group
from heed.data.rankings import RankingSet, labeling_tasks, ranking_set
from heed.data.sources import read_demonstrations, read_rankings
from heed.data.template import Template
from heed.errors import ConfigError, DataError
from heed.formulas.preference import centring_terms, mean_per_prompt, ranking_accuracy, ranking_terms
from heed.formulas.scored_rankings import ScoredRankings, accuracy_and_nll, headline, pairs_of, reward_report
from heed.models.card import Card, made_with, write_card
from heed.models.checkpoint import open_checkpoint, write_metadata
from heed.models.policy import Policy
from heed.models.roles import Shelf
from heed.models.scalar_head import RewardModel, save_scalar
from heed.models.scores import score_rankings
from heed.preference.normalise import normalise
from heed.preference.start import check_start, earlier, untrained
from heed.records import Demonstration, Ranking
from heed.rows.microbatches import microbatches
from heed.rows.threads import SERIAL, RowThreads
from heed.settings.reward import RewardSettings
from heed.training.device import pick_device, pick_dtype, seed_everything
from heed.training.figures import print_figures
from heed.training.metrics import Progress
from heed.training.optimizer import (
    MuonWithAdamW,
    learning_rate_factor,
    make_optimizer,
    require_finite,
    set_learning_rate,
)
from heed.training.optimizer import step as optimizer_step
from heed.training.order import evenly_spaced, shuffled_batches
from heed.training.run_dir import RunDir

FEW_COMPARISONS = 2000  # below, reward models of any size stay near chance (arXiv 2210.10760)
WHILE_TRAINING = 500  # held-out rankings scored before the last step; after it all of them are
EMA = 0.9  # decay of the training accuracy that is shown; that of a single step moves by ±12 points
SHOWN = ("loss/ranking", "accuracy/train", "validation/accuracy", "validation/nll")

log = logging.getLogger("heed")


def run(settings: RewardSettings) -> Path:
    """Train a reward model from the SFT model, measure it on held-out rankings, and normalise its scores."""
    check(settings)
    checkpoint = open_checkpoint(settings.model, "policy")
    check_start(settings, checkpoint)
    rankings, held_out = read_splits(settings)
    demonstrations = read_demonstrations(settings.demonstrations, settings.seed) if settings.demonstrations.path else []
    device = pick_device(settings.device)
    generator = seed_everything(settings.seed, device)
    with RunDir.create(settings) as run_dir:
        shelf = Shelf(partial(pick_dtype, settings.dtype, device), device)
        reference = shelf.policy(settings.model, "sft")
        tokenizer, room = reference.trunk.tokenizer, min(settings.max_tokens, reference.trunk.context)
        template = Template.named(checkpoint.template or "dialogue", tokenizer)
        training = ranking_set(rankings, template, tokenizer, room, "training")
        validation = ranking_set(held_out, template, tokenizer, room, "held-out")
        prompts = reference_prompts(rankings, template, reference, room, settings)
        texts = whole_texts(demonstrations, template, reference, room)
        model = earlier(shelf, settings) if settings.start_from else untrained(reference, settings)
        report = reward_report(train(model, training, validation, settings, run_dir), settings.seed)
        options = (settings.sampling, settings.microbatch_tokens, generator)
        model, note = normalise(model, reference, prompts, texts, *options)
        note["seed"] = settings.seed
        run_dir.save_checkpoint(partial(save, model, note, template, card(report, model, settings, run_dir.path)))
        lost = {"training": training.lost, "held_out": validation.lost}
        run_dir.write_json("report.json", {**report, "dropped": lost, "normalisation": note})
        print_figures(headline(report), f"reward model on {len(validation.rankings):,} held-out rankings")
        judged_by = f"--model {settings.model} --reward-model {settings.output}"
        run_dir.finished(f"heed ppo {judged_by} --prompts FILE --output runs/ppo")
    return run_dir.path


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────────────────


def check(settings: RewardSettings) -> None:
    """What settings alone can tell, before a file is opened."""
    if not settings.data.path:
        raise ConfigError("data", "no rankings are named", "give a file of rankings or comparisons: --data FILE")
    if settings.sampling.max_new_tokens >= settings.max_tokens:
        told = f"{settings.sampling.max_new_tokens} leaves no room for a prompt in {settings.max_tokens} tokens"
        raise ConfigError("sampling.max_new_tokens", told, "lower it, or raise `max_tokens`")


def read_splits(settings: RewardSettings) -> tuple[list[Ranking], list[Ranking]]:
    """Training and held-out rankings that share no group; of the training ones a half, if one is asked for."""
    rankings = read_rankings(settings.data, settings.seed)
    if settings.validation.path:
        held_out = read_rankings(settings.validation, settings.seed)
        groups = {ranking.group for ranking in held_out}
        training = [ranking for ranking in rankings if ranking.group not in groups]
        if len(training) < len(rankings):
            log.warning("left out %d training rankings whose prompt is held out", len(rankings) - len(training))
    else:
        training, held_out = split_by_group(rankings, settings.validation_share, settings.seed)
    if settings.half != "all":
        training = halves(training)[0 if settings.half == "first" else 1]
    return training, held_out


def whole_texts(
    demonstrations: Sequence[Demonstration], template: Template, reference: Policy, room: int
) -> list[list[int]]:
    """Demonstrations that fit, as the reward model reads them."""
    encoded = encode_demonstrations(demonstrations, template, reference.trunk.tokenizer)
    texts = [demonstration.tokens for demonstration in encoded if len(demonstration.tokens) <= room]
    if demonstrations and not texts:
        raise DataError("demonstrations", f"none is as short as {room} tokens", "raise `max_tokens`")
    return texts


def reference_prompts(
    rankings: Sequence[Ranking], template: Template, reference: Policy, room: int, settings: RewardSettings
) -> list[list[int]]:
    """`normalise_prompts` prompts of the training rankings that leave room for a response; where there are fewer,
    they are asked again."""
    distinct = list(dict.fromkeys(ranking.prompt for ranking in rankings))
    encoded = encode_prompts(distinct, template, reference.trunk.tokenizer)
    fitting = [tokens for tokens in encoded if len(tokens) + settings.sampling.max_new_tokens <= room]
    if not fitting:
        told = f"no prompt and a response of {settings.sampling.max_new_tokens} tokens fit into {room}"
        raise ConfigError("sampling.max_new_tokens", told, "lower it, or raise `max_tokens`")
    order = torch.randperm(len(fitting), generator=torch.Generator().manual_seed(settings.seed)).tolist()
    return [fitting[order[i % len(order)]] for i in range(settings.normalise_prompts)]


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def train(
    model: RewardModel, training: RankingSet, validation: RankingSet, settings: RewardSettings, run_dir: RunDir
) -> ScoredRankings:
    """One optimiser step for each batch of labeling tasks; held-out rankings are scored `evaluations` times, after the
    last step all of them, which is what is returned."""
    if training.comparisons < FEW_COMPARISONS:
        log.warning("%d comparisons are few: expect an accuracy near that of a coin", training.comparisons)
    tasks = labeling_tasks(training.rankings)
    if len(tasks) < len(training.rankings):
        log.info("%s sets of responses, some ranked more than once: each is trained on as one", f"{len(tasks):,}")
    batches = shuffled_batches(len(tasks), settings.batch, settings.epochs, settings.seed)
    steps, due = len(batches), evenly_spaced(settings.evaluations, len(batches))
    smooth: float | None = None
    with model.trainable() as parameters, Progress("reward", steps) as progress:
        threads = RowThreads.for_model(model.trunk.model)
        optimizer = optimizer_for(parameters, settings, threads.count)
        for step, rows in enumerate(batches, start=1):
            started = time.perf_counter()
            batch = [tasks[i] for i in rows]
            set_learning_rate(optimizer, learning_rate_factor(step, steps, settings.optimizer))
            metrics = backpropagate(model, batch, settings, threads)
            metrics["grad_norm"] = optimizer_step(optimizer, parameters.values(), settings.optimizer.max_grad_norm)
            seconds = time.perf_counter() - started
            now = metrics["accuracy/train"]
            metrics["accuracy/train"] = smooth = now if smooth is None else EMA * smooth + (1 - EMA) * now
            if step in due:
                count = len(validation.rankings) if step == steps else WHILE_TRAINING
                held_out = validation.rankings[:count], validation.sources[:count]
                scored = score_rankings(model, *held_out, settings.microbatch_tokens)
                metrics |= figures(scored, settings.seed)
            run_dir.record(step, metrics)
            run_dir.time(step, {"time/step": seconds, "perf/tokens_per_second": tokens_of(batch) / seconds})
            progress.update(step, {name: metrics[name] for name in SHOWN if name in metrics})
    return scored


def optimizer_for(
    parameters: dict[str, torch.nn.Parameter], settings: RewardSettings, threads: int = 1
) -> torch.optim.Optimizer | MuonWithAdamW:
    """AdamW, or Muon with it, with a learning rate of its own for the head, which starts from nothing."""
    if settings.method == "muon":
        return MuonWithAdamW(parameters, settings.optimizer, threads, settings.head_learning_rate)
    body = [parameter for name, parameter in parameters.items() if name != "score.weight"]
    groups = {"body": body, "head": [parameters["score.weight"]]}
    return make_optimizer(groups, settings.optimizer, {"head": settings.head_learning_rate})


def backpropagate(
    model: RewardModel,
    tasks: Sequence[Sequence[EncodedRanking]],
    settings: RewardSettings,
    threads: RowThreads = SERIAL,
) -> dict[str, float]:
    """Add up the gradient of one step's loss; returns its parts.

        loss = mean over the step's tasks, over each task's rankings [ ranking term + centring · centring term ]

    Every microbatch's terms are divided by the step's number of tasks, so that their size changes nothing. Every
    ranking has a strict pair, and so a term: `ranking_set` drops the others.
    """
    pad, device = model.trunk.tokenizer.pad_token_id, model.trunk.device

    def loss(rows: list[int]) -> tuple[Tensor, tuple[float, float, float]]:
        batch = ranking_batch([tasks[i] for i in rows], pad)
        ranks, rankings, of_task = batch.ranks.to(device), batch.rankings.to(device), batch.tasks.to(device)
        scores = model.scores_of(batch)[batch.ranked.to(device)]

        def over_tasks(of_ranking: Tensor) -> Tensor:
            return mean_per_prompt(of_ranking, of_task).sum() / len(tasks)

        ranking = over_tasks(ranking_terms(scores, ranks, rankings))
        centring = over_tasks(centring_terms(scores, ranks, rankings))
        correct, better, _ = ranking_accuracy(scores.detach(), ranks, rankings)
        right = float(over_tasks(mean_per_prompt(correct, rankings[better])))
        parts = require_finite(float(ranking.detach()), "the loss"), float(centring.detach()), right
        return ranking + settings.centring * centring, parts

    responses = [len(task[0].texts) for task in tasks]
    longest = [tokens_a_response(task[0]) for task in tasks]
    groups = threads.share(microbatches(longest, settings.microbatch_tokens, device.type, responses))
    with model.active():
        told = threads.backward([partial(loss, rows) for rows in groups], list(model.parameters().values()))
    ranking, centring, right = (sum(column) for column in zip(*told, strict=True))
    return {"loss/ranking": ranking, "loss/centring": centring, "accuracy/train": right}


def tokens_a_response(ranking: EncodedRanking) -> int:
    """The longest response, and the share of a prompt that is read once for all of them."""
    longest = max(len(text) for text in ranking.texts)
    return longest - ranking.response_start + math.ceil(ranking.response_start / len(ranking.texts))


def figures(scored: ScoredRankings, seed: int) -> dict[str, float]:
    """Held-out accuracy and loss with their intervals, for `metrics.jsonl`."""
    row: dict[str, float] = {}
    for name, found in accuracy_and_nll(pairs_of(scored), seed).items():
        row |= {f"validation/{name}": found["estimate"]}
        row |= {f"validation/{name}_{key}": found[key] for key in ("low", "high", "n")}
    return row


def tokens_of(tasks: Sequence[Sequence[EncodedRanking]]) -> int:
    """Tokens that are scored, padding not counted."""
    return sum(len(text) for task in tasks for text in task[0].texts)


def card(report: dict[str, Any], model: RewardModel, settings: RewardSettings, run: Path) -> Card:
    """The model card, without figures that nothing was there to measure by."""
    sentence = (
        "A reward model: one number for a prompt with its response and the end-of-text token, trained on people's "
        "rankings (step 2 of InstructGPT). Stock libraries give the raw score; its normalisation, gain · raw + bias, "
        "is in `heed.json` and `config.json`."
    )
    return Card(
        Path(settings.output).name,
        sentence,
        model.trunk.name,
        model.adapter is not None,
        {name: figure for name, figure in headline(report).items() if figure["estimate"] is not None},
        config.dump(settings),
        made_with(run),
        "AutoModelForSequenceClassification",
        "text-classification",
    )


def save(model: RewardModel, note: dict[str, Any], template: Template, card: Card, path: Path) -> None:
    """The reward model in stock layout, with what stock libraries do not record in `heed.json`, and its card."""
    save_scalar(model, path)
    write_card(path, card)
    about = {
        "kind": "reward",
        "stage": "reward",
        "template": {"name": template.name, "hash": template.hash},
        "base": model.trunk.name,
        "base_hash": model.trunk.hash,
        "reward": note,
    }
    write_metadata(path, about)
