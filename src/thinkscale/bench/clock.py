"""The token clock on recorded attempts: who votes under a stop rule and a pace, and what that needs.

It is the law that the session keeps live, worked out from lengths and answers alone. With one place, draws are made and
looked at one after another.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from thinkscale.pace import Pace, least, least_votes, wave_size
from thinkscale.stopping import StopRule
from thinkscale.stopping.counts import CountRule, Counts
from thinkscale.types import Answer, Finish, Trace

Voter = TypeVar("Voter", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Attempts:
    """Recorded attempts at one question."""

    traces: tuple[Trace, ...]
    classes: tuple[int, ...]
    """Number of the class of each answer, by first appearance; −1 without an answer."""
    tokens: tuple[int, ...]
    """Sampled tokens of each."""

    @classmethod
    def of(cls, traces: Sequence[Trace]) -> Attempts:
        """Attempts with equal keys under one class."""
        numbers: dict[str, int] = {}
        classes = tuple(numbers.setdefault(t.answer.key, len(numbers)) if t.answer else -1 for t in traces)
        return cls(tuple(traces), classes, tuple(t.tokens for t in traces))

    @classmethod
    def told(cls, answers: Sequence[str | None], tokens: Sequence[int]) -> Attempts:
        """Attempts of which answers and lengths are all that is known."""
        traces = tuple(Trace(prompt=(), answer=None if a is None else Answer(a, a), finish=Finish.eos) for a in answers)
        found = cls.of(traces)
        return cls(traces, found.classes, tuple(tokens))


@dataclass(frozen=True, slots=True)
class Run:
    """What a rule takes of the attempts at one question."""

    voters: tuple[int, ...]
    """Numbers of the attempts that count, in the order in which they do."""
    needed: int
    """Tokens: full lengths in all waves but the last; there, up to the attempt at which the rule fired."""
    depth: int
    """Tokens one after another: of every wave the longest attempt; of the last, that at which the rule fired."""
    sizes: tuple[int, ...]
    """Draws of every wave."""
    fired: bool


class Law:
    """A stop rule at a pace; what it works out about counts is kept for the next run."""

    def __init__(self, rule: StopRule | None, *, n: int, pace: Pace = Pace.steady, places: int | None = None) -> None:
        """Keep the terms.

        Args:
            rule: the one that ends the drawing; `None` for none.
            n: most attempts, at least 1.
            pace: how large waves are.
            places: attempts that the engine makes at once; `None` for all.
        """
        self.rule = rule
        self.n, self.pace, self.places = n, pace, places
        self._known: dict[int, _Known] = {}

    def run(self, attempts: Attempts, order: Sequence[int] | None = None) -> Run:
        """What the rule takes.

        Args:
            attempts: at one question.
            order: number of the attempt that is drawn first, second, …; at most n of them are drawn.
        """
        order = (range(len(attempts.tokens)) if order is None else order)[: self.n]
        total, lengths = len(order), [attempts.tokens[i] for i in order]
        ranks = [
            math.inf if attempts.traces[i].finish is Finish.error else length
            for i, length in zip(order, lengths, strict=True)
        ]
        eyes = self._eyes(total)
        voters: list[int] = []
        sizes: list[int] = []
        needed = depth = first = 0
        while first < total:
            left = total - first
            size = wave_size(self.pace, eyes.least(left), n=total, left=left, places=self.places)
            sizes.append(size)
            wave, end = range(first, first + size), 0
            for number, draw in enumerate(sorted(wave, key=lambda j: (ranks[j], j)), 1):
                voters.append(order[draw])
                end = max(end, lengths[draw])
                if eyes.see(attempts, order[draw]):
                    own = sum(attempts.tokens[i] for i in voters[first:])
                    return Run(tuple(voters), needed + own + end * (size - number), depth + end, tuple(sizes), True)
            needed += sum(lengths[j] for j in wave)
            depth += max(lengths[j] for j in wave)
            first += size
        return Run(tuple(voters), needed, depth, tuple(sizes), False)

    def _eyes(self, total: int) -> _Eyes:
        rule = self.rule
        if rule is not None and hasattr(rule, "within"):
            rule = rule.within(total)
        if isinstance(rule, CountRule):
            return _Counting(self._known.setdefault(total, _Known(rule)))
        return _Watching(rule)


def plurality(answers: Sequence[Voter | None]) -> list[Voter]:
    """The most frequent answers, those seen first before the others; none without any."""
    votes = Counter(a for a in answers if a is not None)
    most = max(votes.values(), default=0)
    return [a for a, count in votes.items() if count == most]


class _Eyes(Protocol):
    """What a rule has seen in one run."""

    def see(self, attempts: Attempts, number: int) -> bool:
        """Whether it fires with one more attempt."""
        ...

    def least(self, left: int) -> int:
        """How soon it could fire."""
        ...


class _Watching:
    """A rule that is shown the attempts."""

    def __init__(self, rule: StopRule | None) -> None:
        self._rule = rule
        self._traces: list[Trace] = []

    def see(self, attempts: Attempts, number: int) -> bool:
        self._traces.append(attempts.traces[number])
        return self._rule is not None and self._rule(self._traces)

    def least(self, left: int) -> int:
        return least(self._rule, self._traces, left)


class _Known:
    """Counts as states: an answer leads from one to the next by how many votes it had, and each is judged once."""

    def __init__(self, rule: CountRule) -> None:
        self.rule = rule
        self.counts: list[Counts] = [()]
        self.fires = [False]
        self.after: list[dict[int, int]] = [{}]
        """For every state, the next one by the votes that the answer had."""
        self.least: dict[tuple[int, int], int] = {}
        """By state and draws left."""
        self._numbers: dict[Counts, int] = {(): 0}

    def next(self, state: int, had: int) -> int:
        """The state after an answer that had so many votes."""
        votes = list(self.counts[state])
        if had:
            votes.remove(had)
        counts = tuple(sorted([*votes, had + 1], reverse=True))
        if counts not in self._numbers:
            self._numbers[counts] = len(self.counts)
            self.counts.append(counts)
            self.fires.append(self.rule.decided(counts))
            self.after.append({})
        self.after[state][had] = self._numbers[counts]
        return self._numbers[counts]


class _Counting:
    """A rule on counts."""

    def __init__(self, known: _Known) -> None:
        self._known, self._state = known, 0
        self._votes: dict[int, int] = {}

    def see(self, attempts: Attempts, number: int) -> bool:
        answer, known = attempts.classes[number], self._known
        if answer < 0:
            return False
        had = self._votes.get(answer, 0)
        self._votes[answer] = had + 1
        after = known.after[self._state].get(had)
        self._state = known.next(self._state, had) if after is None else after
        return known.fires[self._state]

    def least(self, left: int) -> int:
        known, place = self._known, (self._state, left)
        if place not in known.least:
            known.least[place] = least_votes(known.rule, known.counts[self._state], left)
        return known.least[place]
