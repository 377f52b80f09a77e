"""The baseline: sample n responses, keep the one that PPO would be paid most for. No training, and a curve to compare
PPO with."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from heed.data.prompts import PromptSet, prompt_set
from heed.data.sources import read_prompts
from heed.data.template import Template
from heed.errors import ConfigError
from heed.evaluation.best import paid
from heed.evaluation.judge import Judge
from heed.evaluation.printed import print_answers, print_in_blocks, with_interval
from heed.formulas.best_of_n import best_of_n
from heed.formulas.kl import best_of_n_kl
from heed.formulas.statistics import bootstrap_mean
from heed.models.answers import Answers, Drawing, length_metrics
from heed.models.checkpoint import open_checkpoint
from heed.models.roles import Shelf, weight_count
from heed.pocket.gold import scores as gold_scores
from heed.records import prompt_to_json
from heed.settings.best_of_n import BestOfNSettings
from heed.training.begin import announce
from heed.training.device import pick_device, pick_dtype
from heed.training.loop import Loop
from heed.training.metrics import short
from heed.training.randomness import Randomness, seed_everything
from heed.training.run_dir import RunDir

SHOWN = 6  # rows of the printed table of responses


@dataclass(frozen=True)
class Scored:
    """`n` answers to each prompt with the scores of the model that chooses, and those of other judges by name."""

    answers: Answers
    scores: Float[Tensor, "prompts n"]
    paid: Float[Tensor, "prompts n"]  # what is chosen by: scores after the price of a missing end, as PPO pays them
    others: dict[str, Float[Tensor, "prompts n"]]


def run(settings: BestOfNSettings) -> Path:
    """Draw n responses a prompt, score them, and write the curve of best-of-1, 2, 4, … n."""
    if not settings.prompts.path:
        raise ConfigError("prompts", "no prompts are named", "give a file of prompts: --prompts FILE")
    checkpoint = open_checkpoint(settings.model, "policy")
    for name in filter(None, (settings.reward_model, settings.judge)):
        open_checkpoint(name, "reward")
    records = read_prompts(settings.prompts, settings.seed)
    device = pick_device(settings.device, weight_count(checkpoint))
    generator = seed_everything(settings.seed, device)
    with RunDir.create(settings) as run_dir:
        shelf = Shelf(partial(pick_dtype, settings.dtype, device), device)
        policy = shelf.policy(checkpoint, "policy")
        judges = [Judge.load(shelf, settings.reward_model, "reward")]
        judges += [Judge.load(shelf, settings.judge, "judge")] if settings.judge else []
        trunk, longest = policy.trunk, settings.sampling.max_new_tokens
        template = Template.named(checkpoint.template or "dialogue", trunk.tokenizer)
        prompts = prompt_set(records, settings.hygiene, template, trunk.tokenizer, trunk.context, longest)
        drawing = Drawing(policy, prompts.tokens, settings.sampling, generator, settings.n)
        parts = {"drawn": drawing, "random": Randomness(generator)}
        announce(run_dir, trunk.model.parameters(), threads=trunk.threads.count)
        loop = Loop(run_dir, "best-of-n", len(drawing.batches), parts, settings.save_every)
        with loop, closing(drawing.rest()) as batches:
            for _, responses in zip(loop, batches, strict=False):
                loop.record(length_metrics(responses, trunk.stop_ids), tokens=int(responses.mask.sum()))
        answers = drawing.answers()
        asked, size = [record.prompt for record in prompts.records], settings.sampling.batch * 4
        scores = [judge.scores(asked, answers, policy, template, size).view(-1, settings.n) for judge in judges]
        others = {"judge": scores[1]} if settings.judge else {}
        if settings.gold:
            repeated = [prompt for prompt in asked for _ in range(settings.n)]
            told = gold_scores(repeated, answers.texts, answers.finished)
            others["gold"] = torch.tensor(told).view(-1, settings.n)
        scored = Scored(answers, scores[0], paid(answers, scores[0], settings.missing_eos), others)
        rows = winners(prompts, scored)
        run_dir.samples(0, rows)
        found = report(prompts, scored, settings.seed)
        run_dir.write_json("report.json", found)
        print_curve(found, rows)
        judged_by = "--model", settings.model, "--reward-model", settings.reward_model
        run_dir.finished("heed", "ppo", *judged_by, "--prompts", "FILE", "--output", "runs/ppo")
    return run_dir.path


def report(prompts: PromptSet, scored: Scored, seed: int) -> dict[str, Any]:
    """The unbiased best-of-n curve from all samples, with the KL that choosing costs, and what the winners are like."""
    samples = scored.scores.shape[1]
    sizes = sorted({2**power for power in range(samples.bit_length()) if 2**power <= samples} | {samples})
    best, row = scored.paid.argmax(dim=1).numpy(), np.arange(len(scored.scores))
    lengths, finished = np.array(scored.answers.lengths), np.array(scored.answers.finished)
    by_prompt = {"length": lengths.reshape(-1, samples), "eos_rate": finished.reshape(-1, samples)}
    return {
        "prompts": len(prompts.records),
        "dropped": prompts.dropped,
        "samples": samples,
        "curve": [point(scored, n, seed) for n in sizes],
        "winners": {name: bootstrap_mean(values[row, best], seed).as_dict() for name, values in by_prompt.items()},
        "all": {name: bootstrap_mean(values.mean(axis=1), seed).as_dict() for name, values in by_prompt.items()},
    }


def point(scored: Scored, n: int, seed: int) -> dict[str, Any]:
    """Best-of-n for one n. `kl_bound` is in nats per response, an upper bound, exact where no scores are equal."""
    found = {
        "n": n,
        "kl_bound": best_of_n_kl(n),
        "score": bootstrap_mean(best_of_n(scored.paid, n, scored.scores).numpy(), seed).as_dict(),
    }
    for name, worth in scored.others.items():
        found[name] = bootstrap_mean(best_of_n(scored.paid, n, worth).numpy(), seed).as_dict()
    return found


def winners(prompts: PromptSet, scored: Scored) -> list[dict[str, Any]]:
    """A row for each prompt: its best response and what the others scored. The rows serve as demonstrations too."""
    samples = scored.scores.shape[1]
    rows = []
    for i, record in enumerate(prompts.records):
        best = int(scored.paid[i].argmax())
        place = samples * i + best
        row = {
            "prompt": prompt_to_json(record.prompt),
            "response": scored.answers.texts[place],
            "score": float(scored.scores[i, best]),
            "mean_score": float(scored.scores[i].mean()),
            "scores": scored.scores[i].tolist(),
            "paid_scores": scored.paid[i].tolist(),
            "finished": scored.answers.finished[place],
            "source": record.source,
            "group": record.group,
        }
        for name, worth in scored.others.items():
            row |= {f"{name}_score": float(worth[i, best]), f"{name}_scores": worth[i].tolist()}
        rows.append(row)
    return rows


def print_curve(report: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """The curve, then the first winners."""
    curve = []
    for at in report["curve"]:
        shown = {"n": str(at["n"]), "KL ≤ (nats)": short(at["kl_bound"])}
        for name in ("score", "judge", "gold"):
            if name in at:
                shown[name] = with_interval(at[name])
        curve.append(shown)
    print_in_blocks(curve, f"best of n on {report['prompts']:,} prompts, [95 % intervals]")
    named = {"prompt": "prompt", "response": "best", "score": "score"}
    texts = [{title: row[name] for name, title in named.items()} for row in rows[:SHOWN]]
    print_answers(texts, "the first winners")
