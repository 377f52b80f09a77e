"""A reward model's zero and unit: people's demonstrations average 0, the SFT model's samples have sd 1."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import torch

from heed.formulas.preference import normalisation
from heed.models.answers import answer, score_answers
from heed.models.policy import Policy
from heed.models.scalar_head import RewardModel
from heed.models.scores import score_texts
from heed.settings.common import SamplingSettings
from heed.training.guards import require_spread


def normalise(
    model: RewardModel,
    reference: Policy,
    prompts: Sequence[list[int]],
    demonstrations: Sequence[list[int]],
    sampling: SamplingSettings,
    microbatch_tokens: int,
    generator: torch.Generator,
) -> tuple[RewardModel, dict[str, Any]]:
    """`model` (raw: gain 1, bias 0) with its normalisation, and a note of how that was measured for `heed.json`.

    `reference` answers the encoded `prompts`; `demonstrations` are whole encoded texts, and without any the mean of
    the reference samples becomes 0. Raises RunError where all samples score the same.
    """
    samples = score_answers(model, answer(reference, prompts, sampling, generator), sampling.batch)
    people = score_texts(model, demonstrations, microbatch_tokens) if demonstrations else None
    gain, bias = normalisation(people, require_spread(samples, "the SFT model's samples score the same"))
    centre = f"{len(demonstrations)} demonstrations" if demonstrations else "the same samples"
    note = {
        "gain": gain,
        "bias": bias,
        "how": f"standard deviation 1 on {len(prompts)} samples of the SFT model, mean 0 on {centre}",
        "n": len(prompts),
        "demonstrations": len(demonstrations),
        "data": hashlib.sha256(repr([list(prompts), list(demonstrations)]).encode()).hexdigest()[:16],
    }
    return RewardModel(model.trunk, model.adapter, model.head, gain, bias), note
