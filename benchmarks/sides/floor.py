"""The arithmetic that a piece of work needs at least, and how long this machine takes for it.

Counted are multiplications and additions of real tokens: padding, element-wise work and what is computed twice are
not. Frozen layers have a backward pass for their inputs only; adapters (rank 16 on every linear layer) for inputs and
weights. A prompt is read once for all of its responses. Each kind of product has the rate that was measured for its
own shape.
"""

from __future__ import annotations

from collections.abc import Mapping

from sides.inputs import Shape

Operations = dict[str, float]


def reading(shape: Shape, tokens: float, length: float, kind: str = "rows", backward: bool = False) -> Operations:
    """`tokens` through the blocks, in texts of `length` tokens."""
    attention = 2 * shape.width * length * shape.layers  # q·k and p·v with half of the text on average
    each = 2 * shape.matrices + attention
    if backward:
        each = 2 * each + attention + 6 * shape.adapters()  # both sides of both products of attention have gradients
    return {kind: tokens * each}


def predicting(shape: Shape, tokens: float, kind: str = "head", backward: bool = False) -> Operations:
    """Logits of `tokens`."""
    return {kind: tokens * 2 * shape.width * shape.vocab * (2 if backward else 1)}


def total(*parts: Operations) -> Operations:
    """Operations together, by kind."""
    kinds = {kind for part in parts for kind in part}
    return {kind: sum(part.get(kind, 0.0) for part in parts) for kind in sorted(kinds)}


def times(count: float, part: Operations) -> Operations:
    """The same, `count` times over."""
    return {kind: count * number for kind, number in part.items()}


def operations(work: str, shape: Shape, counts: Mapping[str, float]) -> Operations:
    """Of one piece of work that had so many `rows`, tokens in `prompts` and in `responses`."""
    rows, asked, answered = counts["rows"], counts["prompts"], counts["responses"]
    length = (asked + answered) / rows
    if work == "sft":
        return total(
            reading(shape, asked + answered, length, backward=True), predicting(shape, answered, backward=True)
        )
    if work in ("reward", "score"):
        return reading(shape, asked + answered, asked / rows + answered / rows / 2, backward=work == "reward")
    drawing = total(
        reading(shape, asked, length),
        reading(shape, answered, (2 * asked + answered) / rows, "step"),  # each sees its prompt and what was drawn
        predicting(shape, answered, "step head"),
    )
    if work != "ppo":
        return drawing
    roles = 4
    scoring = total(times(roles, reading(shape, asked + answered, length)), times(2, predicting(shape, answered)))
    return total(drawing, scoring, updating(shape, counts))


def updating(shape: Shape, counts: Mapping[str, float], epochs: int = 4) -> Operations:
    """Of the update phase of PPO: policy and value model, forward and back."""
    tokens, answered = counts["prompts"] + counts["responses"], counts["responses"]
    both = times(2, reading(shape, tokens, tokens / counts["rows"], backward=True))
    return times(epochs, total(both, predicting(shape, answered, backward=True)))


def products(work: str, shape: Shape) -> dict[str, tuple[int, int, int]]:
    """The shape (m, k, n) of each kind of product, as large as the work makes it."""
    drawn = shape.batch if work == "ppo" else 64
    return {
        "rows": (1024, shape.width, 4 * shape.width),
        "head": (768, shape.width, shape.vocab),
        "step": (drawn, shape.width, 4 * shape.width),
        "step head": (drawn, shape.width, shape.vocab),
    }


def seconds(needed: Operations, rates: Mapping[str, float]) -> float:
    """How long the operations take at the rates (operations a second, by kind)."""
    return sum(number / rates[kind] for kind, number in needed.items())
