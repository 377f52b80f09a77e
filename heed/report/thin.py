"""Fewer points of a long line: the extremes stay, since a spike is what a person looks for."""

from __future__ import annotations

from collections.abc import Sequence

DRAWN = 400  # points of a line
LISTED = 24  # rows of the table beneath, besides the extremes
LONG = 160  # points from which a noisy line gets its mean drawn over it
WINDOWS = 40  # means in a line


def thin(values: Sequence[float | None], most: int = DRAWN) -> list[int]:
    """Indices, in order, of at most `most` values: the first, the last, and the lowest and highest of equal buckets."""
    count = len(values)
    if count <= most:
        return list(range(count))
    buckets = (most - 2) // 2
    kept = {0, count - 1}
    for bucket in range(buckets):
        inside = range(bucket * count // buckets, (bucket + 1) * count // buckets)
        known = [(value, i) for i in inside if (value := values[i]) is not None]
        if known:
            kept |= {min(known)[1], max(known)[1]}
    return sorted(kept)


def listed(lines: Sequence[Sequence[float | None]], most: int = LISTED) -> list[int]:
    """Indices of the rows of a table of lines over the same x: evenly spaced, the ends, and each line's extremes."""
    count = len(lines[0]) if lines else 0
    kept = {round(i * (count - 1) / (most - 1)) for i in range(most)} if count > most else set(range(count))
    for line in lines:
        known = [(value, i) for i, value in enumerate(line) if value is not None]
        kept |= {min(known)[1], max(known)[1]} if known else set()
    return sorted(kept)


def moving_mean(values: Sequence[float | None], window: int) -> list[float | None]:
    """Mean of the known values in a window centred on each; None where it holds none."""
    half, sums, counts = window // 2, [0.0], [0]
    for value in values:
        sums.append(sums[-1] + (value or 0.0))
        counts.append(counts[-1] + (value is not None))
    means: list[float | None] = []
    for i in range(len(values)):
        low, high = max(0, i - half), min(len(values), i + half + 1)
        known = counts[high] - counts[low]
        means.append((sums[high] - sums[low]) / known if known else None)
    return means
