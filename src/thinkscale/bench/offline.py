"""Rules on recorded pools: every selection rule at every number of attempts, every stop rule with what it takes.

The rules are those that run live. Nothing is drawn and nothing is asked.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from thinkscale.bench.library import Question
from thinkscale.bench.resample import Graded, curves, random_orders, singular
from thinkscale.bench.stats import Paired, paired_difference
from thinkscale.bench.stopping import stops
from thinkscale.errors import BenchError, ScorerError
from thinkscale.needs import Capability, own_needs
from thinkscale.selection import Selector
from thinkscale.selection.ballots import numbered
from thinkscale.selection.majority import Majority
from thinkscale.selection.numeric import Numeric
from thinkscale.selection.voting import Voting
from thinkscale.stopping import StopRule
from thinkscale.stopping.confidences import confidence
from thinkscale.stopping.counts import CountRule
from thinkscale.stopping.esc import Esc
from thinkscale.stopping.fixed import Fixed
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
    """Against majority vote over as many attempts, at the largest number; paired by question."""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """What a stop rule takes and gets, per question, with a majority vote over what was drawn."""

    rule: str
    accuracy: float
    """In [0, 1], averaged over random orders of the attempts."""
    samples: float
    tokens: float
    """Generated tokens of the attempts that were drawn, those without an answer included."""
    against: Paired | None
    """Against a majority vote over all attempts; paired by question."""
    note: str = ""
    """Where it found nothing to read and took all attempts."""


def select(
    questions: Sequence[Question], rules: Sequence[Selector], sizes: Sequence[int], *, resamples: int, seed: int = 0
) -> list[Curve]:
    """Every rule at every number of attempts, over random subsets without replacement.

    Args:
        questions: the pool.
        rules: what is compared.
        sizes: numbers of attempts; no pool may have fewer than the largest.
        resamples: subsets of each size and question; the same ones for all rules, but at most `FEW` for a rule that
            has to see each of them by itself.
        seed: of the subsets.

    Raises:
        BenchError: a question has fewer attempts than the largest size.
    """
    least = min(len(q.traces) for q in questions)
    if max(sizes) > least:
        raise BenchError(f"{max(sizes)} attempts were asked for and a question has {least}: end `--n` at {least}")
    baseline = _at_sizes(Majority(), questions, sizes, resamples, seed)
    return [_curve(rule, questions, sizes, resamples=resamples, seed=seed, baseline=baseline) for rule in rules]


def stop(
    questions: Sequence[Question], rules: Sequence[StopRule], cap: int, *, orders: int, seed: int = 0
) -> list[Stop]:
    """Every stop rule on random orders of the attempts, capped.

    Args:
        questions: the pool.
        rules: what is compared.
        cap: most attempts per question.
        orders: random orders of each question's attempts.
        seed: of the orders.
    """
    drawn = [_Orders.of(q, cap, orders, seed + number) for number, q in enumerate(questions)]
    full = np.array([d.spent(np.full(orders, d.classes.shape[1]))[0] for d in drawn])
    found = []
    for rule in rules:
        parts = np.array([d.spent(d.until(rule)) for d in drawn])
        against = paired_difference(parts[:, 0], full) if len(questions) > 1 else None
        accuracy, samples, tokens = parts.mean(axis=0).tolist()
        found.append(
            Stop(
                rule=repr(rule),
                accuracy=accuracy,
                samples=samples,
                tokens=tokens,
                against=against,
                note=_blind(rule, questions),
            )
        )
    return found


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
    return f"{where} has {what}, so it takes all attempts there, as `fixed` does" if number else ""


def _has_logprobs(trace: Trace) -> bool:
    return trace.answer is not None and any(s.logprobs is not None and s.logprobs.chosen for s in trace.segments)


def _has_score(kind: str, trace: Trace) -> bool:
    return confidence(trace, kind) is not None


@dataclass(frozen=True, slots=True)
class _Orders:
    """One question's attempts in random orders."""

    traces: tuple[Trace, ...]
    order: NDArray[np.intp]
    """Which trace comes when, shape [orders, attempts]; so for the next two."""
    classes: NDArray[np.intp]
    tokens: Floats
    """Running sums."""
    credits: Floats
    """Of each class."""

    @classmethod
    def of(cls, question: Question, cap: int, orders: int, seed: int) -> _Orders:
        keys = [t.answer.key if t.answer else None for t in question.traces]
        classes = numbered(keys)
        worth = [question.credits.get(key, 0.0) for key in dict.fromkeys(k for k in keys if k is not None)]
        size = len(keys)
        order = np.random.default_rng(seed).permuted(np.tile(np.arange(size), (orders, 1)), axis=1)[:, :cap]
        tokens = np.array([t.tokens for t in question.traces], float)
        return cls(question.traces, order, classes[order], tokens[order].cumsum(axis=1), np.array(worth))

    def until(self, rule: StopRule) -> NDArray[np.intp]:
        """How many attempts a rule takes in each order; one that reads more than answers is shown the traces."""
        if isinstance(rule, Fixed | Esc | CountRule):
            return stops(rule, self.classes)
        return np.array([_called(rule, [self.traces[i] for i in row]) for row in self.order], np.intp)

    def spent(self, drawn: NDArray[np.intp]) -> tuple[float, float, float]:
        """Mean credit, samples and tokens."""
        won = [_share(row[:n], self.credits) for row, n in zip(self.classes.tolist(), drawn.tolist(), strict=True)]
        paid = self.tokens[np.arange(len(drawn)), drawn - 1]
        return sum(won) / len(won), float(drawn.mean()), float(paid.mean())


def _called(rule: StopRule, traces: Sequence[Trace]) -> int:
    return next((n for n in range(1, len(traces)) if rule(traces[:n])), len(traces))


def _share(row: Sequence[int], credits: Floats) -> float:
    """The credit of a plurality vote, equal shares split."""
    counts = Counter(c for c in row if c >= 0)
    most = max(counts.values(), default=0)
    leaders = [c for c, count in counts.items() if count == most]
    return float(np.mean([credits[c] for c in leaders])) if leaders else 0.0


def _curve(
    rule: Selector,
    questions: Sequence[Question],
    sizes: Sequence[int],
    *,
    resamples: int,
    seed: int,
    baseline: Floats,
) -> Curve:
    name = repr(rule)
    if not isinstance(rule, Voting) or isinstance(rule, Numeric):
        return Curve(rule=name, accuracy=(), note="gives a number of its own, so there is no answer to grade")
    if _unread(rule, questions):
        return Curve(rule=name, accuracy=(), note="the pool does not have what it reads")
    note = ""
    if singular(rule) and resamples > FEW:
        note = f"over {FEW} subsets of each size, since it is slow, and so is the majority vote in its difference"
        resamples, baseline = FEW, _at_sizes(Majority(), questions, sizes, FEW, seed)
    try:
        at = _at_sizes(rule, questions, sizes, resamples, seed)
    except ScorerError as error:
        return Curve(rule=name, accuracy=(), note=str(error))
    against = paired_difference(at[:, -1], baseline[:, -1]) if len(questions) > 1 else None
    return Curve(rule=name, accuracy=tuple(at.mean(axis=0).tolist()), against=against, note=note)


def _unread(rule: Voting, questions: Sequence[Question]) -> bool:
    """Whether a rule finds nothing to weigh votes by in any trace."""
    return all(not np.isfinite(rule.ballots(q.traces).scores).any() for q in questions)


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
