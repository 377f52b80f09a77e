"""Which rows go through the model together."""

from __future__ import annotations

import math
from collections.abc import Sequence

PASS_COST = {"cpu": 64}  # tokens that a processor could compute in the time that a pass takes by itself
PASS_COST_ELSEWHERE = 4096  # an accelerator waits for Python long before it is busy


def microbatches(
    lengths: Sequence[int], microbatch_tokens: int, device: str = "cpu", heights: Sequence[int] | None = None
) -> list[list[int]]:
    """Row numbers in groups of like length, longest first: the partition that costs least, padding and passes counted.

        cost = Σ over groups (rows · longest + what a pass costs)        rows · longest ≤ microbatch_tokens

    Groups filled up to the budget would pad a batch of demonstrations to three times its tokens (Alpaca's lengths, 32
    rows, 8,192 tokens). An item too long for the budget goes alone. `heights[i]` is the number of rows of item i.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    pass_cost = PASS_COST.get(device, PASS_COST_ELSEWHERE)
    cheapest, starts = [0.0], [0]
    for end in range(1, len(order) + 1):
        least, best, rows = math.inf, end - 1, 0
        for start in range(end - 1, -1, -1):
            rows += 1 if heights is None else heights[order[start]]
            area = rows * lengths[order[start]]
            if area > microbatch_tokens and start < end - 1:
                break
            cost = cheapest[start] + area + pass_cost
            if cost < least:
                least, best = cost, start
        cheapest.append(least)
        starts.append(best)
    groups, end = [], len(order)
    while end:
        groups.append(order[starts[end] : end])
        end = starts[end]
    return groups[::-1]
