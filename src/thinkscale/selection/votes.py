"""Counting votes, the part that every voting rule shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from thinkscale.types import Finish, Ranking, Trace, Vote


def tally(traces: Iterable[Trace], weigh: Callable[[Trace], float] = lambda _: 1.0) -> tuple[Vote, ...]:
    """The classes of a pool, heaviest first; equal weights stay in the order in which they were first seen.

    Args:
        traces: the pool, in draw order.
        weigh: the weight of one vote; must not be negative, or a larger class would lose by its size.
    """
    counts: dict[str, int] = {}
    weights: dict[str, float] = {}
    words: dict[str, str] = {}
    for trace in traces:
        if trace.answer is None:
            continue
        key = trace.answer.key
        words.setdefault(key, trace.answer.text)
        counts[key] = counts.get(key, 0) + 1
        weights[key] = weights.get(key, 0.0) + weigh(trace)
    order = sorted(counts, key=lambda key: -weights[key])
    return tuple(Vote(answer=words[k], key=k, count=counts[k], weight=weights[k]) for k in order)


def attempts(traces: Sequence[Trace]) -> list[Trace]:
    """The traces that count as attempts: all but those that were cancelled."""
    return [t for t in traces if t.finish is not Finish.aborted]


def elected(traces: Sequence[Trace], votes: tuple[Vote, ...], total: float) -> Ranking:
    """The ranking in which the first of the heaviest class wins, with its share of `total` as confidence.

    When nobody voted, the first attempt that did not fail stands for the pool, without an answer.
    """
    if not votes:
        spoke = (t for t in traces if t.finish not in (Finish.aborted, Finish.error))
        return Ranking(best=next(spoke, None))
    best = next(t for t in traces if t.answer is not None and t.answer.key == votes[0].key)
    return Ranking(best=best, votes=votes, confidence=votes[0].weight / total if total else None)
