"""Pools of traces: who counts as an attempt, how plain votes fall, and who stands for a pool that nobody answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from thinkscale.types import Finish, Ranking, Trace, Vote


def tally(traces: Iterable[Trace]) -> tuple[Vote, ...]:
    """The classes of a pool by their number of votes; equal ones stay in the order in which they were first seen."""
    counts: dict[str, int] = {}
    words: dict[str, str] = {}
    for trace in traces:
        if trace.answer is not None:
            words.setdefault(trace.answer.key, trace.answer.text)
            counts[trace.answer.key] = counts.get(trace.answer.key, 0) + 1
    order = sorted(counts, key=lambda key: -counts[key])
    return tuple(Vote(answer=words[k], key=k, count=counts[k], weight=float(counts[k])) for k in order)


def attempts(traces: Sequence[Trace]) -> list[Trace]:
    """The traces that count as attempts: all but those that were cancelled."""
    return [t for t in traces if t.finish is not Finish.aborted]


def unheard(traces: Sequence[Trace]) -> Ranking:
    """The ranking of a pool in which nobody voted: the first attempt that did not fail, without an answer."""
    spoke = (t for t in traces if not t.finish.lost)
    return Ranking(best=next(spoke, None))
