"""Who is let in, who shares a run, and what is cancelled when nobody wants it any more."""

import asyncio
import gc
import random
from contextlib import nullcontext
from dataclasses import replace

import pytest

from clocks import on_a_clock_of_its_own
from thinkscale.budget import Budget
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.errors import CapabilityError, EngineError, ServeError
from thinkscale.methods.budget_forcing import BudgetForcing
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.serve.fair_queue import FairQueue
from thinkscale.serve.records import Api, Asked, Order
from thinkscale.serve.runs import Running, Runs
from thinkscale.serve.shown import choices_of
from thinkscale.session import Run, Session
from thinkscale.session.flight import Flight
from thinkscale.stopping.fixed import Fixed
from thinkscale.store import Store
from thinkscale.types import Problem, Sampling, Stopped, Trace


def order(engine=None, n=3, question="2 + 2?", seconds=None):
    asked = Asked(api=Api.chat, model="m", problem=Problem.of(question), sampling=Sampling())
    return Order(
        asked=asked,
        method=SelfConsistency(n=n, stop=Fixed()),
        engine=engine or Scripted(lambda _: Line(says="The answer is 4.", pace=0.001)),
        sampling=Sampling(max_tokens=50),
        budget=Budget(seconds=seconds),
        seed=1,
    )


def slow():
    return Scripted(lambda _: Line(says="The answer is 4. " + "w " * 400, pace=0.005))


async def test_a_run_gives_its_events_and_its_outcome():
    runs = Runs()
    async with runs.wanted(order()) as running:
        events = [event async for event in running.events()]
        outcome = await running.outcome()
    assert outcome.answer == "4"
    assert sum(event.trace is not None for event in events) == 3
    assert runs.alive == 0


async def test_requests_of_one_name_share_a_run_also_after_it_has_ended():
    engine = Scripted(lambda _: Line(says="The answer is 4.", pace=0.001))
    runs = Runs()

    async def client():
        async with runs.wanted(order(engine), name="a") as running:
            return await running.outcome()

    first, second = await asyncio.gather(client(), client())
    third = await client()
    assert first is second is third
    assert len(engine.cues) == 3


async def test_the_last_client_to_leave_cancels_the_run():
    engine, runs = slow(), Runs()
    async with runs.wanted(order(engine), name="a") as one:
        async with runs.wanted(order(engine), name="a") as two:
            assert one is two
            await asyncio.sleep(0.02)
        assert runs.alive == 1
    assert runs.alive == 0
    assert engine.spent.output_tokens < 3 * 400
    async with runs.wanted(order(), name="a") as again:
        assert (await again.outcome()).answer == "4"


async def _ended(way):
    """A run that came to its end in some way, of which nobody keeps anything."""
    runs = Runs()
    failing = Scripted(lambda _: Line(says="x", fails=EngineError("broken")))
    engine = {"failed": failing, "left": slow()}.get(way)
    async with runs.wanted(order(engine), name="a") as running:
        if way == "left":
            return await asyncio.sleep(0.01)
        async for _ in running.events():
            pass
        for _ in range(2):
            with nullcontext() if way == "done" else pytest.raises(EngineError):
                await running.outcome()


@pytest.mark.parametrize("way", ["done", "failed", "left"])
async def test_of_a_run_that_is_over_nothing_waits_for_the_collector(way):
    def alive():
        # By their type alone: other libraries have objects that warn when they are asked what they are.
        return sum(type(o) in (Running, Run, Session, Flight, Problem, Trace) for o in gc.get_objects())

    await _ended(way)
    gc.collect()
    gc.disable()
    try:
        before = alive()
        await _ended(way)
        await asyncio.sleep(0)
        assert alive() <= before
    finally:
        gc.enable()


async def test_a_failed_run_is_not_what_a_retry_gets():
    broken = Scripted(lambda _: Line(says="x"), can=frozenset())
    runs = Runs()
    bad = order(broken)
    object.__setattr__(bad, "method", __import__("thinkscale").BudgetForcing())
    with pytest.raises(EngineError):
        async with runs.wanted(bad, name="a") as running:
            await running.outcome()
    async with runs.wanted(order(), name="a") as running:
        assert (await running.outcome()).answer == "4"


async def test_a_run_without_any_answer_counts_against_the_engine_unless_it_asked_too_much_of_it():
    runs, fails = Runs(), EngineError("no server answers", retryable=False)
    with pytest.raises(EngineError, match="no server answers"):
        async with runs.wanted(order(Scripted(lambda _: Line(says="", fails=fails)))) as running:
            await running.outcome()
    async with runs.wanted(order(Scripted(lambda _: "The answer is 4."))) as running:
        await running.outcome()
    bad = replace(order(Scripted(lambda _: "x", can=frozenset())), method=BudgetForcing())
    with pytest.raises(CapabilityError):
        async with runs.wanted(bad) as running:
            await running.outcome()
    counted = [line for line in runs.metrics.render()[0].decode().splitlines() if "upstream_errors_total{" in line]
    assert counted == ['thinkscale_upstream_errors_total{status="none"} 1.0']


