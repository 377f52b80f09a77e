"""heed's side: the stages as anybody runs them, stopped after every step until the next one is asked for.

`python -m sides.heed_side WORK PLACE SHAPE`, in `benchmarks/`.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

import heed
import heed.stages.reward
import heed.stages.sft
from heed.models.answers import answer
from heed.models.checkpoint import open_checkpoint
from heed.models.roles import Shelf
from heed.models.scores import score_texts
from heed.rl.rollout import RolloutWorker
from heed.rows.threads import SMALL, cores
from heed.settings.common import SamplingSettings
from heed.training.device import pick_dtype
from heed.training.loop import Loop
from sides.floor import products
from sides.inputs import DRAWING, PAIRS, SHAPES, Shape, pieces, rows, write
from sides.pace import Pace

EVERY = {"sft": 2}  # steps that make a piece


def stage(work: str, place: Path, shape: Shape, pace: Pace) -> None:
    """Steps of a stage, one each time it is asked."""

    def paced(loop: Loop) -> Iterator[int]:
        for step in steps_of(loop):
            pace.begin()
            yield step
            pace.done(**{name: spent for name, spent in loop._seconds.items() if name == "update"})

    steps_of = Loop.__iter__
    with tempfile.TemporaryDirectory() as output, counted(work, pace), patch.object(Loop, "__iter__", paced):
        getattr(heed, work)(**settings(work, place, shape), output=output, overwrite=True, device="cpu")


@contextmanager
def counted(work: str, pace: Pace) -> Iterator[None]:
    """Tell `pace` what each step of a stage consists of."""
    module, name = {
        "ppo": (RolloutWorker, "collect"), "sft": (heed.stages.sft, "backpropagate"),
        "reward": (heed.stages.reward, "backpropagate"),
    }[work]  # fmt: skip
    function = getattr(module, name)

    def counting(first: Any, batch: Any, *rest: Any) -> Any:
        found = function(first, batch, *rest)
        if work == "ppo":
            pace.count(len(found.mask), int(found.prompts.mask.sum()), int(found.mask.sum()))
        elif work == "sft":
            examples = [row for part in batch.values() for row in part]
            asked = sum(row.response_start for row in examples)
            pace.count(len(examples), asked, sum(len(row.tokens) for row in examples) - asked)
        else:
            for (ranking,) in batch:
                answered = sum(len(text) - ranking.response_start for text in ranking.texts)
                pace.count(1, ranking.response_start, answered)
        return found

    with patch.object(module, name, counting):
        yield


def settings(work: str, place: Path, shape: Shape) -> dict[str, Any]:
    """As the peers are set: 16 rows a step, in PPO four passes in one minibatch."""
    if work == "ppo":
        return {
            "model": place / "sft", "reward_model": place / "reward", "prompts": place / "prompts.jsonl",
            "steps": 1000, "batch": shape.batch, "minibatch": shape.batch, "microbatch": shape.batch, "epochs": 4,
            "critic_warmup": 0, "sampling": {"max_new_tokens": shape.response, "batch": shape.batch},
            "evaluations": 1, "validation_limit": 8, "allow_biased_kl": True, "hygiene": {"shared_prefix": 0},
        }  # fmt: skip
    common = {"batch": 16, "epochs": 100, "evaluations": 1}
    if work == "sft":
        data = {"data": place / "sft.jsonl", "validation": place / "sft-held-out.jsonl"}
        apart = {"template": "plain", "completions": 0, "hygiene": {"shared_prefix": 0}}
        return {**common, **data, **apart, "model": place / "base"}
    data = {"data": place / "pairs.jsonl", "validation": place / "pairs-held-out.jsonl"}
    return {**common, **data, "model": place / "sft"}


# ── without a stage ──────────────────────────────────────────────────────────────────────────────────────────────────


def shelf() -> Shelf:
    """Models in the dtype that a stage would take."""
    cpu = torch.device("cpu")
    return Shelf(partial(pick_dtype, "auto", cpu), cpu)


def draw(work: str, place: Path, shape: Shape, pace: Pace) -> None:
    """Rollouts: 64 responses of one length, or 4 to each of 16 prompts that end by themselves."""
    policy = shelf().policy(open_checkpoint(str(place / "sft"), "policy"), "sft")
    drawing = DRAWING[work]
    if drawing.hazard:
        policy.trunk.stop_ids = set(range(0, shape.vocab, drawing.hazard))
    sampling = SamplingSettings(max_new_tokens=drawing.longest(shape), batch=drawing.prompts)
    generator = torch.Generator().manual_seed(0)
    asked = [policy.trunk.tokenizer(row["prompt"])["input_ids"] for row in rows(place, "prompts")]
    for piece in pieces(asked, drawing.prompts):
        pace.begin()
        found = answer(policy, piece, sampling, generator, drawing.copies)
        tokens = sum(map(len, piece))
        pace.count(len(found.texts), tokens, sum(found.lengths))
        pace.done()


def score(place: Path, pace: Pace) -> None:
    """Pairs scored by a reward model."""
    model = shelf().reward_model(open_checkpoint(str(place / "reward"), "reward"), "reward")
    tokenizer = model.trunk.tokenizer
    for piece in pieces(rows(place, "pairs"), PAIRS):
        asked = [tokenizer(row["prompt"])["input_ids"] for row in piece]
        answered = [[tokenizer(row[name])["input_ids"] for name in ("chosen", "rejected")] for row in piece]
        end = [tokenizer.eos_token_id]
        texts = [prompt + text + end for prompt, both in zip(asked, answered, strict=True) for text in both]
        pace.begin()
        score_texts(model, texts, 8192)
        prompts = sum(map(len, asked))
        pace.count(len(piece), prompts, sum(map(len, texts)) - 2 * prompts)
        pace.done()


def rates(work: str, shape: Shape, pace: Pace) -> None:
    """Operations a second of each kind of product, in the dtype that heed takes for the shape."""
    weights = shape.matrices + shape.vocab * shape.width
    dtype = pick_dtype("auto", torch.device("cpu"), weights)
    alone = weights < SMALL  # rows are shared out then, and every product has one thread
    if alone:
        torch.set_num_threads(1)
    while True:
        pace.begin()
        measured = {kind: rate(*product, dtype) for kind, product in products(work, shape).items()}
        pace.done(**{kind: found * (cores() if alone else 1) for kind, found in measured.items()})


def rate(m: int, k: int, n: int, dtype: torch.dtype, least: float = 0.3) -> float:
    """Operations a second of (m, k) · (k, n), over at least so many seconds."""
    a, b = torch.randn(m, k).to(dtype), torch.randn(n, k).to(dtype)
    torch.nn.functional.linear(a, b)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < least:
        torch.nn.functional.linear(a, b)
        count += 1
    return 2.0 * m * k * n * count / (time.perf_counter() - started)


def main() -> None:
    work, place, shape = sys.argv[1], Path(sys.argv[2]), SHAPES[sys.argv[3]]
    if work == "inputs":
        write(place, shape)
        return
    pace = Pace(EVERY.get(work, 1))
    if work.startswith("rates-"):
        rates(work.removeprefix("rates-"), shape, pace)
    elif work in DRAWING:
        draw(work, place, shape, pace)
    elif work == "score":
        score(place, pace)
    else:
        stage(work, place, shape, pace)


if __name__ == "__main__":
    main()
