"""Results as lines and as the page `results.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

UNITS = {
    "ppo": "samples", "sft": "tokens", "reward": "pairs", "rollout": "response tokens",
    "rollout-ends": "response tokens", "score": "pairs",
}  # fmt: skip
WHAT = {
    "ppo": "PPO step: 4 epochs, 1 minibatch, exact KL and doctor on",
    "sft": "SFT, Alpaca's lengths, completion only",
    "reward": "reward model, pairs of HH's lengths",
    "rollout": "64 prompts, responses of one length",
    "rollout-ends": "16 prompts × 4 responses that end after 24 tokens on average",
    "score": "pairs scored",
}
ABOUT = """# Measured side by side

`make bench` on a machine with nothing else to do; `make bench WORK=ppo` for one line. Each line is one run in which
heed and its peer took turns (A B A B …): medians of the pieces, and the ratio piece by piece with its lowest and
highest. `gpt2` is GPT-2's small shape (124 M random weights, vocabulary 50,257), `pocket` the demo's; LoRA of rank 16
on every linear layer. The peers: TRL 1.12's PPO (the last there is; reward and value model of the same shape, the value
model trained whole, as its documentation shows it); TRL 1.16's SFT and reward trainers in their fastest setting of
those listed, nothing packed; `generate` and forward passes of transformers on weights without adapters.
*Floor*: seconds that the arithmetic of the same real tokens needs at least at the rates measured in the same run
(`benchmarks/sides/floor.py` says what is counted); *use*: its share of the time. **!** marks lines during which another
program was busy.
"""


def rate(work: str, piece: Mapping[str, float]) -> float:
    """Units of work a second."""
    units = {"tokens": piece["prompts"] + piece["responses"], "response tokens": piece["responses"]}
    return units.get(UNITS[work], piece["rows"]) / piece["seconds"]


def figures(found: Mapping[str, Any]) -> dict[str, Any]:
    """What a line of the table shows."""
    ours, theirs = (side["pieces"] for side in found["sides"])
    work = found["work"]
    ratios = [rate(work, a) / rate(work, b) for a, b in zip(ours, theirs, strict=True)]
    return {
        "ours": median(rate(work, piece) for piece in ours),
        "theirs": median(rate(work, piece) for piece in theirs),
        "ratio": median(ratios), "low": min(ratios), "high": max(ratios),
        "seconds": median(piece["seconds"] for piece in ours),
        "floor": median(piece["floor"] for piece in ours),
        "use": median(piece["floor"] / piece["seconds"] for piece in ours),
        "their_use": median(piece["floor"] / piece["seconds"] for piece in theirs),
        "memory": [max(piece["memory"] for piece in side) / 1e9 for side in (ours, theirs)],
        "load": max(piece["load"] for piece in (*ours, *theirs)),
        "disturbed": any(piece["disturbed"] for piece in (*ours, *theirs)),
    }  # fmt: skip


def told(found: Mapping[str, Any]) -> list[str]:
    """A run in lines for the terminal."""
    one, work = figures(found), found["work"]
    memory = "{:.2f} and {:.2f} GB".format(*one["memory"])
    lines = [
        f"  heed {one['ours']:.3g}, {found['sides'][1]['name']} {one['theirs']:.3g} {UNITS[work]}/s: "
        f"{one['ratio']:.2f}x ({one['low']:.2f} to {one['high']:.2f}); {memory}; load average {one['load']:.1f}",
        f"  a piece {one['seconds']:.2f} s, its arithmetic {one['floor']:.2f} s: {one['use']:.0%} used "
        f"(the peer {one['their_use']:.0%}); " + rates(found),
    ]
    if update := of_update(found):
        lines.append(f"  {update}")
    return [*lines, "  BESIDE OTHER WORK: no measurement"] if one["disturbed"] else lines


def of_update(found: Mapping[str, Any]) -> str:
    """How much of the update phase of heed's PPO is arithmetic; empty where nothing was updated."""
    pieces = [piece for piece in found["sides"][0]["pieces"] if "update" in piece]
    if not pieces:
        return ""
    took, use = (
        median(values) for values in zip(*((p["update"], p["update floor"] / p["update"]) for p in pieces), strict=True)
    )
    return f"update phase {took:.2f} s, {use:.0%} used"


def rates(found: Mapping[str, Any]) -> str:
    """The machine's rates in one line."""
    return "GFLOP/s: " + ", ".join(f"{kind} {number / 1e9:.0f}" for kind, number in found["rates"].items())


def page(kept: Mapping[str, Mapping[str, Any]]) -> str:
    """`results.md`."""
    head = "| work | shape | heed | peer | | ratio | memory, GB | a piece, s | floor, s | use | peer's use |"
    lines = [ABOUT, head, "|" + "---|" * 11]
    notes = []
    for found in kept.values():
        one, work, peer = figures(found), found["work"], found["sides"][1]["name"]
        unit = f"{UNITS[work]}/s"
        lines.append(
            f"| {WHAT[work]}{' **!**' if one['disturbed'] else ''} | {found['shape']} | {one['ours']:.3g} {unit} | "
            f"{one['theirs']:.3g} | {peer} | **{one['ratio']:.2f}** ({one['low']:.2f} – {one['high']:.2f}) | "
            f"{one['memory'][0]:.2f}, {one['memory'][1]:.2f} | {one['seconds']:.2f} | {one['floor']:.2f} | "
            f"{one['use']:.0%} | {one['their_use']:.0%} |"
        )
        host, tried = found["host"], ", ".join(f"{name} {rate:.0f}" for name, rate in found["settings"].items())
        notes.append(
            f"- {work}, {found['shape']}: {found['commit'][:10]}, {found['when']}, {host['processor']}, "
            f"{host['threads']} threads, bfloat16 {host['bfloat16']}, load average {one['load']:.1f}, "
            f"{len(found['sides'][0]['pieces'])} rounds; {rates(found)}"
            + (f"; {update}" if (update := of_update(found)) else "")
            + (f"; tokens/s: {tried}" if tried else "")
        )
    return "\n".join([*lines, "", *notes]) + "\n"


def write(kept: Mapping[str, Mapping[str, Any]], results: Path) -> None:
    """The results, and the page of them beside."""
    results.write_text(json.dumps(kept, indent=1) + "\n")
    results.with_suffix(".md").write_text(page(kept))
