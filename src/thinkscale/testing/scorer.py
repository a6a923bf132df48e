"""What every scorer promises: it judges every trace, in order, by what the model said alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from thinkscale.budget import Budget, Ledger
from thinkscale.contracts import scores_of
from thinkscale.engines.scripted import Scripted
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.scorers import Scorer
from thinkscale.session import Place, Run, Session
from thinkscale.testing.guarantees import Guarantee, Passed, Told, keep, made
from thinkscale.testing.runs import PROBLEM, outcome_of, talk
from thinkscale.types import AnswerKind, Finish, Trace


def check_scorer(scorer: Scorer, *, told: Told | None = None) -> Passed:
    """Check that a scorer judges every trace, in order, by what the model said alone.

    Args:
        scorer: as a user would construct it.
        told: called with the words of every guarantee that is kept.

    Raises:
        AssertionError: a guarantee is broken.
    """
    guarantees = (
        Guarantee("every trace has one score, and an empty pool none", lambda: _check_count(scorer)),
        Guarantee("a score does not depend on the place in the pool", lambda: _check_order(scorer)),
        Guarantee("what was injected is not judged", lambda: _check_injected(scorer)),
        Guarantee("traces without log-probabilities or text have a score too", lambda: _check_bare(scorer)),
    )
    return made(keep(scorer, guarantees, told))


async def _check_count(scorer: Scorer) -> None:
    await _scores(scorer, await _pool(scorer))
    assert await _scores(scorer, []) == [], "an empty pool has scores"


async def _check_order(scorer: Scorer) -> None:
    pool = await _pool(scorer)
    forwards, backwards = await _scores(scorer, pool), await _scores(scorer, pool[::-1])
    assert backwards == forwards[::-1], "a trace's score depends on its place in the pool"


async def _check_injected(scorer: Scorer) -> None:
    pool = await _pool(scorer)
    nudged = [t.inject(" Wait") for t in pool]
    assert await _scores(scorer, nudged) == await _scores(scorer, pool), "text that was injected changed a score"


async def _check_bare(scorer: Scorer) -> None:
    pool = await _pool(scorer)
    await _scores(scorer, [replace(t, segments=tuple(replace(s, logprobs=None) for s in t.segments)) for t in pool])
    await _scores(scorer, [Trace(prompt=PROBLEM.messages, finish=Finish.error, error="gone")])


async def _pool(scorer: Scorer) -> list[Trace]:
    drawn = (await outcome_of(BestOfN(n=6, scorer=scorer), Scripted(talk))).traces
    return [replace(t, scores=()) for t in drawn if t.answer is not None]


async def _scores(scorer: Scorer, traces: Sequence[Trace]) -> list[float]:
    session = Session(Place(engine=Scripted(talk), ledger=Ledger(Budget()), run=Run(seed=1), kind=AnswerKind.math))
    return [score.value for score in await scores_of(scorer, PROBLEM, traces, session)]
