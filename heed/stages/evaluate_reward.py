"""A reward model on held-out comparisons: accuracy and loss with intervals, calibration, what its scores follow."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from heed.data.rankings import ranking_set
from heed.data.sources import read_rankings
from heed.data.template import Template
from heed.errors import ConfigError
from heed.formulas.scored_rankings import headline, reward_report
from heed.models.checkpoint import open_checkpoint
from heed.models.roles import Shelf, weight_count
from heed.models.scores import Scoring, different_texts, raw_model, scored_rankings
from heed.settings.reward import EvaluateRewardSettings
from heed.training.begin import announce
from heed.training.device import pick_device, pick_dtype
from heed.training.figures import print_figures
from heed.training.loop import Loop
from heed.training.randomness import Randomness, seed_everything
from heed.training.run_dir import RunDir


def run(settings: EvaluateRewardSettings) -> Path:
    """Score every response of the rankings and write `report.json`."""
    if not settings.data.path:
        raise ConfigError("data", "no rankings are named", "give a file of rankings or comparisons: --data FILE")
    checkpoint = open_checkpoint(settings.model, "reward")
    rankings = read_rankings(settings.data, settings.seed)
    device = pick_device(settings.device, weight_count(checkpoint))
    generator = seed_everything(settings.seed, device)
    with RunDir.create(settings) as run_dir:
        shelf = Shelf(partial(pick_dtype, settings.dtype, device), device)
        model = shelf.reward_model(checkpoint, "reward")
        tokenizer, room = model.trunk.tokenizer, min(settings.max_tokens, model.trunk.context)
        template = Template.named(checkpoint.template or "dialogue", tokenizer)
        held_out = ranking_set(rankings, template, tokenizer, room, "held-out")
        scoring = Scoring(raw_model(model), list(different_texts(held_out.rankings)), settings.microbatch_tokens)
        parts = {"scores": scoring, "random": Randomness(generator)}
        announce(run_dir, model.trunk.model.parameters(), threads=model.trunk.threads.count)
        loop = Loop(run_dir, "evaluate-reward", len(scoring.pieces), parts, settings.save_every)
        with model.active(), loop:
            pieces = scoring.rest()
            for _ in loop:
                rows = next(pieces)
                loop.record({"score/mean": float(scoring.scores[rows].mean())}, tokens=tokens_of(scoring, rows))
        scored = scored_rankings(held_out.rankings, held_out.sources, scoring.scores)
        report = reward_report(scored, settings.seed)
        run_dir.write_json("report.json", {**report, "dropped": held_out.lost, "model": settings.model})
        print_figures(headline(report), f"{settings.model} on {len(held_out.rankings):,} rankings")
        judged_by = "--reward-model", settings.model
        run_dir.finished(
            "heed", "best-of-n", "--model", "SFT", *judged_by, "--prompts", "FILE", "--output", "runs/best"
        )
    return run_dir.path


def tokens_of(scoring: Scoring, rows: list[int]) -> int:
    """Tokens of some texts."""
    return sum(len(scoring.texts[i]) for i in rows)
