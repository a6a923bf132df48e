"""What all rules share that pick one attempt by its own score, and do not add scores up within an answer."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from thinkscale.registry import spec
from thinkscale.selection.ballots import Ballots, BoolArray, FloatArray, Invalid, Ties, Way, class_sums, shared_out
from thinkscale.selection.majority import Majority
from thinkscale.selection.readings import last_score
from thinkscale.selection.votes import attempts
from thinkscale.selection.voting import Voting
from thinkscale.types import Ranking, Trace


@spec
class Picking(Voting):
    """The attempt with the highest reading wins; ties are between attempts, not between answers.

    An attempt without a reading comes last; where none has one, the most frequent answer wins. Confidence is the share
    of attempts that agree with the winner's answer: readings have no common scale.
    """

    @property
    def way(self) -> Way:
        """By the highest reading, unless the rule finds its leaders in a way of its own."""
        return Way.picked if type(self).leading is Picking.leading else Way.alone

    def leading(self, ballots: Ballots) -> BoolArray:
        """Which voters have the highest reading of their pool, shape [..., n]; none where none has a reading."""
        scores = np.where(ballots.votes, self.judged(ballots), -math.inf)
        highest = scores.max(axis=-1, keepdims=True, initial=-math.inf)
        leads: BoolArray = (scores == highest) & (scores > -math.inf)
        return leads

    def judged(self, ballots: Ballots) -> FloatArray:
        """What is compared, shape [..., n]; larger is better."""
        return ballots.scores

    def shares(self, ballots: Ballots) -> FloatArray:
        """The part of the win that goes to each class: its share of the attempts that lead."""
        leads = self.leading(ballots)
        of_class = class_sums(ballots, leads.astype(np.float64))
        plain = shared_out(class_sums(ballots, ballots.votes.astype(np.float64)))
        total = leads.sum(axis=-1, keepdims=True)
        return np.where(total > 0, of_class / np.maximum(total, 1), plain)

    def __call__(self, traces: Sequence[Trace]) -> Ranking:
        """Find the highest reading of a pool."""
        pool = attempts(traces)
        ballots = self.ballots(pool)
        counted = Majority(invalid=self.invalid, ties=self.ties, seed=self.seed)(pool)
        leaders = [pool[i] for i in np.flatnonzero(self.leading(ballots))]
        if not leaders:
            return counted
        best = self._chosen(leaders)
        key = best.answer.key if best.answer else ""
        agree = next(v.count for v in counted.votes if v.key == key)
        whole = len(pool) if self.invalid is Invalid.ignore else int(ballots.votes.sum())
        return replace(counted, best=best, confidence=agree / whole)

    def _chosen(self, leaders: list[Trace]) -> Trace:
        match self.ties:
            case Ties.random:
                return random.Random(self.seed).choice(leaders)
            case Ties.score:
                return max(leaders, key=last_score)
            case Ties.lexicographic:
                return min(leaders, key=lambda t: t.answer.key if t.answer else "")
            case _:
                return leaders[0]
