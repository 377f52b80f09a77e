"""The benchmark of the doctor measures a step with and without its checks; how long they take is not tested."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import torch

PLACE = Path(__file__).parents[2] / "benchmarks"


def test_both_steps_of_a_pair_learn_from_the_same_rollout(tmp_path: Path) -> None:
    names = run_path(str(PLACE / "doctor_cost.py"), run_name="doctor_cost")
    shape = names["Shape"](layers=1, width=32, heads=2, vocab=64, batch=8, prompt=6, response=6, steps=2)
    bench = names["Bench"](shape, tmp_path)
    drawn = []

    def collect(*arguments: object) -> object:
        drawn.append(original(*arguments))
        return drawn[-1]

    original = bench.ppo.worker.collect
    object.__setattr__(bench.ppo.worker, "collect", collect)
    pairs = list(bench.pairs())
    assert len(pairs) == 2 and all(without > 0 and 0 < checks < watched for without, watched, checks in pairs)
    assert bench.step == 3 and len(drawn) == 6
    for one, other in zip(drawn[::2], drawn[1::2], strict=True):
        assert torch.equal(one.responses.tokens, other.responses.tokens)
