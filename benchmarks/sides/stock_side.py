"""The side of plain transformers: `generate`, and a reward model's forward pass. Weights have no adapter, as if merged.

`python -m sides.stock_side WORK PLACE SHAPE DTYPE`, in `benchmarks/`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from sides.inputs import DRAWING, PAIRS, SHAPES, Shape, pieces, rows
from sides.pace import Pace

TEXTS = 16  # scored at once


@torch.no_grad()
def draw(work: str, place: Path, shape: Shape, dtype: torch.dtype, pace: Pace) -> None:
    """All rows in one call of `generate`, from the whole distribution."""
    model = AutoModelForCausalLM.from_pretrained(place / "base", dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(place / "base", padding_side="left")
    drawing = DRAWING[work]
    ends = list(range(0, shape.vocab, drawing.hazard)) if drawing.hazard else None
    for piece in pieces(rows(place, "prompts"), drawing.prompts):
        asked = tokenizer([row["prompt"] for row in piece], return_tensors="pt", padding=True)
        pace.begin()
        drawn = model.generate(
            input_ids=asked["input_ids"], attention_mask=asked["attention_mask"], do_sample=True, top_k=0, top_p=1.0,
            max_new_tokens=drawing.longest(shape), num_return_sequences=drawing.copies, eos_token_id=ends,
            pad_token_id=tokenizer.pad_token_id,
        )[:, asked["input_ids"].shape[1] :]  # fmt: skip
        ended = torch.isin(drawn, torch.tensor(ends or [-1]))
        written = int((ended.cumsum(dim=1) - ended.long() == 0).sum())
        pace.count(len(drawn), int(asked["attention_mask"].sum()), written)
        pace.done()


@torch.no_grad()
def score(place: Path, dtype: torch.dtype, pace: Pace) -> None:
    """Texts of pairs as they come, padded in batches."""
    model = AutoModelForSequenceClassification.from_pretrained(place / "base", num_labels=1, dtype=dtype).eval()
    tokenizer = AutoTokenizer.from_pretrained(place / "base")
    model.config.pad_token_id = tokenizer.pad_token_id
    for piece in pieces(rows(place, "pairs"), PAIRS):
        texts = [row["prompt"] + row[name] + tokenizer.eos_token for row in piece for name in ("chosen", "rejected")]
        asked = sum(len(tokenizer(row["prompt"])["input_ids"]) for row in piece)
        pace.begin()
        tokens = 0
        for start in range(0, len(texts), TEXTS):
            batch = tokenizer(texts[start : start + TEXTS], return_tensors="pt", padding=True)
            model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])
            tokens += int(batch["attention_mask"].sum())
        pace.count(len(piece), asked, tokens - 2 * asked)
        pace.done()


def main() -> None:
    work, place, shape = sys.argv[1], Path(sys.argv[2]), SHAPES[sys.argv[3]]
    dtype, pace = getattr(torch, sys.argv[4]), Pace()
    if work == "score":
        score(place, dtype, pace)
    else:
        draw(work, place, shape, dtype, pace)


if __name__ == "__main__":
    main()
