"""What a store holds, served again: the whole draws of its runs, each once."""

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.engines.tabular import START, Tabular
from thinkscale.errors import EngineError, StoreError
from thinkscale.methods.best_of_n import BestOfN
from thinkscale.methods.budget_forcing import BudgetForcing
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.recordings import replay_of
from thinkscale.session import Run
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import Store
from thinkscale.types import Problem, Stopped

QUESTION = "2 + 2?"


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "runs.db")
    yield store
    store.close()


async def run(engine, store=None, method=None, *, question=QUESTION, seed=0, budget="", concurrency=None):
    method = method or SelfConsistency(n=8, stop=Fixed())
    return await solve(
        Problem.of(question),
        method,
        engine,
        budget=Budget.parse(budget),
        run=Run(seed=seed, concurrency=concurrency),
        store=store,
    )


def texts(outcome):
    return [t.text for t in outcome.traces]


async def test_a_recorded_run_comes_out_again_without_its_model(store):
    first = await run(Tabular(), store)
    again = await run(replay_of(store), seed=5)
    assert texts(again) == texts(first)
    assert (again.answer, again.votes, again.usage.output_tokens) == (
        first.answer, first.votes, first.usage.output_tokens
    )  # fmt: skip
    assert replay_of(store).capabilities.name == "tabular (replayed)"


async def test_another_method_can_be_tried_on_the_recorded_draws(store):
    first = await run(Tabular(), store, BestOfN(n=6))
    again = await run(replay_of(store), method=BestOfN(n=6))
    assert [t.scores[-1].value for t in again.traces] == [t.scores[-1].value for t in first.traces]
    assert texts(await run(replay_of(store), method=SelfConsistency(n=6, stop=Fixed()))) == texts(first)


async def test_draws_of_several_runs_are_joined_and_shared_ones_served_once(store):
    short = await run(Tabular(), store, SelfConsistency(n=3, stop=Fixed()))
    long = await run(Tabular(), store, SelfConsistency(n=8, stop=Fixed()))
    other = await run(Tabular(), store, SelfConsistency(n=4, stop=Fixed()), seed=1)
    assert texts(long)[:3] == texts(short)
    assert texts(await run(replay_of(store), method=SelfConsistency(n=12, stop=Fixed()))) == texts(long) + texts(other)
    alone = await run(replay_of(store, run=other.run), method=SelfConsistency(n=4, stop=Fixed()))
    assert texts(alone) == texts(other)


async def test_every_question_has_its_own_draws(store):
    asked = {q: await run(Tabular(), store, question=q) for q in ("a?", "b?")}
    engine = replay_of(store)
    for question, first in asked.items():
        assert texts(await run(engine, question=question)) == texts(first)


async def test_what_failed_or_was_cut_or_holds_our_own_words_is_left_out(store):
    lines = [Line(fails=EngineError("down")), "The answer is 4.", Line(fails=EngineError("down")), "The answer is 5."]
    first = await run(Scripted(lines), store, SelfConsistency(n=4, stop=Fixed()), concurrency=1)
    assert [t.error for t in first.traces] == ["down", None, "down", None]
    await run(Scripted(lambda _: "a b c d e f g h"), store, SelfConsistency(n=3, stop=Fixed()), budget="tokens=6")
    await run(Scripted(lambda _: "So 3."), store, BudgetForcing(waits=1))
    [pool] = replay_of(store).pools.values()
    assert [c.text for c in pool] == ["The answer is 4.", "The answer is 5."]


async def test_draws_of_two_models_are_not_mixed(store):
    first = await run(Tabular(), store)
    await run(Scripted(lambda _: "The answer is 7."), store)
    with pytest.raises(StoreError, match="several models to replay: choose one of `scripted`, `tabular`"):
        replay_of(store)
    assert texts(await run(replay_of(store, model="tabular"))) == texts(first)


async def test_a_store_without_such_draws_is_refused(store):
    with pytest.raises(StoreError, match="no whole draws to replay"):
        replay_of(store)
    await run(Tabular(), store)
    with pytest.raises(StoreError, match="no whole draws of the model `x`"):
        replay_of(store, model="x")


async def test_a_question_that_no_run_asked_is_a_miss(store):
    await run(Tabular({START: {"x": 0.5, "<end>": 0.5}}), store)
    out = await run(replay_of(store), question="3 + 3?")
    assert out.stopped is Stopped.error
    assert "`3 + 3?`" in out.traces[0].error
