"""What both sides read: a model of random weights, and texts of random words as long as people's.

`write` needs heed; the peers read the files with `rows`, and no more of this module than the standard library.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Shape:
    """A GPT-2 with random weights. Lengths of texts are people's divided by `shorter`; responses have `response`
    tokens in PPO."""

    layers: int
    width: int
    heads: int
    vocab: int
    context: int
    batch: int  # prompts of a PPO step
    response: int
    shorter: int = 1

    @property
    def matrices(self) -> int:
        """Weights in the blocks' linear layers."""
        return 12 * self.width**2 * self.layers

    def adapters(self, rank: int = 16) -> int:
        """Weights of LoRA on all linear layers: inputs and outputs are 4, 2, 5 and 5 times the width."""
        return 16 * self.width * rank * self.layers


SHAPES = {
    "gpt2": Shape(layers=12, width=768, heads=12, vocab=50_257, context=1024, batch=16, response=48),
    "pocket": Shape(layers=2, width=96, heads=3, vocab=325, context=96, batch=64, response=24, shorter=4),
}


@dataclass(frozen=True)
class Drawing:
    """Responses that are drawn for one piece of work: `copies` to each prompt, of `longest` tokens of GPT-2's shape. A
    response ends by itself at one token of `hazard`; 0: never."""

    prompts: int
    copies: int
    response: int
    hazard: int

    def longest(self, shape: Shape) -> int:
        """Tokens of a response at most."""
        return self.response // shape.shorter


DRAWING = {"rollout": Drawing(64, 1, 48, 0), "rollout-ends": Drawing(16, 4, 96, 24)}
PAIRS = 64  # scored at once
ROWS = 512
LORA = ("c_attn", "c_proj", "c_fc")


def lengths(rng: random.Random, median: float, spread: float, least: int, most: int, shape: Shape) -> int:
    """Tokens of a text: log-normal, as people's are."""
    drawn = min(max(rng.lognormvariate(0, spread) * median, least), most)
    return max(2, round(drawn / shape.shorter))


def texts(rng: random.Random, shape: Shape, count: int) -> str:
    """`count` random words, each a token."""
    return " ".join(f"w{rng.randrange(shape.vocab - 2)}" for _ in range(count))


def demonstrations(shape: Shape) -> list[dict[str, str]]:
    """Prompt and completion as long as Alpaca's, about 115 tokens together."""
    rng = random.Random(0)
    return [
        {
            "prompt": texts(rng, shape, lengths(rng, 38, 0.4, 12, 120, shape)) + " ",
            "completion": texts(rng, shape, lengths(rng, 50, 0.8, 4, 220, shape)),
        }
        for _ in range(ROWS)
    ]


def pairs(shape: Shape) -> list[dict[str, str]]:
    """A prompt and two responses as long as HH's, each text about 150 tokens."""
    rng = random.Random(1)
    return [
        {"prompt": texts(rng, shape, lengths(rng, 75, 0.6, 12, 240, shape)) + " "}
        | {name: texts(rng, shape, lengths(rng, 50, 0.7, 4, 140, shape)) for name in ("chosen", "rejected")}
        for _ in range(ROWS)
    ]


def prompts(shape: Shape) -> list[dict[str, str]]:
    """Prompts of 16 to 64 tokens (of GPT-2's shape)."""
    rng = random.Random(2)
    return [{"prompt": texts(rng, shape, rng.randint(16 // shape.shorter, 64 // shape.shorter))} for _ in range(ROWS)]


def write(place: Path, shape: Shape) -> None:
    """Models and texts, once: `base` for stock libraries, `sft` and `reward` for heed."""
    if (place / "done").exists():
        return
    from device import write_models  # heed's side only
    from transformers import GPT2Config

    place.mkdir(parents=True, exist_ok=True)
    config = GPT2Config(
        vocab_size=shape.vocab, n_positions=shape.context, n_embd=shape.width, n_layer=shape.layers,
        n_head=shape.heads, bos_token_id=0, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    write_models(place, config)
    for name, written in (("sft", demonstrations), ("pairs", pairs), ("prompts", prompts)):
        lines = [json.dumps(row) + "\n" for row in written(shape)]
        (place / f"{name}.jsonl").write_text("".join(lines))
        (place / f"{name}-held-out.jsonl").write_text("".join(lines[:8]))
    (place / "done").touch()


def rows(place: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a file of texts."""
    return [json.loads(line) for line in (place / f"{name}.jsonl").read_text().splitlines()]


def pieces(items: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    """`size` of them at a time, again and again."""
    while True:
        yield from (items[i : i + size] for i in range(0, len(items) - size + 1, size))
