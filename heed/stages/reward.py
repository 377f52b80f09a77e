"""Step 2: rankings → a reward model. InstructGPT (arXiv 2203.02155), section 3.5 and appendix C.2."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import torch

from heed.data.encode import EncodedRanking
from heed.data.hygiene import halves, split_by_group, writable
from heed.data.order import shuffled_batches
from heed.data.provenance import provenance
from heed.data.rankings import RankingSet, labeling_tasks, ranking_set
from heed.data.sources import read_demonstrations, read_rankings
from heed.data.tally import Tally
from heed.data.template import Template
from heed.errors import ConfigError
from heed.formulas.scored_rankings import ScoredRankings, accuracy_and_nll, headline, pairs_of, reward_report
from heed.models.adapter import settled
from heed.models.answers import Drawing
from heed.models.artefact import Artefact, TemplateUsed, check_saveable
from heed.models.card import made_with
from heed.models.checkpoint import Checkpoint, open_checkpoint, weights_hash
from heed.models.lineage import parent
from heed.models.roles import Shelf, weight_count
from heed.models.scalar_head import RewardModel
from heed.models.scores import score_rankings
from heed.preference.loss import backpropagate, tokens_of
from heed.preference.normalise import draw, normalise, reference_prompts, whole_texts
from heed.preference.start import check_start, earlier, untrained
from heed.records import Ranking
from heed.rows.threads import RowThreads
from heed.settings.reward import RewardSettings
from heed.training.begin import announce
from heed.training.device import pick_device, pick_dtype
from heed.training.dry_run import heaviest_first
from heed.training.figures import print_figures
from heed.training.guards import decoded
from heed.training.loop import Loop
from heed.training.optimizer import (
    MuonWithAdamW,
    learning_rate_factor,
    make_optimizer,
    set_learning_rate,
)
from heed.training.optimizer import step as optimizer_step
from heed.training.randomness import Randomness, seed_everything
from heed.training.run_dir import DROPPED, RunDir
from heed.training.state import Memory, Same, Weights

FEW_COMPARISONS = 2000  # below, reward models of any size stay near chance (arXiv 2210.10760)
WHILE_TRAINING = 500  # held-out rankings that are scored while it trains: always the same ones
EMA = 0.9  # decay of the training accuracy that is shown; that of a single step moves by ±12 points
SHOWN = ("loss/ranking", "accuracy/train", "validation/accuracy", "validation/nll")

log = logging.getLogger("heed")


def run(settings: RewardSettings) -> Path:
    """Train a reward model from the SFT model, measure it on held-out rankings, and normalise its scores."""
    check(settings)
    checkpoint = open_checkpoint(settings.model, "policy")
    start = check_start(settings.start_from, settings.lora, checkpoint) if settings.start_from else None
    settings = settings.model_copy(update={"lora": settled(settings.lora, start or checkpoint)})
    dropped = Tally()
    rankings, held_out = read_splits(settings, dropped)
    demonstrations = read_demonstrations(settings.demonstrations, settings.seed) if settings.demonstrations.path else []
    device = pick_device(settings.device, weight_count(checkpoint))
    generator = seed_everything(settings.seed, device)
    with RunDir.create(settings) as run_dir:
        shelf = Shelf(partial(pick_dtype, settings.dtype, device), device, settings.recompute)
        reference = shelf.policy(checkpoint, "sft")
        tokenizer, room = reference.trunk.tokenizer, min(settings.max_tokens, reference.trunk.context)
        template = Template.named(checkpoint.template or "dialogue", tokenizer)
        rankings = writable(rankings, template, "training", dropped)
        training = ranking_set(rankings, template, tokenizer, room, "training", dropped)
        held_out = writable(held_out, template, "held-out", dropped)
        validation = ranking_set(held_out, template, tokenizer, room, "held-out", dropped)
        asked = settings.normalise_prompts, settings.sampling.max_new_tokens, settings.seed
        prompts = reference_prompts(rankings, template, reference, room, *asked, dropped)
        texts = whole_texts(demonstrations, template, reference, room, dropped)
        dropped.write(run_dir.path / DROPPED)
        model = earlier(shelf, start, settings.lora) if start else untrained(reference, settings.lora, settings.seed)
        if told := check_saveable(model):
            log.info("%s", told)
        data = provenance(settings.data, len(training.rankings), {ranking.labeler for ranking in rankings})
        came = {"data": data, "rankings": [data, *(start.rankings if start else [])]}
        came |= {"start_from": parent(start)} if start else {}
        samples = Drawing(reference, prompts, settings.sampling, generator)
        scored = train(model, training, validation, samples, generator, settings, run_dir)
        report = reward_report(scored, settings.seed)
        model, note = normalise(model, prompts, samples, texts, settings.microbatch_tokens)
        note["seed"] = settings.seed
        artefact = artefact_of(report, note, came, checkpoint, model, template, settings, run_dir)
        run_dir.save_checkpoint(partial(artefact.save, model))
        lost = {"training": training.lost, "held_out": validation.lost}
        run_dir.write_json("report.json", {**report, "dropped": lost, "normalisation": note})
        print_figures(headline(report), f"reward model on {len(validation.rankings):,} held-out rankings")
        judged_by = "--model", settings.model, "--reward-model", settings.output
        run_dir.finished("heed", "ppo", *judged_by, "--prompts", "FILE", "--output", "runs/ppo")
    return run_dir.path


# ── what is read ─────────────────────────────────────────────────────────────────────────────────────────────────────


def check(settings: RewardSettings) -> None:
    """What settings alone can tell, before a file is opened."""
    if not settings.data.path:
        raise ConfigError("data", "no rankings are named", "give a file of rankings or comparisons: --data FILE")
    if settings.sampling.max_new_tokens >= settings.max_tokens:
        told = f"{settings.sampling.max_new_tokens} leaves no room for a prompt in {settings.max_tokens} tokens"
        raise ConfigError("sampling.max_new_tokens", told, "lower it, or raise `max_tokens`")


def read_splits(settings: RewardSettings, dropped: Tally | None = None) -> tuple[list[Ranking], list[Ranking]]:
    """Training and held-out rankings that share no group; of the training ones a half, if one is asked for."""
    rankings = read_rankings(settings.data, settings.seed, dropped)
    if settings.validation.path:
        held_out = read_rankings(settings.validation, settings.seed, dropped)
        groups = {ranking.group for ranking in held_out}
        training = [ranking for ranking in rankings if ranking.group not in groups]
        if len(training) < len(rankings):
            log.warning("left out %d training rankings whose prompt is held out", len(rankings) - len(training))
    else:
        training, held_out = split_by_group(rankings, settings.validation_share, settings.seed)
    if settings.half != "all":
        training = halves(training)[0 if settings.half == "first" else 1]
    return training, held_out


# ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def train(
    model: RewardModel,
    training: RankingSet,
    validation: RankingSet,
    samples: Drawing,
    generator: torch.Generator,
    settings: RewardSettings,
    run_dir: RunDir,
) -> ScoredRankings:
    """One optimiser step for each batch of labeling tasks; a fixed sample of the held-out rankings is scored
    `evaluations` times while it trains, and all of them at the end, which is what is returned. The SFT model's
    samples for the normalisation are drawn first, so that the time left is told of nearly the whole run."""
    if training.comparisons < FEW_COMPARISONS:
        log.warning("%d comparisons are few: expect an accuracy near that of a coin", training.comparisons)
    tasks = labeling_tasks(training.rankings)
    if len(tasks) < len(training.rankings):
        log.info("%s sets of responses, some ranked more than once: each is trained on as one", f"{len(tasks):,}")
    batches = shuffled_batches(len(tasks), settings.batch, settings.epochs, settings.seed)
    if settings.dry_run:
        batches = heaviest_first(batches, lambda batch: [len(text) for i in batch for text in tasks[i][0].texts])
    threads, smooth = RowThreads.for_model(model.trunk.model), Memory(accuracy=None)
    shown = some_of(validation, WHILE_TRAINING, settings.seed)
    if run_dir.saved is None:
        draw(samples)
    with model.trainable() as parameters:
        optimizer = optimizer_for(parameters, settings, threads.count)
        parts = {"model": Weights(parameters), "optimizer": optimizer, "smooth": smooth}
        parts |= {"samples": samples, "random": Randomness(generator)}
        data = provenance(settings.data, len(training.rankings))
        parts["inputs"] = Same(trunk=weights_hash(model.trunk.model), data=data)
        announce(run_dir, model.trunk.model.parameters(), parameters, threads.count)
        with Loop(run_dir, "reward", len(batches), parts, settings.save_every) as loop:
            for step in loop:
                batch = [tasks[i] for i in batches[step - 1]]
                texts = [text for task in batch for text in task[0].texts]
                loop.reads(partial(decoded, model.trunk.tokenizer, texts))
                factor = learning_rate_factor(step, len(batches), settings.optimizer)
                set_learning_rate(optimizer, factor)
                metrics = backpropagate(model, batch, settings.centring, settings.microbatch_tokens, threads)
                metrics["grad_norm"] = optimizer_step(optimizer, parameters.values(), settings.optimizer.max_grad_norm)
                now, before = metrics["accuracy/train"], smooth["accuracy"]
                metrics["accuracy/train"] = now if before is None else EMA * before + (1 - EMA) * now
                smooth["accuracy"] = metrics["accuracy/train"]
                metrics["learning_rate"] = settings.optimizer.learning_rate * factor
                if loop.is_due(settings.evaluations):
                    with loop.clock("evaluation"):
                        scored = score_rankings(model, *shown, settings.microbatch_tokens)
                        metrics |= figures(scored, settings.seed)
                loop.record(metrics, SHOWN, tokens_of(batch))
    return score_rankings(model, validation.rankings, validation.sources, settings.microbatch_tokens)


def some_of(rankings: RankingSet, count: int, seed: int) -> tuple[list[EncodedRanking], list[str]]:
    """At most `count` rankings at random, always the same ones, and their sources."""
    order = torch.randperm(len(rankings.rankings), generator=torch.Generator().manual_seed(seed))
    rows = sorted(order[:count].tolist())
    return [rankings.rankings[i] for i in rows], [rankings.sources[i] for i in rows]


def optimizer_for(
    parameters: dict[str, torch.nn.Parameter], settings: RewardSettings, threads: int = 1
) -> torch.optim.Optimizer | MuonWithAdamW:
    """AdamW, or Muon with it, with a learning rate of its own for the head, which starts from nothing."""
    if settings.method == "muon":
        return MuonWithAdamW(parameters, settings.optimizer, threads, settings.head_learning_rate)
    body = [parameter for name, parameter in parameters.items() if name != "score.weight"]
    groups = {"body": body, "head": [parameters["score.weight"]]}
    return make_optimizer(groups, settings.optimizer, {"head": settings.head_learning_rate})


def figures(scored: ScoredRankings, seed: int) -> dict[str, float]:
    """Held-out accuracy and loss with their intervals, for `metrics.jsonl`."""
    row: dict[str, float] = {}
    for name, found in accuracy_and_nll(pairs_of(scored), seed).items():
        row |= {f"validation/{name}": found["estimate"]}
        row |= {f"validation/{name}_{key}": found[key] for key in ("low", "high", "n")}
    return row


def artefact_of(
    report: dict[str, Any],
    note: dict[str, Any],
    came: dict[str, Any],
    checkpoint: Checkpoint,
    model: RewardModel,
    template: Template,
    settings: RewardSettings,
    run_dir: RunDir,
) -> Artefact:
    """What is said of the model beside its weights."""
    sentence = (
        "A reward model: one number for a prompt with its response and the end-of-text token, trained on people's "
        "rankings (step 2 of InstructGPT). Stock libraries give the raw score; its normalisation, gain · raw + bias, "
        "is in `heed.json` and `config.json`."
    )
    return Artefact(
        stage="reward",
        title=Path(settings.output).name,
        sentence=sentence,
        settings=run_dir.recipe,
        made_with=made_with(run_dir.path),
        template=TemplateUsed(template.name, template.hash, template.chat_template),
        base=model.trunk.name,
        base_hash=model.trunk.hash,
        figures=headline(report),
        notes={"reward": note, **came},
        start=checkpoint,
    )
