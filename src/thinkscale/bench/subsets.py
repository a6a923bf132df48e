"""Nested random subsets of pools of one size, shared by all problems and rules, so that differences are paired.

An order of the attempts without replacement gives a subset of every size: its first 1, 2, … attempts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from thinkscale.selection.ballots import Ballots, FloatArray, IntArray

CountArray = NDArray[np.uint8]


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
