"""DeepPrune (Tu et al. 2025): begin many attempts, see which are heading for the same answer, finish one of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar, Protocol

from thinkscale.budget import Cost
from thinkscale.clusters import Similarity, cluster
from thinkscale.contracts import rank
from thinkscale.needs import IN_A_QUESTION, IN_A_TURN, Capability, Needs, Sign
from thinkscale.registry import at_least, spec
from thinkscale.selection import Selector
from thinkscale.selection.weighted_vote import WeightedVote
from thinkscale.session import Session
from thinkscale.types import Finish, Outcome, Problem, Score, Trace


class Judge(Protocol):
    """Says which beginnings of attempts lead to the same answer."""

    async def similarity(self, problem: Problem, traces: Sequence[Trace], llm: Session) -> Similarity:
        """How likely any two of the traces are to agree."""
        ...

    def ceiling(self, cap: int) -> Cost:
        """The most that judging one trace can cost."""
        ...


@spec
class Deepprune:
    """Begin n attempts, cluster them by where they are heading, and finish a few per cluster, which vote for all of it.

    The paper's judge is a model trained for it, and its released text either has one of each cluster vote or finishes
    the largest cluster only. Here nothing has to be trained: each beginning is cut short and asked for its answer, and
    the votes keep the size of their cluster, so that a minority is not lost. Where an attempt is not finished, the
    answer that it was asked for stands.
    """

    n: int = 16
    """Attempts that are begun, at least 1."""
    probe_tokens: int = 256
    """Tokens after which attempts are compared."""
    answer_tokens: int = 16
    """Tokens in which a beginning that is asked for its answer gives it."""
    per_cluster: int = 1
    """Attempts of a cluster that are finished; those that had ended by themselves all count."""
    threshold: float = 0.5
    """Mean similarity above which an attempt joins a cluster."""
    max_clusters: int | None = None
    compared: int = 10
    """Members of a cluster that an attempt is compared with."""
    temperature: float = 0.8
    judge: Judge | None = None
    """Asks for no answers but compares beginnings in its own way; it can be given in Python only."""
    select: Selector = WeightedVote(kind="cluster")

    needs: ClassVar = Needs(
        can=frozenset({Capability.prefill}),
        gives={"cluster": Sign.not_negative},
        loses=IN_A_TURN | IN_A_QUESTION,
        effort={"n": 1},
    )

    def __post_init__(self) -> None:
        least = {"probe_tokens": self.probe_tokens, "answer_tokens": self.answer_tokens, "compared": self.compared}
        at_least(1, n=self.n, per_cluster=self.per_cluster, max_clusters=self.max_clusters, **least)

    async def solve(self, problem: Problem, llm: Session) -> Outcome:
        """Begin, look where it leads, prune, finish, vote."""
        first = min(self.probe_tokens, llm.cap)
        begun = await llm.sample(problem, self.n, max_tokens=first, temperature=self.temperature)
        pool, alive = {t.path: _pruned(t) for t in begun}, [t for t in begun if not t.finish.lost]
        probes = alive if self.judge else await self._probed(alive, llm)
        similarity = await self.judge.similarity(problem, alive, llm) if self.judge else _agreement(probes)
        weights: dict[int, float] = {}
        for members in cluster(similarity, self.threshold, self.max_clusters, self.compared):
            ended = [i for i in members if alive[i].finish is not Finish.length]
            kept = ended + [i for i in members if i not in ended][: max(0, self.per_cluster - len(ended))]
            weights |= dict.fromkeys(kept, len(members) / len(kept))
        finished = await self._finished({i: alive[i] for i in sorted(weights)}, llm.cap - first, llm)
        for i, trace in finished.items():
            voter = probes[i] if trace.answer is None and probes[i].answer is not None else trace
            pool[alive[i].path] = voter.scored(Score(value=weights[i], kind="cluster"))
        return Outcome.of(rank(self.select, list(pool.values())), list(pool.values()))

    def ceiling(self, cap: int) -> Cost:
        """No two attempts agree: all are asked and all are finished."""
        look = self.judge.ceiling(cap) if self.judge else Cost(tokens=self.answer_tokens, calls=1)
        return (Cost(tokens=cap, calls=2) + look) * self.n

    async def _probed(self, traces: Sequence[Trace], llm: Session) -> list[Trace]:
        """The traces, and those that had not ended with the answer that they were asked for."""
        cut = [i for i, t in enumerate(traces) if t.finish is Finish.length]
        closed = [llm.closed(traces[i]) for i in cut]
        asked = await llm.extend(closed, max_tokens=self.answer_tokens, temperature=0.0, final=False)
        answers = dict(zip(cut, asked, strict=True))
        return [answers.get(i, t) for i, t in enumerate(traces)]

    async def _finished(self, kept: dict[int, Trace], left: int, llm: Session) -> dict[int, Trace]:
        open_ones = [i for i, t in kept.items() if t.finish is Finish.length and left > 0]
        ends = await llm.extend([kept[i] for i in open_ones], max_tokens=left, temperature=self.temperature)
        return kept | dict(zip(open_ones, ends, strict=True))


def _agreement(probes: Sequence[Trace]) -> Similarity:
    keys = [t.answer.key if t.answer else None for t in probes]
    return [[float(a is not None and a == b) for b in keys] for a in keys]


def _pruned(trace: Trace) -> Trace:
    if trace.finish.lost:
        return trace
    return replace(trace, finish=Finish.aborted, answer=None, error="pruned: another attempt of its cluster goes on")
