"""What every stop rule promises: a verdict that follows from the traces alone, and none before there is an answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast

from thinkscale.contracts import verdict_of
from thinkscale.pace import Foreseen
from thinkscale.stopping import StopRule
from thinkscale.stopping.counts import CountRule, counted
from thinkscale.testing.guarantees import Guarantee, Passed, Told, keep, made
from thinkscale.testing.runs import scored_pool
from thinkscale.types import Answer, Finish, Trace

MORE = 64
"""Further votes that the leader is given."""
POOLS = ("aaaaaaaa", "abababab", "aabbbccc", "a.a.bb.a", "..ab.aaaaa", "abcdefgh")
"""The answers of attempts in draw order, a dot for none."""


def check_stop_rule(rule: StopRule, *, told: Told | None = None) -> Passed:
    """Check that a stop rule is pure, never fires on nothing and never counts what has no answer.

    Args:
        rule: as a user would construct it; pools carry scores from 0 to 1 and log-probabilities.
        told: called with the words of every guarantee that is kept.

    Raises:
        AssertionError: a guarantee is broken.
    """
    guarantees = (
        Guarantee("it says true or false, the same of the same traces", lambda: _check_pure(rule)),
        Guarantee("it never fires before there is an answer", lambda: _check_nothing(rule)),
        Guarantee("what has no answer takes a draw and says nothing", lambda: _check_mute(rule)),
        Guarantee("what it says of how soon it can fire is true", lambda: _check_soonest(rule)),
        Guarantee("`within(n)` is such a rule for one run of n draws", lambda: _check_within(rule)),
    )
    return made(keep(rule, guarantees, told))


async def _check_pure(rule: StopRule) -> None:
    pools = await _pools()
    first = [[verdict_of(rule, shown) for shown in _prefixes(pool)] for pool in pools]
    for pool, verdicts in zip(reversed(pools), reversed(first), strict=True):
        again = [verdict_of(rule, tuple(shown)) for shown in reversed(_prefixes(pool))]
        assert verdicts == again[::-1], "its verdict depends on what it was shown before"
        shown = [*pool]
        verdict_of(rule, shown)
        assert shown == pool, "the traces that it was shown are others afterwards"


async def _check_nothing(rule: StopRule) -> None:
    assert not verdict_of(rule, []), "it fires on an empty pool"
    pools = await _pools("....")
    for shown in _prefixes(pools[0]):
        assert not verdict_of(rule, shown), f"it fires on {len(shown)} traces of which none has an answer"


async def _check_mute(rule: StopRule) -> None:
    for pool in await _pools():
        others = [t if t.answer else replace(t, scores=(), segments=(), finish=Finish.error) for t in pool]
        for shown, other in zip(_prefixes(pool), _prefixes(others), strict=True):
            assert verdict_of(rule, shown) == verdict_of(rule, other), (
                "what a trace without an answer says changes its verdict"
            )
            if isinstance(rule, CountRule):
                assert verdict_of(rule, shown) == rule.decided(counted(shown)), "`decided` and the call disagree"


async def _check_within(rule: StopRule) -> None:
    if not hasattr(rule, "within"):
        return
    for pool in await _pools():
        growing: StopRule = rule.within(len(pool) + 1)
        assert not verdict_of(growing, []), "`within(n)` fires on an empty pool"
        for shown in _prefixes(pool):
            alone: StopRule = rule.within(len(pool) + 1)
            seen = [*shown]
            assert verdict_of(growing, seen) == verdict_of(alone, shown), (
                "`within(n)` depends on having been asked before"
            )
            assert seen == shown, "the traces that `within(n)` was shown are others afterwards"


async def _check_soonest(rule: StopRule) -> None:
    """How large a wave of draws has to be is worked out from this."""
    for pool in await _pools():
        whole: StopRule = rule.within(len(pool)) if hasattr(rule, "within") else rule
        for seen in range(len(pool) if isinstance(whole, Foreseen) else 0):
            soonest = cast(Foreseen, whole).soonest(pool[:seen], len(pool) - seen)
            early = [more for more in range(1, soonest) if verdict_of(whole, pool[: seen + more])]
            assert not early, f"after {seen} draws it fires {early[:1]} later, and `soonest` said {soonest}"
        counts = counted(pool)
        if isinstance(rule, CountRule) and counts:
            grown = [rule.decided((counts[0] + more, *counts[1:])) for more in range(MORE)]
            assert grown == sorted(grown), "more votes for the leader make `decided` false again"


def _prefixes(pool: Sequence[Trace]) -> list[list[Trace]]:
    """What a rule is shown of a pool in a run: the first, the first two, …"""
    return [[*pool[: n + 1]] for n in range(len(pool))]


async def _pools(*answers: str) -> list[list[Trace]]:
    drawn = await scored_pool()
    return [[_saying(drawn[i % len(drawn)], a) for i, a in enumerate(word)] for word in answers or POOLS]


def _saying(trace: Trace, letter: str) -> Trace:
    return replace(trace, answer=None if letter == "." else Answer(text=letter, key=letter))
