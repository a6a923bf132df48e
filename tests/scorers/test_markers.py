import asyncio
import math

import pytest

from thinkscale.budget import Budget, Ledger
from thinkscale.engines.scripted import Scripted
from thinkscale.errors import SpecError
from thinkscale.registry import parse
from thinkscale.scorers.fewest_hedges import FewestHedges
from thinkscale.scorers.markers import Markers
from thinkscale.session import Place, Run, Session
from thinkscale.types import Finish, Origin, Problem, Segment, Trace

PROBLEM = Problem.of("?")
HEDGED = "Maybe it is 4. Perhaps 5? I think so."


def said(text, tokens=100, ours=""):
    segments = (Segment(text=text, origin=Origin.sampled, tokens=tokens), Segment(text=ours, origin=Origin.injected))
    return Trace(prompt=PROBLEM.messages, segments=segments, finish=Finish.eos)


async def values(scorer, *traces):
    llm = Session(Place(engine=Scripted(), ledger=Ledger(Budget()), run=Run()))
    return [s.value for s in await scorer.score(PROBLEM, traces, llm)]


async def test_marker_words_are_counted_per_thousand_tokens_and_fewer_are_better():
    assert await values(Markers(), said(HEDGED), said(HEDGED, 1000), said("It is 4.")) == [-30.0, -3.0, 0.0]
    assert await values(Markers(prefer="most"), said(HEDGED)) == [30.0]


async def test_words_of_the_users_own_replace_the_list():
    scorer = parse('markers(words=["it is", "5"])', "scorer")
    assert await values(scorer, said(HEDGED)) == [-20.0]
    assert parse(repr(scorer), "scorer") == scorer


async def test_another_list_counts_other_words():
    text = "First we add, therefore 4. Wait, let me check."
    assert await values(Markers(lexicon="discourse-1", prefer="most"), said(text)) == [20.0]
    assert await values(Markers(lexicon="thinking-1"), said(text)) == [-20.0]


async def test_doubt_that_is_checked_counts_less():
    checked = HEDGED + " Let me verify: confirmed."
    assert await values(FewestHedges(), said(HEDGED), said(checked), said("4")) == [-3.0, -1.0, 0.0]


@pytest.mark.parametrize("name", ["markers", "fewest-hedges", "group-confidence", "self-certainty-top-k"])
async def test_between_long_attempts_others_have_their_turn(name):
    turns = 0

    async def other():
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(other())
    await values(parse(name, "scorer"), *[said(HEDGED)] * 50)
    task.cancel()
    assert turns >= 50


@pytest.mark.parametrize("scorer", [Markers(), FewestHedges()], ids=repr)
async def test_only_what_the_model_wrote_is_counted(scorer):
    assert len(set(await values(scorer, said(HEDGED), said(HEDGED, ours="maybe, maybe, verify")))) == 1
    assert await values(scorer, Trace(prompt=PROBLEM.messages)) == [-math.inf]


@pytest.mark.parametrize(
    "spec",
    [
        "markers(lexicon=hedges)",
        "markers(prefer=loud)",
        'markers(words=["so", " "])',
        "fewest-hedges(hedging=x)",
        f'markers(words=["{"so " * 400}"])',
    ],
)
def test_settings_that_make_no_sense_are_refused(spec):
    with pytest.raises(SpecError):
        parse(spec, "scorer")
