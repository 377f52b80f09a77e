"""A reward model's zero and unit: people's demonstrations average 0, the SFT model's samples have sd 1."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from contextlib import closing
from typing import Any

import torch

from heed.data.encode import encode_demonstrations, encode_prompts
from heed.data.tally import Tally
from heed.data.template import Template
from heed.errors import ConfigError, DataError
from heed.formulas.preference import normalisation
from heed.models.answers import Drawing, score_answers
from heed.models.policy import Policy
from heed.models.scalar_head import RewardModel
from heed.models.scores import score_texts
from heed.records import Demonstration, Ranking
from heed.training.guards import require_spread
from heed.training.metrics import Progress

log = logging.getLogger("heed")


def whole_texts(
    demonstrations: Sequence[Demonstration], template: Template, reference: Policy, room: int, dropped: Tally
) -> list[list[int]]:
    """Demonstrations as the reward model reads them; those of more than `room` tokens are counted in `dropped`."""
    encoded = encode_demonstrations(demonstrations, template, reference.trunk.tokenizer)
    texts, lost = [], Tally()
    for record, demonstration in zip(demonstrations, encoded, strict=True):
        if len(demonstration.tokens) <= room:
            texts.append(demonstration.tokens)
        else:
            lost.add(f"demonstrations of more than {room} tokens", record.where)
    _tell(lost, "demonstrations: left out", dropped)
    if demonstrations and not texts:
        raise DataError("demonstrations", f"none is as short as {room} tokens", "raise `max_tokens`")
    return texts


def reference_prompts(
    rankings: Sequence[Ranking],
    template: Template,
    reference: Policy,
    room: int,
    count: int,
    max_new_tokens: int,
    seed: int,
    dropped: Tally,
) -> list[list[int]]:
    """`count` prompts of the training rankings for the SFT model to answer; where there are fewer, they are asked
    again. Those that leave no room for a response of `max_new_tokens` are counted in `dropped`."""
    first = {ranking.prompt: ranking.where for ranking in reversed(rankings)}
    distinct = list(dict.fromkeys(ranking.prompt for ranking in rankings))
    fitting, lost = [], Tally()
    for prompt, tokens in zip(distinct, encode_prompts(distinct, template, reference.trunk.tokenizer), strict=True):
        if len(tokens) + max_new_tokens <= room:
            fitting.append(tokens)
        else:
            lost.add(f"prompts without room for a response of {max_new_tokens} tokens", first[prompt])
    _tell(lost, "prompts answered for the normalisation: left out", dropped)
    if not fitting:
        told = f"no prompt and a response of {max_new_tokens} tokens fit into {room}"
        raise ConfigError("sampling.max_new_tokens", told, "lower it, or raise `max_tokens`")
    order = torch.randperm(len(fitting), generator=torch.Generator().manual_seed(seed)).tolist()
    return [fitting[order[i % len(order)]] for i in range(count)]


def _tell(lost: Tally, what: str, dropped: Tally) -> None:
    if lost:
        log.warning("%s %s", what, lost)
    dropped.extend(lost)


def draw(samples: Drawing) -> None:
    """Let the SFT model answer, with the time left on the screen."""
    with Progress("samples", len(samples.batches)) as progress, closing(samples.rest()) as batches:
        for number, _ in enumerate(batches, start=1):
            progress.update(number, {})


def normalise(
    model: RewardModel,
    prompts: Sequence[list[int]],
    samples: Drawing,
    demonstrations: Sequence[list[int]],
    microbatch_tokens: int,
) -> tuple[RewardModel, dict[str, Any]]:
    """`model` (raw: gain 1, bias 0) with its normalisation, and a note of how that was measured for `heed.json`.

    `samples` are the SFT model's answers to the encoded `prompts`; `demonstrations` are whole encoded texts, and
    without any the mean of the samples becomes 0. Raises RunError where all samples score the same.
    """
    scores = score_answers(model, samples.answers(), samples.sampling.batch)
    people = score_texts(model, demonstrations, microbatch_tokens) if demonstrations else None
    gain, bias = normalisation(people, require_spread(scores, "the SFT model's samples score the same"))
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
