"""Rules on recorded pools: every selection rule at every number of attempts, every stop rule with what it
needs at a pace.

The rules are those that run live. Nothing is drawn and nothing is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from thinkscale.bench.clock import Attempts, Law, plurality
from thinkscale.bench.library import Question
from thinkscale.bench.resample import Graded, curves, random_orders, singular
from thinkscale.bench.stats import Paired, paired_difference
from thinkscale.errors import BenchError, ScorerError
from thinkscale.needs import Capability, own_needs
from thinkscale.pace import Pace
from thinkscale.selection import Selector
from thinkscale.selection.majority import Majority
from thinkscale.selection.numeric import Numeric
from thinkscale.selection.voting import Voting
from thinkscale.stopping import StopRule
from thinkscale.stopping.confidences import confidence
from thinkscale.types import Trace

Floats = NDArray[np.float64]
FEW = 100
"""Subsets that a rule is asked about which has to see each of them by itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """Accuracy of a selection rule by number of attempts."""

    rule: str
    accuracy: tuple[float, ...]
    """One for each number of attempts, in [0, 1]; empty when the pool lacks what the rule reads."""
    against: Paired | None = None
    """Against another rule, majority vote by default, over as many attempts, at the largest number; by question."""
    baseline: float = math.nan
    """The accuracy of that other rule there: what is subtracted."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What a stop rule takes and gets, per question, with a majority vote over what counts."""

    rule: str
    accuracy: float
    """In [0, 1], averaged over random orders of the attempts; equal shares split."""
    samples: float
    """Attempts that count."""
    needed: float
    """Generated tokens that the rule needs, those of attempts without an answer included."""
    depth: float
    """Tokens that have to be written one after another."""
    against: Paired | None
    """Against another rule, by default a majority vote over all attempts; paired by question."""
    baseline: float
    """The accuracy of that other rule: what is subtracted."""
    note: str = ""
    """Where it found nothing to read and took all attempts."""


def select(
    questions: Sequence[Question],
    rules: Sequence[Selector],
    sizes: Sequence[int],
    *,
    resamples: int,
    seed: int = 0,
    against: Voting | None = None,
) -> list[Curve]:
    """Every rule at every number of attempts, over random subsets without replacement.

    Args:
        questions: the pool.
        rules: what is compared.
        sizes: numbers of attempts; no pool may have fewer than the largest.
        resamples: subsets of each size and question; the same ones for all rules, but at most `FEW` for a rule that
            has to see each of them by itself.
        seed: of the subsets.
        against: the rule whose accuracy is subtracted; majority vote when `None`.

    Raises:
        BenchError: a question has fewer attempts than the largest size.
    """
    least = min(len(q.traces) for q in questions)
    if max(sizes) > least:
        raise BenchError(f"{max(sizes)} attempts were asked for and a question has {least}: end `--n` at {least}")
    basis = _Basis.of(against or Majority(), questions, sizes, resamples=resamples, seed=seed)
    return [_curve(rule, questions, sizes, basis) for rule in rules]


def stop(
    questions: Sequence[Question],
    rules: Sequence[StopRule],
    cap: int,
    *,
    orders: int,
    seed: int = 0,
    pace: Pace = Pace.steady,
    places: int | None = None,
    against: StopRule | None = None,
) -> list[Stop]:
    """Every stop rule on random orders of the attempts, capped.

    Args:
        questions: the pool.
        rules: what is compared; one that has to know how many attempts there are is told the cap.
        cap: most attempts per question.
        orders: random orders of each question's attempts.
        seed: of the orders.
        pace: how large waves are.
        places: attempts that are made at once; `None` for all.
        against: the rule whose accuracy is subtracted, at the same pace; `None` for one that makes every attempt.
    """
    drawn = [_Orders.of(q, cap, orders, seed + number) for number, q in enumerate(questions)]
    base = Law(against, n=cap, pace=pace, places=places)
    full = np.array([d.spent(base)[0] for d in drawn])
    found = []
    for rule in rules:
        bounded = _within(rule, cap)
        law = Law(rule, n=cap, pace=pace, places=places)
        parts = np.array([d.spent(law) for d in drawn])
        accuracy, samples, needed, depth = parts.mean(axis=0).tolist()
        found.append(
            Stop(
                rule=repr(bounded if type(bounded) is type(rule) else rule),
                accuracy=accuracy,
                samples=samples,
                needed=needed,
                depth=depth,
                against=paired_difference(parts[:, 0], full) if len(questions) > 1 else None,
                baseline=float(full.mean()),
                note=_blind(rule, questions),
            )
        )
    return found


