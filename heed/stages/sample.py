"""Prompts and a model → K candidate responses each, to be ranked by people (or by simulated labelers)."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from heed.data.prompts import PromptSet, prompt_set
from heed.data.sources import read_prompts
from heed.data.template import Template
from heed.errors import ConfigError
from heed.formulas.statistics import bootstrap_mean, wilson
from heed.models.answers import Answers, Drawing, length_metrics
from heed.models.checkpoint import open_checkpoint
from heed.models.roles import Shelf, weight_count
from heed.records import Candidates, write_jsonl
from heed.settings.evaluate import SampleSettings
from heed.training.begin import announce
from heed.training.device import pick_device, pick_dtype
from heed.training.loop import Loop
from heed.training.metrics import print_completions
from heed.training.randomness import Randomness, seed_everything
from heed.training.run_dir import RunDir

SHOWN = 3  # prompts in the printed table


def run(settings: SampleSettings) -> Path:
    """Draw `responses` answers to every prompt and write `candidates.jsonl`."""
    if not settings.prompts.path:
        raise ConfigError("prompts", "no prompts are named", "give a file of prompts: --prompts FILE")
    checkpoint = open_checkpoint(settings.model, "policy")
    records = read_prompts(settings.prompts, settings.seed)
    device = pick_device(settings.device, weight_count(checkpoint))
    generator = seed_everything(settings.seed, device)
    with RunDir.create(settings) as run_dir:
        policy = Shelf(partial(pick_dtype, settings.dtype, device), device).policy(checkpoint, "policy")
        trunk, longest = policy.trunk, settings.sampling.max_new_tokens
        template = Template.named(checkpoint.template or "dialogue", trunk.tokenizer)
        prompts = prompt_set(records, settings.hygiene, template, trunk.tokenizer, trunk.context, longest)
        drawing = Drawing(policy, prompts.tokens, settings.sampling, generator, settings.responses)
        parts = {"drawn": drawing, "random": Randomness(generator)}
        announce(run_dir, trunk.model.parameters(), threads=trunk.threads.count)
        loop = Loop(run_dir, "sample", len(drawing.batches), parts, settings.save_every)
        with loop, closing(drawing.rest()) as batches:
            for _, responses in zip(loop, batches, strict=False):
                loop.record(length_metrics(responses, trunk.stop_ids), tokens=int(responses.mask.sum()))
        answers = drawing.answers()
        candidates = gather(prompts, answers, settings.model)
        write_jsonl(run_dir.path / "candidates.jsonl", candidates)
        run_dir.write_json("report.json", report(prompts, candidates, answers, settings.seed))
        print_completions(table(candidates[:SHOWN]), f"{settings.model}, {settings.responses} responses a prompt")
        run_dir.finished("heed", "label", settings.output)
    return run_dir.path


def gather(prompts: PromptSet, answers: Answers, model: str) -> list[Candidates]:
    """The answers of each prompt side by side."""
    copies = answers.copies
    return [
        Candidates(
            record.prompt,
            tuple(answers.texts[copies * i : copies * (i + 1)]),
            tuple(answers.finished[copies * i : copies * (i + 1)]),
            model,
            record.source,
            record.group,
        )
        for i, record in enumerate(prompts.records)
    ]


def report(prompts: PromptSet, candidates: list[Candidates], answers: Answers, seed: int) -> dict[str, Any]:
    """How long the responses are, how many end themselves, how often K responses are K different ones."""
    different = sum(len(set(row.responses)) == len(row.responses) for row in candidates)
    by_prompt = (np.reshape(rows, (-1, answers.copies)).mean(axis=1) for rows in (answers.lengths, answers.finished))
    lengths, finished = by_prompt
    return {
        "prompts": len(candidates),
        "dropped": prompts.dropped,
        "responses": len(answers.texts),
        "length": bootstrap_mean(lengths, seed).as_dict(),
        "eos_rate": bootstrap_mean(finished, seed).as_dict(),
        "all_different": wilson(different, len(candidates)).as_dict(),
    }


def table(candidates: list[Candidates]) -> list[dict[str, object]]:
    """Rows of the printed table."""
    return [
        {"prompt": row.prompt[-1].content, **{str(k): text for k, text in enumerate(row.responses, start=1)}}
        for row in candidates
    ]
