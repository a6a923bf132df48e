"""The median of numeric answers on many subsets at once, where who is in which is a row of bits for each attempt."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from thinkscale.bench.subsets import Chunk, CountArray, Orders, chunks, present
from thinkscale.selection.ballots import FloatArray, IntArray


def medians(values: Sequence[FloatArray], orders: Orders, rows: Sequence[IntArray]) -> FloatArray:
    """The median of the finite numbers in every subset, shape [problems, sizes, resamples]; NaN where there is none."""
    found = np.empty((len(values), len(orders.sizes), len(orders.orders)))
    for sizes, chunk in chunks(orders):
        lines = [*chunk.part]
        for problem, own in enumerate(values):
            middle = _medians(own, [lines[row] for row in rows[problem].tolist()], chunk)
            found[problem, sizes] = middle.reshape(-1, len(orders.orders))
    return found


def _medians(values: FloatArray, drawn: Sequence[CountArray], chunk: Chunk) -> FloatArray:
    known = np.flatnonzero(np.isfinite(values))
    if not known.size:
        return np.full(len(drawn[0]), np.nan)
    order = known[np.argsort(values[known], kind="stable")]
    count = present(drawn, np.isfinite(values)) if len(known) < len(values) else chunk.spread(chunk.sizes)
    # The place of a middle number is how many numbers of the pool come before it: at least as many as in the subset.
    first, second = (np.maximum(count, 1) - 1) // 2, count // 2
    fewest = np.maximum(chunk.sizes - (len(values) - len(known)), 0)
    sure = (np.maximum(fewest, 1) - 1) // 2, fewest // 2
    low, high = (chunk.spread(own) for own in sure)
    passed = np.arange(len(known))[:, None]
    ends = [chunk.until(passed <= len(known) - (fewest - sure[1])), *(chunk.until(passed > own) for own in sure)]
    running = np.zeros(len(count), np.uint8)
    for i, end, *open_ in zip(order[:-1].tolist(), *(own[1:] for own in ends), strict=True):
        running[:end] += drawn[i][:end]
        for place, most, until in zip((low, high), (first, second), open_, strict=True):
            some = slice(0, min(end, until))
            place[some] += (running[some] <= most[some]).view(np.uint8)
    left, right = values[order].take(low, mode="clip"), values[order].take(high, mode="clip")
    middle = np.where(left == right, left, left / 2 + right / 2)
    middle[count == 0] = np.nan
    return middle
