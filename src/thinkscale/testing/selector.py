"""What every selection rule promises: it is pure, deaf to what has no answer, and picks from the pool."""

from __future__ import annotations

from dataclasses import replace

from thinkscale.contracts import rank
from thinkscale.selection import Selector
from thinkscale.testing.guarantees import Guarantee, Passed, Told, keep, made
from thinkscale.testing.runs import scored_pool


def check_selector(selector: Selector, *, told: Told | None = None) -> Passed:
    """Check that a selection rule is pure, ignores what has no answer, and picks from the pool.

    Args:
        selector: as a user would construct it; the pool is scored with numbers from 0 to 1.
        told: called with the words of every guarantee that is kept.

    Raises:
        AssertionError: a guarantee is broken.
    """
    guarantees = (
        Guarantee("it picks from the pool", lambda: _check_pick(selector)),
        Guarantee("the same pool has the same ranking", lambda: _check_pure(selector)),
        Guarantee("what has no answer does not vote", lambda: _check_mute(selector)),
    )
    return made(keep(selector, guarantees, told))


async def _check_pick(selector: Selector) -> None:
    pool = await scored_pool()
    ranking = rank(selector, pool)
    if ranking.confidence is not None:
        assert 0 <= ranking.confidence <= 1, f"the confidence is {ranking.confidence}"
    assert ranking.best in pool, "the winner is not in the pool"
    assert rank(selector, pool[:1]).best == pool[0], "a pool of one does not elect it"
    assert rank(selector, []).best is None, "an empty pool elects somebody"


async def _check_pure(selector: Selector) -> None:
    pool = await scored_pool()
    shown = [*pool]
    assert rank(selector, shown) == rank(selector, tuple(pool)), "the same pool gives two rankings"
    assert shown == pool, "the pool that it was shown is another one afterwards"


async def _check_mute(selector: Selector) -> None:
    pool = await scored_pool()
    mute = [replace(t, answer=None) for t in pool]
    votes = rank(selector, pool).votes
    assert rank(selector, [*pool, *mute]).votes == votes, "traces without an answer vote"
    assert rank(selector, mute).votes == (), "a pool without answers has votes"
