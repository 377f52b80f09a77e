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
from heed.models.scores import different_texts, scored_rankings
from heed.preference.scoring import scored_in_steps
from heed.settings.reward import EvaluateRewardSettings
from heed.training.device import pick_device, pick_dtype
from heed.training.figures import print_figures
from heed.training.randomness import seed_everything
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
        texts = list(different_texts(held_out.rankings))
        raw = scored_in_steps(
            run_dir, "evaluate-reward", model, texts, settings.microbatch_tokens, generator, settings.save_every
        )
        scored = scored_rankings(held_out.rankings, held_out.sources, raw)
        report = reward_report(scored, settings.seed)
        run_dir.write_json("report.json", {**report, "dropped": held_out.lost, "model": settings.model})
        print_figures(headline(report), f"{settings.model} on {len(held_out.rankings):,} rankings")
        judged_by = "--reward-model", settings.model
        run_dir.finished(
            "heed", "best-of-n", "--model", "SFT", *judged_by, "--prompts", "FILE", "--output", "runs/best"
        )
    return run_dir.path
