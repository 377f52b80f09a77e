"""Many texts through a reward model, as the whole of a run: piece by piece, so that a stopped one goes on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from heed.models.scalar_head import RewardModel
from heed.models.scores import Scoring, raw_model
from heed.training.begin import announce
from heed.training.loop import Loop
from heed.training.randomness import Randomness
from heed.training.run_dir import RunDir


def scored_in_steps(
    run_dir: RunDir,
    name: str,
    model: RewardModel,
    texts: Sequence[Sequence[int]],
    microbatch_tokens: int,
    generator: torch.Generator,
    save_every: int,
) -> Float[Tensor, " texts"]:
    """Raw scores of encoded texts, in the unit of the loss; `metrics.jsonl` gets a row for each piece."""
    scoring = Scoring(raw_model(model), texts, microbatch_tokens)
    parts = {"scores": scoring, "random": Randomness(generator)}
    announce(run_dir, model.trunk.model.parameters(), threads=model.trunk.threads.count)
    loop = Loop(run_dir, name, len(scoring.pieces), parts, save_every)
    with model.active(), loop:
        pieces = scoring.rest()
        for _ in loop:
            rows = next(pieces)
            tokens = sum(len(texts[i]) for i in rows)
            loop.record({"score/mean": float(scoring.scores[rows].mean())}, tokens=tokens)
    return scoring.scores
