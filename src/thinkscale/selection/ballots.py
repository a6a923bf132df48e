"""Ballots as arrays: what a voting rule sees of a pool, of a thousand subsets of it, or of a thousand pools.

Every function here takes arrays whose last axis is the attempts of one pool, and any axes before it, so that a rule is
written once and serves a live pool of traces and an offline evaluation alike. Nothing here knows a trace's text.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from thinkscale.types import Answer, Finish, Trace

IntArray = NDArray[np.intp]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

BEYOND = 1e300
"""Readings beyond it count as it does, so that their sums and differences stay in the range of a float."""
NO_ANSWER = ""
"""The key under which attempts without an answer vote where they are allowed to."""


class Invalid(StrEnum):
    """What becomes of an attempt without an answer.

    Published code differs. compute-optimal-tts drops it; in search-and-learn the empty answer can win, and so can the
    number that stands for none in the code of Singhi et al. 2025; the loader of Best-of-∞ deletes it from the pool,
    which raises the pass@1 that is reported.
    """

    ignore = "ignore"
    """It casts no vote and stays in the denominator of the confidence."""
    vote = "vote"
    """All of them are one class, which can win."""
    drop = "drop"
    """It is taken out of the pool before anything is counted."""


class Ties(StrEnum):
    """Which of several leaders a ranking names. An evaluation shares the credit among them whatever is chosen here.

    Published code differs. search-and-learn, compute-optimal-tts, self-certainty and HEX name the one seen first,
    Eureka a random one, Best-of-∞ the smallest in one place and the first in another; RPC shares the credit.
    """

    first_seen = "first_seen"
    fractional = "fractional"
    """As `first_seen` where one winner has to be named."""
    random = "random"
    """By the rule's seed and the names of the leaders, so that the same pool gives the same winner."""
    score = "score"
    """The one with the highest last score; equal ones as `first_seen`."""
    lexicographic = "lexicographic"
    """The smallest key."""


class Way(StrEnum):
    """How a rule is evaluated on many subsets of a pool at once; each needs what a rule of that way has."""

    own = "own"
    """Each vote has a weight of its own, by `weigh`, whoever else is in the subset."""
    standing = "standing"
    """What a vote weighs follows from its standing alone, by `weigh`."""
    kept = "kept"
    """A vote has a weight of its own where its standing is beyond `place` of the number of voters, and else none."""
    agreeing = "agreeing"
    """A vote adds to every class that was given what `utilities` says."""
    picked = "picked"
    """Attempts with the highest reading, by `judged`, share the win."""
    fitted = "fitted"
    """Something is fitted to each subset, and `shares` takes many of them."""
    alone = "alone"
    """By `shares` of every subset by itself: slow, and right for any rule."""


@dataclass(frozen=True, slots=True, eq=False)
class Ballots:
    """The votes of a pool, or of many pools of one size."""

    classes: IntArray
    """Number of the answer's class, shape [..., n]; −1 casts no vote."""
    scores: FloatArray
    """What the rule weighs a vote by, same shape; minus infinity where it could not be judged."""
    texts: IntArray
    """Attempts with equal numbers said the same, word for word; same shape."""
    keys: tuple[str, ...]
    """The key of each class; the same for a pool and all its subsets."""
    words: tuple[str, ...]
    """The words of each class's first answer."""

    @property
    def votes(self) -> BoolArray:
        """Which attempts cast a vote."""
        return self.classes >= 0

    def take(self, order: IntArray) -> Ballots:
        """The subsets of one pool that rows of indices name; `order` has any shape [..., k]."""
        return Ballots(self.classes[order], self.scores[order], self.texts[order], self.keys, self.words)


def numbered(values: Iterable[Hashable]) -> IntArray:
    """Numbers of equal values, in order of first appearance; `None` is −1."""
    known: dict[Hashable, int] = {}
    return np.array([-1 if v is None else known.setdefault(v, len(known)) for v in values], np.intp)