@dataclass(frozen=True, slots=True)
class _Orders:
    """One question's attempts in random orders."""

    attempts: Attempts
    orders: list[list[int]]
    """Which attempt is drawn first, second, …"""
    credits: list[float]
    """Of each class of answers."""

    @classmethod
    def of(cls, question: Question, cap: int, orders: int, seed: int) -> _Orders:
        attempts = Attempts.of(question.traces)
        keys = dict.fromkeys(t.answer.key for t in question.traces if t.answer)
        rows = np.tile(np.arange(len(question.traces)), (orders, 1))
        order = np.random.default_rng(seed).permuted(rows, axis=1)[:, :cap].tolist()
        return cls(attempts, order, [question.credits.get(key, 0.0) for key in keys])

    def spent(self, law: Law) -> tuple[float, float, float, float]:
        """Mean credit, attempts that count, tokens needed and depth."""
        parts = []
        for order in self.orders:
            run = law.run(self.attempts, order)
            answers = (self.attempts.classes[i] for i in run.voters)
            won = [self.credits[c] for c in plurality([c if c >= 0 else None for c in answers])]
            parts.append((sum(won) / max(1, len(won)), len(run.voters), run.needed, run.depth))
        credit, samples, needed, depth = np.mean(parts, axis=0).tolist()
        return credit, samples, needed, depth


def _within(rule: StopRule, cap: int) -> StopRule:
    """A rule that is told how many attempts there may be, where it has to know; what does its work then has no name."""
    bounded: StopRule = rule.within(cap) if hasattr(rule, "within") else rule
    return bounded


def _blind(rule: StopRule, questions: Sequence[Question]) -> str:
    """On how many questions a rule finds nothing of what it reads, so that it takes all attempts; empty for none."""
    needs = own_needs(rule)
    if Capability.logprobs in needs.can:
        what, reads = "log-probabilities", _has_logprobs
    elif needs.scores:
        kind = min(needs.scores)
        what = f"a `{kind}` score" if kind else "a score"
        reads = partial(_has_score, kind)
    else:
        return ""
    number = sum(not any(map(reads, q.traces)) for q in questions)
    where = "no answer" if number == len(questions) else f"on {number} of {len(questions)} questions no answer"
    told = f"{where} has {what}, so it takes all attempts there, as `fixed` does{_offered(questions, rule)}"
    return told if number else ""


def _has_logprobs(trace: Trace) -> bool:
    return trace.answer is not None and any(s.logprobs is not None and s.logprobs.chosen for s in trace.segments)


def _has_score(kind: str, trace: Trace) -> bool:
    return confidence(trace, kind) is not None


@dataclass(frozen=True, slots=True)
class _Basis:
    """What rules are compared with, and on which subsets."""

    rule: Voting
    resamples: int
    seed: int
    accuracy: Floats
    """Per question and size, shape [Q, sizes]."""

    @classmethod
    def of(
        cls, rule: Voting, questions: Sequence[Question], sizes: Sequence[int], *, resamples: int, seed: int
    ) -> _Basis:
        return cls(rule, resamples, seed, _at_sizes(rule, questions, sizes, resamples, seed))


def _curve(rule: Selector, questions: Sequence[Question], sizes: Sequence[int], basis: _Basis) -> Curve:
    name = repr(rule)
    if not isinstance(rule, Voting) or isinstance(rule, Numeric):
        return Curve(rule=name, accuracy=(), note="gives a number of its own, so there is no answer to grade")
    if _unread(rule, questions):
        return Curve(rule=name, accuracy=(), note=f"the pool does not have what it reads{_offered(questions, rule)}")
    note = ""
    if singular(rule) and basis.resamples > FEW:
        note = f"over {FEW} subsets of each size, since it is slow, and so is what it is compared with"
        basis = _Basis.of(basis.rule, questions, sizes, resamples=FEW, seed=basis.seed)
    try:
        at = _at_sizes(rule, questions, sizes, basis.resamples, basis.seed)
    except ScorerError as error:
        return Curve(rule=name, accuracy=(), note=str(error))
    last = basis.accuracy[:, -1]
    return Curve(
        rule=name,
        accuracy=tuple(at.mean(axis=0).tolist()),
        against=paired_difference(at[:, -1], last) if len(questions) > 1 else None,
        baseline=float(last.mean()),
        note=note,
    )


def _unread(rule: Voting, questions: Sequence[Question]) -> bool:
    """Whether a rule finds nothing to weigh votes by in any trace."""
    return all(not np.isfinite(rule.ballots(q.traces).scores).any() for q in questions)


def _offered(questions: Sequence[Question], rule: Selector | StopRule) -> str:
    """The tail of a note about a rule that finds nothing to read: which scores there are, if it reads scores."""
    if not own_needs(rule).scores:
        return ""
    kinds = sorted({score.kind for q in questions for t in q.traces for score in t.scores})
    return f"; its scores are {', '.join(f'`{kind}`' for kind in kinds)}" if kinds else "; it has no scores at all"


def _at_sizes(rule: Voting, questions: Sequence[Question], sizes: Sequence[int], resamples: int, seed: int) -> Floats:
    """Mean credit per question and size, shape [Q, sizes]; pools of one size are looked at together."""
    found = np.zeros((len(questions), len(sizes)))
    for size in sorted({len(q.traces) for q in questions}):
        which = [i for i, q in enumerate(questions) if len(q.traces) == size]
        pools = [_graded(rule, questions[i]) for i in which]
        found[which] = curves(rule, pools, random_orders(size, sizes, resamples, seed), seed)
    return found


def _graded(rule: Voting, question: Question) -> Graded:
    ballots = rule.ballots(question.traces)
    return Graded(ballots, np.array([question.credits.get(key, 0.0) for key in ballots.keys]))
