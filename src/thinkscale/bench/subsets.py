"""Nested random subsets of pools of one size, shared by all problems and rules, so that differences are paired.

An order of the attempts without replacement gives a subset of every size: its first 1, 2, … attempts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from thinkscale.selection.ballots import Ballots, BoolArray, FloatArray, IntArray

CountArray = NDArray[np.uint8]
Reals = NDArray[np.float32 | np.float64]
ROWS = 1_600_000
"""Bits that are looked at together row by row: they stay in the processor's cache, and each row costs a call."""


@dataclass(frozen=True, slots=True, eq=False)
class Graded:
    """A pool as one rule sees it, and what each of its answers is worth."""

    ballots: Ballots
    """Of one pool: arrays of shape [n]."""
    credits: FloatArray
    """Of each class, usually 1 where it is right and 0 where it is not; shape [classes]."""


@dataclass(frozen=True, slots=True, eq=False)
class Orders:
    """Random orders of n attempts, and which attempts are among the first k of each."""

    orders: IntArray
    """Shape [resamples, n]."""
    sizes: tuple[int, ...]
    """Ascending numbers of attempts, from 1 to n."""
    place: IntArray
    """Where attempt i comes in order r, shape [n, resamples]."""
    member: CountArray
    """1 where attempt i is among the first `sizes[s]` of order r, shape [n, sizes × resamples]."""


def random_orders(n: int, sizes: Sequence[int] | None = None, resamples: int = 1000, seed: int = 0) -> Orders:
    """Orders of n attempts without replacement; every size from 1 to n by default."""
    chosen = tuple(sorted(sizes)) if sizes is not None else tuple(range(1, n + 1))
    rng = np.random.default_rng(seed)
    orders = rng.permuted(np.tile(np.arange(n), (resamples, 1)), axis=1)
    place = np.argsort(orders, axis=1).T
    member = (place[:, None, :] < np.array(chosen)[None, :, None]).astype(np.uint8).reshape(n, -1)
    return Orders(orders, chosen, place, member)


def shuffle(orders: Orders, problem: int, seed: int = 0) -> IntArray:
    """The row of `member` that stands for each attempt of a problem, shape [n].

    With a shuffle of its own, a problem's subsets have nothing to do with those of another.
    """
    return np.random.default_rng([seed, problem]).permutation(orders.orders.shape[1])


def subsets(orders: Orders, rows: IntArray) -> IntArray:
    """The attempts of a problem in each order, shape [resamples, n]: the same subsets as indices."""
    return np.argsort(rows)[orders.orders]


class Chunk:
    """The subsets of some sizes, as columns; those of smaller sizes come first."""

    def __init__(self, orders: Orders, sizes: slice) -> None:
        self.sizes = np.array(orders.sizes[sizes])
        self.resamples = len(orders.orders)
        self.part = np.ascontiguousarray(orders.member[:, sizes.start * self.resamples : sizes.stop * self.resamples])
        """Rows of bits, shape [n, subsets]."""

    @cached_property
    def single(self) -> Reals:
        """The same as numbers."""
        return self.part.astype(np.float32)

    def spread(self, values: NDArray[np.integer]) -> CountArray:
        """Values of sizes as values of subsets."""
        return np.repeat(values.astype(np.uint8), self.resamples)

    def until(self, holds: BoolArray) -> list[int]:
        """How many subsets are of the smaller sizes, for which something holds; shape [cases, sizes]."""
        return [int(number) * self.resamples for number in holds.sum(axis=-1)]


def chunks(orders: Orders, most: int = ROWS) -> Iterator[tuple[slice, Chunk]]:
    """Some of the sizes at a time."""
    several = max(1, most // orders.orders.size)
    for start in range(0, len(orders.sizes), several):
        sizes = slice(start, min(start + several, len(orders.sizes)))
        yield sizes, Chunk(orders, sizes)


def present(drawn: Sequence[CountArray], wanted: BoolArray) -> CountArray:
    """How many of the wanted attempts are in each subset, shape [subsets]."""
    count = np.zeros(len(drawn[0]), np.uint8)
    for i in np.flatnonzero(wanted).tolist():
        count += drawn[i]
    return count
