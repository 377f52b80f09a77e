"""The cost of a step is foretold from two of nine steps, and how far off each is told."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("slower", [1.0, 2.0])
def test_what_follows_the_formula_is_foretold(slower: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("cost", None)
    import cost

    found: dict[tuple[str, int], dict[str, Any]] = {}
    for size, model in enumerate(cost.MODELS, start=1):
        for batch in cost.BATCHES:
            work, in_flight = 1e9 * size * batch, 1e6 * size * batch
            found[model, batch] = {
                "seconds": work / 1e9 / 0.5, "bytes": 1e9 + 1e8 * size + 50 * in_flight, "weights": 1e8 * size,
                "in_flight": in_flight, "rates": {"rows": 1e9}, "operations": [{"rows": work}],
            }  # fmt: skip
    found["124 M", 16]["seconds"] *= slower
    told = cost.table("sft", found)
    assert told[0] == "sft: use 50%, kept 50 bytes a token, layer and width, program 1.00 GB"
    lines = [line for line in told if line.startswith("| ") and " M |" in line]
    assert len(lines) == 9 and all("| +0% |" in line for line in lines[:-1])
    assert (f"| {1 / slower - 1:+.0%} |" in lines[-1]) and lines[-1].endswith("| +0% |")
