"""What all voting rules share: one policy for missing answers and ties, one way from weights to a winner.

A rule says how a vote is weighed; that is all it says. It may look at the vote's own score, at how many others score no
better, and at how many vote; the same few lines then elect a winner live and evaluate the rule on subsets offline.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

import numpy as np

from thinkscale.errors import ScorerError
from thinkscale.needs import NOTHING, Needs
from thinkscale.registry import coerce, spec
from thinkscale.selection.ballots import (
    NO_ANSWER,
    Ballots,
    FloatArray,
    IntArray,
    Invalid,
    Ties,
    Way,
    ballots_of,
    class_sums,
    counted,
    first_of_kind,
    from_highest,
    shared_out,
    standings,
)
from thinkscale.selection.readings import last_score
from thinkscale.selection.votes import attempts, unheard
from thinkscale.types import Ranking, Trace, Vote


@spec
class Voting:
    """The heaviest class wins; its first trace stands for it.

    Confidence is the winner's share of the weight, times the share of attempts that voted: one without an answer counts
    against every answer, unless `invalid` says otherwise.
    """

    invalid: Invalid = Invalid.ignore
    """`ignore`, `vote` or `drop`: what becomes of attempts without an answer."""
    ties: Ties = Ties.first_seen
    """`first_seen`, `fractional`, `random`, `score` or `lexicographic`."""
    seed: int = 0
    """Of random ties."""

    unique: ClassVar[bool] = False
    """Whether only the first of several equal texts votes."""

    def __post_init__(self) -> None:
        check_policy(self)

    @property
    def needs(self) -> Needs:
        """What the rule reads off attempts; answers alone unless it says otherwise."""
        return NOTHING

    @property
    def way(self) -> Way:
        """How the rule is evaluated on many subsets at once: `alone` where it counts votes in a way of its own."""
        usual = type(self).weights is Voting.weights and type(self).tallies is Voting.tallies
        return Way.own if usual and not self.ranked else Way.alone

    @property
    def ranked(self) -> bool:
        """Whether `weigh` looks at standings or at the number of voters."""
        return False

    @property
    def logarithmic(self) -> bool:
        """Whether scores are logarithms of weights, so that only their differences count."""
        return False

    def read(self, trace: Trace) -> float:
        """What a vote is weighed by, minus infinity when there is nothing to read."""
        return 0.0

    def weigh(self, scores: FloatArray, standing: IntArray, voters: IntArray) -> FloatArray:
        """Weights of votes, element by element; the three arrays broadcast.

        Args:
            scores: as `read` gave them.
            standing: how many voters of the pool score no better, oneself included; only if `ranked`.
            voters: how many vote in the pool; only if `ranked`.
        """
        return np.ones_like(scores)

    def place(self, voters: IntArray) -> FloatArray:
        """How many of so many voters are left out when all scores differ; only of rules of the way `kept`."""
        return np.zeros(voters.shape)

    def utilities(self, ballots: Ballots) -> FloatArray:
        """What the column is worth when the row is right, shape [classes, classes]; only of the way `agreeing`."""
        return np.eye(len(ballots.words))

    def ballots(self, traces: Sequence[Trace]) -> Ballots:
        """A pool as arrays; classes are numbered in the order in which they were first seen."""
        return ballots_of(traces, self.invalid, [self.read(t) for t in traces])

    def weights(self, ballots: Ballots) -> FloatArray:
        """The weight of every vote, shape [..., n]."""
        votes = ballots.votes & (first_of_kind(ballots) if self.unique else True)
        scores = np.where(votes, ballots.scores, np.nan)
        voters = votes.sum(axis=-1, keepdims=True, dtype=np.intp)
        standing = standings(scores) if self.ranked else voters
        scores = np.where(votes, scores, -np.inf)
        if self.logarithmic:
            scores = from_highest(scores)
        return counted(self.weigh(scores, standing, voters), votes)

    def tallies(self, ballots: Ballots) -> FloatArray:
        """The weight of each class, shape [..., classes]; 0 where it has no vote."""
        return class_sums(ballots, self.weights(ballots))

    def shares(self, ballots: Ballots) -> FloatArray:
        """The part of the win that goes to each class, ties shared out; shape [..., classes]."""
        return shared_out(self.tallies(ballots))

    def __call__(self, traces: Sequence[Trace]) -> Ranking:
        """Weigh the votes of a pool and count them."""
        pool = attempts(traces)
        ballots = self.ballots(pool)
        if not ballots.votes.any():
            return unheard(pool)
        return elected(self, pool, ballots, self.tallies(ballots))


def check_policy(rule: Voting) -> None:
    """Turn the words of a policy into members of their enums.

    Raises:
        SpecError: a word is not one of them.
    """
    coerce(rule, invalid=Invalid, ties=Ties)


def not_negative(scores: FloatArray, rule: object) -> FloatArray:
    """The scores, where they can be summed.

    Raises:
        ScorerError: one is negative.
    """
    lowest = float(np.where(np.isfinite(scores), scores, 0.0).min(initial=0.0))
    if lowest < 0:
        raise ScorerError(
            f"`{rule!r}` was given the score {lowest:.4g}, and with weights below 0 an answer loses by being given "
            "more often: map scores to positive numbers, as `weighted-vote(transform=sigmoid)` does, or rank them"
        )
    return scores


def elected(rule: Voting, traces: Sequence[Trace], ballots: Ballots, tallies: FloatArray) -> Ranking:
    """The ranking of a pool in which at least one vote was cast, from the positive weight of each class."""
    ranking = ordered(rule, traces, ballots, tallies)
    voters = sum(vote.count for vote in ranking.votes)
    whole = len(traces) if rule.invalid is Invalid.ignore else voters
    confidence = ranking.votes[0].weight * voters / (float(tallies.sum()) * whole)
    return replace(ranking, confidence=min(1.0, confidence))


def ordered(rule: Voting, traces: Sequence[Trace], ballots: Ballots, tallies: FloatArray) -> Ranking:
    """The same without a confidence, from values of classes that may be below 0."""
    classes, weights = ballots.classes.tolist(), tallies.tolist()
    firsts = {c: i for i, c in reversed([*enumerate(classes)])}
    counts = Counter(classes)
    highest = max(weights)
    leaders = [c for c, weight in enumerate(weights) if weight == highest]
    winner = leaders[0] if len(leaders) == 1 else _chosen(rule, leaders, traces, ballots)
    order = sorted(range(len(weights)), key=lambda c: (-weights[c], c != winner, c))
    votes = tuple(_vote(traces[firsts[c]], counts[c], weights[c]) for c in order)
    return Ranking(best=traces[firsts[winner]], votes=votes)


def _chosen(rule: Voting, leaders: list[int], traces: Sequence[Trace], ballots: Ballots) -> int:
    members: dict[int, list[Trace]] = {c: [] for c in leaders}
    for trace, own in zip(traces, ballots.classes.tolist(), strict=True):
        if own in members:
            members[own].append(trace)
    keys = {c: own[0].answer.key if own[0].answer else NO_ANSWER for c, own in members.items()}
    match rule.ties:
        case Ties.random:
            by_key = sorted(leaders, key=lambda c: keys[c])
            return random.Random(f"{rule.seed}:{[keys[c] for c in by_key]}").choice(by_key)
        case Ties.score:
            return max(leaders, key=lambda c: max(map(last_score, members[c])))
        case Ties.lexicographic:
            return min(leaders, key=lambda c: keys[c])
        case _:
            return leaders[0]


def _vote(first: Trace, count: int, weight: float) -> Vote:
    answer, key = (first.answer.text, first.answer.key) if first.answer else (NO_ANSWER, NO_ANSWER)
    return Vote(answer=answer, key=key, count=count, weight=weight)