async def test_what_is_kept_for_retries_takes_no_more_than_so_many_bytes(monkeypatch):
    monkeypatch.setattr("thinkscale.serve.runs.MOST_BYTES", 5_000)
    runs = Runs()
    for name in "abcdef":
        async with runs.wanted(order(), name=name, size=1000) as running:
            await running.outcome()
            await asyncio.sleep(0)
    assert [runs.known(name) for name in "abcdef"] == [False, False, True, True, True, True]
    async with runs.wanted(order(), name="f", joins=False, size=1000) as running:
        await running.outcome()
    async with runs.wanted(order(), name="vast", size=10_000) as running:
        assert (await running.outcome()).answer == "4"
    assert not any(runs.known(name) for name in (*"abcdef", "vast"))
    assert runs._size == 0


async def test_too_many_are_refused_with_a_time_to_come_back():
    runs = Runs(places=1, waiting=1)
    async with runs.wanted(order(slow())), runs.wanted(order()):
        await asyncio.sleep(0.01)
        async with runs.wanted(order()) as third:
            with pytest.raises(ServeError, match="busy") as refused:
                await third.outcome()
    assert refused.value.status == 429
    assert refused.value.retry_after >= 1
    assert runs.alive == 0


@on_a_clock_of_its_own
async def test_what_a_request_waits_is_taken_off_its_time():
    runs = Runs(places=1)
    async with runs.wanted(order(slow())) as first, runs.wanted(order(slow(), seconds=0.4)) as second:
        waited = (await first.outcome()).usage.seconds
        outcome = await second.outcome()
    assert waited > 0.2
    assert outcome.stopped == "budget"
    assert outcome.usage.seconds < 0.4 - 0.9 * waited


@on_a_clock_of_its_own
async def test_a_request_whose_time_is_up_before_it_has_a_place_is_refused_and_spends_nothing():
    runs, engine = Runs(places=1), slow()
    async with runs.wanted(order(slow())), runs.wanted(order(engine, seconds=0.02)) as second:
        with pytest.raises(ServeError, match=r"no place within the 0\.02 s") as refused:
            await second.outcome()
        assert runs.queue.waiting == 0
    assert (refused.value.status, refused.value.code, refused.value.retryable) == (429, "overloaded", True)
    assert refused.value.retry_after >= 1
    assert not engine.cues
    assert runs.queue.free == 1


async def test_a_request_that_need_not_wait_has_its_budget_to_the_letter(tmp_path):
    store = Store(tmp_path / "runs.db")
    async with Runs(store=store).wanted(order(seconds=30)) as running:
        await running.outcome()
    [run] = store.runs()
    store.close()
    assert run.budget == "seconds=30"


async def test_who_has_many_waiting_does_not_keep_others_out():
    queue, served = FairQueue(1, 100), []

    async def work(who):
        await queue.take(who, 1)
        served.append(who)
        await asyncio.sleep(0)
        queue.give()

    tasks = [asyncio.create_task(work("greedy")) for _ in range(6)]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(work("modest")))
    await asyncio.gather(*tasks)
    assert served.index("modest") <= 3


async def test_places_are_the_same_after_ten_thousand_cancellations():
    queue, rng = FairQueue(4, 10_000), random.Random(1)

    async def work(who):
        await queue.take(who, 1)
        try:
            await asyncio.sleep(0)
        finally:
            queue.give()

    for _ in range(100):
        tasks = [asyncio.create_task(work(str(rng.randrange(5)))) for _ in range(100)]
        await asyncio.sleep(0)
        for task in rng.sample(tasks, 60):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert (queue.free, queue.waiting) == (4, 0)


@on_a_clock_of_its_own
async def test_draining_lets_in_nobody_and_ends_what_is_not_done_in_time_with_what_it_has():
    runs = Runs()
    uneven = Scripted(lambda cue: Line(says="The answer is 4." if cue.number < 2 else "w " * 400, pace=0.005))
    async with (
        runs.wanted(order()) as done,
        runs.wanted(order(uneven)) as half,
        runs.wanted(order(slow())) as late,
    ):
        await runs.drain(0.2)
        assert (await done.outcome()).answer == "4"
        best = await half.outcome()
        assert (best.answer, best.stopped) == ("4", Stopped.cancelled)
        nothing = await late.outcome()
        assert (nothing.answer, nothing.stopped) == (None, Stopped.cancelled)
        assert nothing.usage.output_tokens == late.spent.output_tokens
        assert nothing.usage.output_tokens > 3
        with pytest.raises(ServeError, match="shutting down"):
            choices_of(late.order, nothing)
        with pytest.raises(ServeError, match="shutting down"):
            async with runs.wanted(order()):
                pass
