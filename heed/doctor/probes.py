"""Can a reward model tell an answer from nonsense? It scores good answers beside spoilt ones (RM16), and its scores are
compared with length (RM13)."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

from heed.doctor.findings import Finding
from heed.formulas.statistics import Estimate, spearman, wilson

SPOILT = {
    "shuffled": "the same words in another order",
    "empty": "an empty answer",
    "repeated": "the answer written twice",
    "other": "the answer to another prompt",
}
"""What a good answer is compared with."""
LOWEST = 0.6
"""The low end of the interval that each share of wins must reach: over 128 prompts, 69 % of wins do."""
FEWEST = 16  # comparisons that a share is judged from
STEEPEST = 0.5  # rank correlation of score and length
FEWEST_LENGTHS = 32


def spoilt(answers: Sequence[str], seed: int) -> dict[str, list[str | None]]:
    """Each good answer spoilt in every way; None where that leaves it as it was (one word cannot be shuffled)."""
    generator = random.Random(seed)
    made: dict[str, list[str | None]] = {
        "shuffled": [_shuffled(answer, generator) for answer in answers],
        "empty": ["" for _ in answers],
        "repeated": [f"{answer} {answer}" for answer in answers],
        "other": [answers[(i + len(answers) // 2) % len(answers)] for i in range(len(answers))],
    }
    return {
        name: [text if text != answer else None for text, answer in zip(texts, answers, strict=True)]
        for name, texts in made.items()
    }


def _shuffled(answer: str, generator: random.Random) -> str:
    words = answer.split()
    generator.shuffle(words)
    return " ".join(words)


def wins(good: Sequence[float], bad: Mapping[str, Sequence[float | None]]) -> dict[str, Estimate]:
    """Share of prompts whose good answer scores higher than the spoilt one; a tie is half a win. None: no such text."""
    shares = {}
    for name, scores in bad.items():
        pairs = [(g, b) for g, b in zip(good, scores, strict=True) if b is not None]
        shares[name] = wilson(sum(1.0 if g > b else 0.5 if g == b else 0.0 for g, b in pairs), len(pairs))
    return shares


def separation(shares: Mapping[str, Estimate]) -> list[Finding]:
    """RM16: kinds of spoilt answers that the reward model does not tell from good ones."""
    failed = {name: share for name, share in shares.items() if share.n >= FEWEST and share.low < LOWEST}
    if not failed:
        return []
    told = "; ".join(
        f"above {SPOILT[name]} in {share.estimate:.0%} ({share.low:.0%} to {share.high:.0%}) of {share.n} prompts"
        for name, share in failed.items()
    )
    message = f"The reward model puts a good answer {told}. PPO learns whatever it cannot tell apart."
    hint = "add such answers to the rankings and train it again, or use a reward model made for these prompts"
    return [Finding("RM16", "warning", message, hint, {name: share.as_dict() for name, share in failed.items()})]


def length_bias(scores: Sequence[float], lengths: Sequence[float]) -> list[Finding]:
    """RM13: Spearman's ρ of score and length over answers of one model."""
    if len(scores) < FEWEST_LENGTHS:
        return []
    rho = spearman(scores, lengths)
    if not abs(rho) > STEEPEST:
        return []
    message = f"Scores follow length: rank correlation {rho:+.2f} over {len(scores)} answers."
    hint = "PPO will make answers longer or shorter for its own sake: balance the rankings by length"
    return [Finding("RM13", "warning", message, hint, {"rho": rho, "answers": len(scores)})]