def answer_of(trace: Trace, invalid: Invalid) -> Answer | None:
    """What an attempt votes for, `None` where it casts no vote; one that failed casts none under any policy."""
    if trace.answer is None and invalid is Invalid.vote and trace.finish is not Finish.error:
        return Answer(NO_ANSWER, NO_ANSWER)
    return trace.answer


def ballots_of(traces: Sequence[Trace], invalid: Invalid, scores: Sequence[float]) -> Ballots:
    """A pool as arrays; classes are numbered as they were first seen, and a score that is not a number is missing."""
    answers = [answer_of(t, invalid) for t in traces]
    readings = np.array([max(-BEYOND, min(s, BEYOND)) if s > -math.inf else -math.inf for s in scores], np.float64)
    words = {a.key: a.text for a in reversed(answers) if a is not None}
    order = dict.fromkeys(a.key for a in answers if a is not None)
    return Ballots(
        classes=numbered(None if a is None else a.key for a in answers),
        scores=readings,
        texts=numbered(t.text for t in traces),
        keys=tuple(order),
        words=tuple(words[key] for key in order),
    )


def standings(scores: FloatArray) -> IntArray:
    """How many of the same pool score no better, oneself included; shape [..., n], NaN is left out of the count.

    Equal scores share the better place, so the order of the pool decides nothing.
    """
    count: IntArray = (scores[..., None, :] <= scores[..., :, None]).sum(axis=-1, dtype=np.intp)
    return count


def first_of_kind(ballots: Ballots) -> BoolArray:
    """Whether no earlier voter of the pool said the same; shape [..., n]."""
    texts = np.where(ballots.votes, ballots.texts, -1)
    earlier = np.tri(texts.shape[-1], k=-1, dtype=bool)
    unseen: BoolArray = ~((texts[..., None, :] == texts[..., :, None]) & earlier).any(axis=-1)
    return unseen


def rounded(weights: FloatArray) -> FloatArray:
    """Weights with a mantissa of 24 bits.

    Sums of them are exact in double precision while they span a factor below some ten million, so that what ties is
    decided by the votes and not by the order in which they were added.
    """
    bits = np.ascontiguousarray(weights, np.float64).view(np.int64)
    exact: FloatArray = ((bits + (1 << 28)) & ~((1 << 29) - 1)).view(np.float64)
    return exact


def counted(weights: FloatArray, votes: BoolArray) -> FloatArray:
    """Weights as they are summed: rounded, 0 where no vote was cast or none could be weighed; shape [..., n].

    In a pool without any positive weight every vote counts 1, as an answer that nobody could judge is still an answer.
    """
    whole = np.where(votes & np.isfinite(weights), rounded(weights), 0.0)
    lost = ~(whole > 0).any(axis=-1, keepdims=True)
    return np.where(lost, votes.astype(np.float64), whole)


def class_sums(ballots: Ballots, weights: FloatArray) -> FloatArray:
    """The weight of each class, shape [..., classes]."""
    sums = [np.where(ballots.classes == c, weights, 0.0).sum(axis=-1) for c in range(len(ballots.words))]
    return np.stack(sums, axis=-1) if sums else np.zeros((*ballots.classes.shape[:-1], 0))


def from_highest(scores: FloatArray) -> FloatArray:
    """Logarithms of weights, minus the highest of their pool where its weight would leave the range of a double."""
    top = scores.max(axis=-1, keepdims=True, initial=-np.inf)
    return scores - np.where(np.isfinite(top) & (np.abs(top) > 300), top, 0.0)


def shared_out(tallies: FloatArray) -> FloatArray:
    """The share of the win of each class, shape [..., classes]: equal parts for the leaders, 0 without votes."""
    if not tallies.shape[-1]:
        return tallies
    top = tallies.max(axis=-1, keepdims=True)
    leads = (tallies == top) & (top > 0)
    shares: FloatArray = leads / np.maximum(leads.sum(axis=-1, keepdims=True), 1)
    return shares
