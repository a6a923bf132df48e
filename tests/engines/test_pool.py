"""A pool is one engine: what one replica could have said comes out, wherever it was said and whatever failed."""

import asyncio
import logging
import random
from contextlib import aclosing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clocks import on_a_clock_of_its_own
from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines import routing
from thinkscale.engines.limits import REST
from thinkscale.engines.opening import engine_for
from thinkscale.engines.pool import Pool
from thinkscale.engines.protocol import Abort, Capability, Chunk, Completion, Price, Request
from thinkscale.engines.scripted import EVERYTHING, Line, Scripted
from thinkscale.engines.tabular import Tabular
from thinkscale.errors import EngineError, SettingsError
from thinkscale.identity import prompt_name
from thinkscale.registry import parse
from thinkscale.session.flight import Flight
from thinkscale.testing import check_engine, talk
from thinkscale.types import Finish, Message, Origin, Problem, Sampling, Segment

COUNTING = " one two three four five six seven eight nine ten eleven twelve"
CHAIN = {"": {"a ": 0.5, "b ": 0.5}, "a ": {"b ": 1.0}, "b ": {"a ": 0.95, "<end>": 0.05}}
REFUSED = EngineError("connection refused", retryable=True)
BUSY = EngineError("too many requests", retryable=True, status=429)


class Replica(Scripted):
    """Says the seed of each draw, one word per step, and fails as `fails` says, before or after `words` words."""

    def __init__(self, fails=None, *, words=0, pace=0.0, length=3, width=4, **options):
        super().__init__(lambda cue: Line(says=f"{cue.seed} " * length, pace=pace), concurrency=width, **options)
        self.fails, self.words, self.closed = fails, words, 0
        self.requests, self.running, self.most = [], 0, 0

    async def stream(self, request, abort=None):
        self.requests.append(request)
        self.running += request.n
        self.most = max(self.most, self.running)
        said, left = 0, request.n
        try:
            await asyncio.sleep(0)  # no server answers before it is asked by others too
            async with aclosing(super().stream(request, abort)) as chunks:
                async for chunk in chunks:
                    failure = self.fails(request) if callable(self.fails) else self.fails
                    if failure and said >= self.words:
                        raise failure
                    said += chunk.tokens
                    left -= bool(chunk.completion)
                    self.running -= bool(chunk.completion)
                    yield chunk
        finally:
            self.running -= left
            self.closed += 1


class Unreachable(Replica):
    """Cannot be opened until it is `there`."""

    there = False

    async def open(self):
        if not self.there:
            raise EngineError("no route to host", retryable=True)


@pytest.fixture
def clock(monkeypatch):
    """Seconds that pass when the test says so."""

    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    clock = Clock()
    monkeypatch.setattr(routing, "time", clock)
    return clock


def asking(prompt="?", n=1, first=0, **more):
    seeds = tuple(range(first, first + n))
    return Request(messages=(Message("user", prompt),), seeds=seeds, sampling=Sampling(max_tokens=40), **more)


def home(pool, prompt="?"):
    """The replicas in the order of a prompt."""
    return [r.engine for r in pool._routing.order(prompt_name(asking(prompt).messages))]


def taken(pool):
    return [r.limit.taken for r in pool._routing.replicas]


def limits(pool):
    return [r.limit.places for r in pool._routing.replicas]


async def answers(pool, request, abort=None):
    """Every draw's last word from the pool, checking that it is exactly one; failures by index as well."""
    done, failed, text = {}, {}, [""] * request.n
    async for chunk in pool.stream(request, abort):
        assert chunk.index not in done | failed
        text[chunk.index] += chunk.text
        if chunk.completion:
            assert text[chunk.index] == chunk.completion.text
            done[chunk.index] = chunk.completion
        if chunk.failure:
            failed[chunk.index] = chunk.failure
    assert sorted(done | failed) == list(range(request.n))
    return done, failed


async def landed(pool, request):
    """What a session gets of a request: asked again as often as it asks."""
    down = {}
    keys = ("",) * request.n

    async def looked_at():
        pass

    def land(index, completion, _):
        assert index not in down
        down[index] = completion

    await Flight(pool, request, keys, Abort(), None, lambda _: None, land, looked_at).run()
    return [down[i] for i in range(request.n)]


def said(completion, seed, length=3):
    return completion.text == f"{seed} " * length


@pytest.mark.parametrize("concurrency", [1, 2, None])
@pytest.mark.parametrize(
    "make",
    [
        lambda: Scripted(lambda cue: COUNTING[len(cue.prefix) :]),
        lambda: Scripted(lambda cue: Line(says=COUNTING[len(cue.prefix) :], pace=0.0)),
        lambda: Tabular(CHAIN),
        lambda: Tabular(CHAIN, pause=True),
    ],
    ids=["scripted", "scripted by words", "tabular", "tabular that pauses"],
)
async def test_a_pool_keeps_the_engine_protocol(make, concurrency):
    pool = Pool([make() for _ in range(3)], concurrency=concurrency)
    await check_engine(pool)
    assert taken(pool) == [0, 0, 0]


async def test_a_pool_can_do_what_all_its_replicas_can():
    first = Scripted(can=EVERYTHING, context=4096, concurrency=8, price=Price(input=1.0, output=2.0))
    second = Scripted(can=EVERYTHING - {Capability.grammar}, context=1024, concurrency=3, price=Price(output=5.0))
    pool = Pool([first, second])
    await pool.open()
    known = pool.capabilities
    assert known.can == EVERYTHING - {Capability.grammar}
    assert (known.context, known.concurrency, known.model) == (1024, 11, "scripted")
    assert known.price == Price(input=1.0, output=5.0)
    assert Pool([first, second], concurrency=2).capabilities.concurrency == 4


async def test_models_that_are_not_one_model_are_refused():
    with pytest.raises(SettingsError, match=r"replicas of one model, but `scripted` and `tabular`"):
        await Pool([Scripted(), Tabular()]).open()


def test_a_pool_of_nothing_says_what_to_give():
    with pytest.raises(SettingsError, match="without replicas"):
        engine_for("pool")
    with pytest.raises(SettingsError, match="no draw at a time"):
        Pool([Scripted()], concurrency=0)


async def test_a_replica_that_cannot_be_opened_is_left_out_and_joins_when_it_can(clock, caplog):
    late, there = Unreachable(width=2), Replica(width=4)
    pool = Pool([late, there])
    with caplog.at_level(logging.WARNING):
        await pool.open()
    assert "replica 0 is left alone for 1 s: no route to host" in caplog.text
    assert pool.capabilities.concurrency == 4
    await answers(pool, asking(n=8))
    assert late.requests == []
    late.there, clock.now = True, clock.now + REST
    for _ in range(2):
        await answers(pool, asking(n=8))
    assert late.requests
    assert pool.capabilities.concurrency == 4


async def test_a_late_replica_that_can_do_less_stays_out(clock):
    late, there = Unreachable(can=frozenset()), Replica()
    pool = Pool([late, there])
    await pool.open()
    late.there, clock.now = True, clock.now + REST
    done, _ = await answers(pool, asking(n=8))
    assert len(done) == 8
    assert late.requests == []


async def test_when_none_opens_the_first_error_is_raised():
    with pytest.raises(EngineError, match="no route to host"):
        await Pool([Unreachable(), Unreachable()]).open()


async def test_draws_of_one_prompt_and_its_continuations_go_where_its_cache_is():
    pool = Pool([Replica() for _ in range(4)])
    for prompt in "abcdefgh":
        [request, more] = asking(prompt), Segment(text="so far", origin=Origin.sampled)
        for _ in range(3):
            await answers(pool, request)
        await answers(pool, asking(prompt, prefix=(more,)))
        assert [r.messages[0].content for r in home(pool, prompt)[0].requests].count(prompt) == 4
    assert sum(bool(r.engine.requests) for r in pool._routing.replicas) > 1


@on_a_clock_of_its_own
async def test_a_replica_that_is_clearly_busier_than_another_passes_its_prompts_on():
    pool = Pool([Replica(width=8, pace=0.001) for _ in range(3)])
    async with asyncio.TaskGroup() as group:
        for i in range(12):
            group.create_task(answers(pool, asking("same", first=i)))
    first, second, third = home(pool, "same")
    assert first.most <= third.most + 1 + routing.SLACK * 8
    assert first.most >= second.most >= third.most >= 1


async def test_a_request_that_fits_on_one_replica_is_not_split():
    pool = Pool([Replica(width=4) for _ in range(3)])
    await answers(pool, asking(n=4))
    assert sorted(len(r.engine.requests) for r in pool._routing.replicas) == [0, 0, 1]


@given(
    widths=st.lists(st.integers(1, 7), min_size=1, max_size=4),
    n=st.integers(1, 30),
    aborted=st.sets(st.integers(0, 29)),
)
@settings(max_examples=60, deadline=None)
async def test_a_request_that_is_too_large_is_split_and_every_draw_keeps_its_number(widths, n, aborted):
    pool = Pool([Replica(width=w) for w in widths])
    abort = Abort(draws=aborted)
    done, _ = await answers(pool, asking(n=n, first=100), abort)
    for i in range(n):
        assert (done[i].finish is Finish.aborted) == (i in aborted)
        assert i in aborted or said(done[i], 100 + i)
    for replica, width in zip(pool._routing.replicas, widths, strict=True):
        assert replica.engine.most <= width
        for request in replica.engine.requests:
            assert request.n == n or request.paths == tuple((seed - 100,) for seed in request.seeds)
    assert taken(pool) == [0] * len(widths)


@on_a_clock_of_its_own
async def test_a_replica_that_dies_midway_takes_down_only_what_it_had():
    pool = Pool([Replica(REFUSED, words=6), Replica()])
    done, failed = await answers(pool, asking(n=8))
    assert len(done) >= 4
    assert failed
    assert all(said(c, i) for i, c in done.items())


@pytest.mark.parametrize("words", [0, 1, 5, 8, 11])
@on_a_clock_of_its_own
async def test_a_session_loses_nothing_when_a_replica_dies(words):
    pool = Pool([Replica(REFUSED, words=words), Replica()])
    down = await landed(pool, asking(n=8))
    assert all(said(c, i) for i, c in enumerate(down))
    assert taken(pool) == [0, 0]


@on_a_clock_of_its_own
async def test_what_failed_before_it_began_goes_to_another_replica_at_once():
    pool = Pool([Replica(REFUSED), Replica(REFUSED), Replica()])
    for prompt in "abcd":
        done, failed = await answers(pool, asking(prompt, n=4))
        assert (len(done), failed) == (4, {})


@on_a_clock_of_its_own
async def test_a_replica_whose_draws_all_fail_alone_has_failed():
    class Alone(Replica):
        async def stream(self, request, abort=None):
            self.requests.append(request)
            for index in range(request.n):
                yield Chunk(index, failure=REFUSED)

    pool = Pool([Alone(), Replica()])
    for prompt in "abcdefgh":
        done, failed = await answers(pool, asking(prompt, n=4))
        assert (len(done), failed) == (4, {})
    assert len(pool._routing.replicas[0].engine.requests) == 2


@on_a_clock_of_its_own
async def test_a_request_that_is_wrong_is_asked_once_and_leaves_nobody_out():
    wrong = EngineError("the prompt is too long")
    pool = Pool([Replica(wrong), Replica(wrong)])
    for _ in range(3):
        with pytest.raises(EngineError, match="the prompt is too long"):
            await answers(pool, asking())
    assert sum(len(r.engine.requests) for r in pool._routing.replicas) == 3
    assert all(r.health.up for r in pool._routing.replicas)


def misfit(status):
    return EngineError(f"that cannot be had here ({status})", status=status)


@pytest.mark.parametrize("status", [401, 403, 404])
async def test_a_replica_that_cannot_serve_is_left_out_with_one_warning_and_its_draws_go_elsewhere(
    status, clock, caplog
):
    pool = Pool([Replica(width=16), Replica(width=16)])
    sick, well = home(pool)
    sick.fails = misfit(status)
    with caplog.at_level(logging.WARNING):
        async with asyncio.TaskGroup() as group:
            for i in range(8):
                group.create_task(_all_well(pool, i))
        for rest in (REST, 2 * REST):
            asked, clock.now = len(sick.requests), clock.now + rest + 0.01
            for i in range(3):
                await _all_well(pool, i)
            assert len(sick.requests) == asked + 1
            assert sick.requests[-1].n == 1
    [warning] = caplog.records
    assert f"is left alone for 1 s: that cannot be had here ({status})" in warning.getMessage()
    assert len(well.requests) >= 12
    sick.fails, clock.now = None, clock.now + 4 * REST + 0.01
    for i in range(3):
        await _all_well(pool, i)
    assert sick.requests[-1].n == 2
    assert taken(pool) == [0, 0]


async def _all_well(pool, i):
    done, failed = await answers(pool, asking(n=2, first=10 * i))
    assert all(said(c, 10 * i + k) for k, c in done.items())
    assert failed == {}


async def test_a_large_request_loses_nothing_to_a_replica_that_cannot_serve():
    pool = Pool([Replica(misfit(404), width=4), Replica(width=4)])
    done, failed = await answers(pool, asking(n=20))
    assert (len(done), failed) == (20, {})


@pytest.mark.parametrize("replicas", [1, 3])
async def test_when_no_replica_can_serve_the_error_is_told_as_it_is_each_time(replicas, clock, caplog):
    pool = Pool([Replica(misfit(401)) for _ in range(replicas)])
    with caplog.at_level(logging.WARNING):
        for i in range(5):
            with pytest.raises(EngineError, match=r"^that cannot be had here \(401\)$") as error:
                await answers(pool, asking(n=1 + i))
            assert not error.value.retryable
            clock.now += REST
    assert len(caplog.records) == replicas - 1
    assert sum(r.health.up for r in pool._routing.replicas) == 1


async def test_while_the_one_that_can_serve_is_down_a_draw_is_worth_asking_for_again(clock):
    pool = Pool([Replica(misfit(401)), Replica(REFUSED)])
    for _ in range(6):
        with pytest.raises(EngineError, match="none of the pool's 2 replicas") as error:
            await answers(pool, asking())
        assert error.value.retryable
        clock.now += REST
    pool._routing.replicas[1].engine.fails = None
    done, _ = await answers(pool, asking(n=3))
    assert len(done) == 3


async def test_a_replica_is_left_alone_after_two_failures_and_comes_back_by_a_trial(clock):
    pool = Pool([Replica(), Replica()])
    sick = home(pool)[0]
    sick.fails = REFUSED
    for _ in range(5):
        await answers(pool, asking(n=2))
    assert len(sick.requests) == 2
    for rest in (REST, 2 * REST, 4 * REST):
        before = len(sick.requests)
        clock.now += rest - 0.01
        await answers(pool, asking(n=2))
        assert len(sick.requests) == before
        clock.now += 0.02
        await answers(pool, asking(n=2))
        await answers(pool, asking(n=2))
        assert len(sick.requests) == before + 1
        assert sick.requests[-1].n == 1
    sick.fails, clock.now = None, clock.now + 8 * REST + 1
    await answers(pool, asking(n=2))
    before = len(sick.requests)
    await answers(pool, asking(n=2))
    assert len(sick.requests) == before + 1
    assert sick.requests[-1].n == 2


@on_a_clock_of_its_own
async def test_a_trial_that_is_closed_leaves_room_for_the_next_one(clock):
    pool = Pool([Replica(REFUSED)])
    for _ in range(2):
        with pytest.raises(EngineError):
            await answers(pool, asking())
    [only] = pool._routing.replicas
    only.engine.fails = None
    async with aclosing(pool.stream(asking(n=2))) as chunks:
        await anext(chunks)
    await asyncio.wait_for(answers(pool, asking(n=2)), 5)
    assert (taken(pool), only.health.trying) == ([0], False)


@on_a_clock_of_its_own
async def test_when_all_are_down_one_clear_error_is_raised_after_one_request_to_each():
    pool = Pool([Replica(REFUSED) for _ in range(3)])
    for i in range(4):
        with pytest.raises(EngineError, match=r"none of the pool's 3 replicas could answer.*connection refused") as it:
            await answers(pool, asking(n=4))
        assert it.value.retryable
        assert [len(r.engine.requests) for r in pool._routing.replicas] == [i + 1] * 3
    for replica in pool._routing.replicas:
        replica.engine.fails = None
    done, _ = await answers(pool, asking(n=6))
    assert len(done) == 6


async def test_when_all_are_down_the_one_that_is_due_soonest_is_asked_first(clock):
    asked = []
    pool = Pool([Replica(lambda _, i=i: asked.append(i) or REFUSED) for i in range(3)])
    for _ in range(2):
        with pytest.raises(EngineError):
            await answers(pool, asking())
    first, second, third = asked[-3:]
    pool._routing.replicas[third].health.due -= 0.1
    asked.clear()
    with pytest.raises(EngineError):
        await answers(pool, asking())
    assert asked == [third, first, second]


@on_a_clock_of_its_own
async def test_who_waits_while_the_last_replica_goes_down_is_told_so():
    pool = Pool([Replica(REFUSED, words=1, width=1, pace=0.002)])
    tasks = [asyncio.create_task(answers(pool, asking(first=i))) for i in range(20)]
    await asyncio.wait(tasks, timeout=5)
    outcomes = [t.exception() or t.result()[1][0] for t in tasks]
    assert all("refused" in str(f) for f in outcomes)
    assert taken(pool) == [0]


@on_a_clock_of_its_own
async def test_a_replica_that_has_too_much_work_gets_half_of_it_and_slowly_more():
    engine = Replica(lambda r: BUSY if engine.running > 8 else None, width=64, pace=0.0)
    pool = Pool([engine])
    down = await landed(pool, asking(n=64))
    assert all(said(c, i) for i, c in enumerate(down))
    assert 4 <= limits(pool)[0] <= 20
    low, engine.fails = limits(pool)[0], None
    await landed(pool, asking(n=20 * low))
    assert low < limits(pool)[0] < 64
    assert taken(pool) == [0]


@on_a_clock_of_its_own
async def test_refusals_of_work_that_was_sent_together_halve_once():
    pool = Pool([Replica(BUSY, width=16, pace=0.0)])
    async with asyncio.TaskGroup() as group:
        for i in range(16):
            group.create_task(_refused(pool, i))
    assert limits(pool) == [8]
    assert pool._routing.replicas[0].health.up


async def _refused(pool, i):
    with pytest.raises(EngineError) as refusal:
        await answers(pool, asking(first=i))
    assert refusal.value.status == 429


def asking_to_wait(seconds):
    return EngineError("too many requests", retryable=True, retry_after=seconds, status=429)


class Timed(Replica):
    """Notes when it was asked for which seeds, in seconds of the event loop."""

    def __init__(self, *given, **options):
        super().__init__(*given, **options)
        self.asked = []

    async def stream(self, request, abort=None):
        self.asked.append((asyncio.get_running_loop().time(), request.seeds))
        async with aclosing(super().stream(request, abort)) as chunks:
            async for chunk in chunks:
                yield chunk

    def during(self, since, until):
        return [seeds for at, seeds in self.asked if since < at < until]


@on_a_clock_of_its_own
async def test_a_replica_gets_nothing_before_the_time_that_it_asked_for_and_what_runs_there_goes_on():
    pool = Pool([Timed(width=16, pace=1.0), Timed(width=16, pace=1.0)])
    first, second = home(pool)
    long = asyncio.create_task(answers(pool, asking(n=2)))
    await asyncio.sleep(0.5)
    first.fails = lambda request: asking_to_wait(20.0) if request.seeds == (10,) else None
    while (now := asyncio.get_running_loop().time()) < 30.0:
        done, failed = await answers(pool, asking(first=round(20 * now)))
        assert (len(done), failed) == (1, {})
    assert first.during(0.0, 20.0) == [(10,)]
    assert second.during(0.0, 20.0)
    assert first.during(21.0, 30.0)
    assert second.during(21.0, 30.0) == []
    done, _ = await long
    assert all(said(c, i) for i, c in done.items())


@on_a_clock_of_its_own
async def test_draws_wait_for_the_only_replica_as_long_as_it_asked_for():
    only = Timed(lambda request: asking_to_wait(20.0) if request.seeds == (0,) else None, width=4, pace=0.1)
    pool = Pool([only])
    with pytest.raises(EngineError, match="too many requests") as refusal:
        await answers(pool, asking())
    assert refusal.value.retry_after == 20.0
    refused_at = asyncio.get_running_loop().time()
    abort = Abort()
    aborted = asyncio.create_task(answers(pool, asking(first=1), abort))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(5.0):
            await answers(pool, asking(first=2))
    async with asyncio.TaskGroup() as group:
        for i in range(3, 9):
            group.create_task(answers(pool, asking(first=i)))
        await asyncio.sleep(5.0)
        abort.end()
        done, _ = await aborted
    assert done == {0: Completion(text="", finish=Finish.aborted, tokens=0)}
    assert [at >= refused_at + 19.9 for at, _ in only.asked] == [False] + [True] * 6
    assert only.asked[1][0] < refused_at + 20.1
    assert taken(pool) == [0]


@on_a_clock_of_its_own
async def test_a_replica_that_is_left_alone_is_not_tried_before_the_time_that_it_asked_for():
    only = Timed(asking_to_wait(30.0), width=1)
    pool = Pool([only])
    for _ in range(3):
        with pytest.raises(EngineError, match="too many requests"):
            await answers(pool, asking())
    assert [round(at) for at, _ in only.asked] == [0, 30, 60]
    assert not pool._routing.replicas[0].health.up
    waiting = [asyncio.create_task(answers(pool, asking(first=i))) for i in range(1, 5)]
    await asyncio.sleep(1.0)
    only.fails = None
    await asyncio.wait(waiting)
    assert [seeds for _, seeds in only.asked[3:]] == [(1,), (2,), (3,), (4,)]
    assert round(only.asked[3][0]) == 90


@on_a_clock_of_its_own
async def test_a_draw_that_is_refused_alone_makes_the_others_wait_too():
    class Half(Timed):
        async def stream(self, request, abort=None):
            self.asked.append((asyncio.get_running_loop().time(), request.seeds))
            yield Chunk(0, completion=Completion(text="", finish=Finish.eos, tokens=0))
            if request.n == 2:
                yield Chunk(1, failure=asking_to_wait(7.0))

    only = Half()
    pool = Pool([only])
    _, failed = await answers(pool, asking(n=2))
    assert list(failed) == [1]
    await answers(pool, asking())
    assert [round(at, 2) for at, _ in only.asked] == [0.0, 7.0]


@on_a_clock_of_its_own
async def test_refusals_that_name_no_time_leave_the_only_replica_no_time_without_work():
    refusals = iter(range(12))
    only = Timed(lambda _: BUSY if next(refusals, None) is not None else None, width=4)
    pool, loop = Pool([only]), asyncio.get_running_loop()
    while not any(at for at, _ in only.asked[12:]) and loop.time() < 10.0:
        try:
            await answers(pool, asking())
        except EngineError:
            await asyncio.sleep(0.1)
    assert loop.time() < 2.0


def test_a_pause_that_a_replica_asked_for_ends_in_another_event_loop_as_well():
    only = Replica(asking_to_wait(0.05))
    pool = Pool([only])
    with pytest.raises(EngineError, match="too many requests"):
        asyncio.run(answers(pool, asking()))
    only.fails = None
    done, _ = asyncio.run(asyncio.wait_for(answers(pool, asking()), 5))
    assert said(done[0], 0)


async def test_draws_above_the_limit_are_served_in_the_order_in_which_they_came():
    engine = Replica(width=1, pace=0.0)
    pool = Pool([engine])
    async with asyncio.TaskGroup() as group:
        for i in range(50):
            group.create_task(answers(pool, asking(str(i))))
    assert [r.messages[0].content for r in engine.requests] == [str(i) for i in range(50)]
    assert engine.most == 1


async def test_pools_that_share_limits_take_turns_within_them_and_one_that_waits_is_not_forgotten():
    engine = Replica(width=2, pace=0.0)
    chat = Pool([engine])
    plain = Pool([engine], limits=chat.limits)
    async with asyncio.TaskGroup() as group:
        for i in range(40):
            group.create_task(answers(chat, asking(f"chat {i}")))
        await asyncio.sleep(0)
        for i in range(10):
            group.create_task(answers(plain, asking(f"plain {i}")))
    assert engine.most == 2
    asked = [r.messages[0].content for r in engine.requests]
    assert max(asked.index(f"plain {i}") for i in range(10)) < 30
    assert taken(chat) == taken(plain) == [0]


async def test_what_one_pool_is_refused_another_with_its_limits_sends_less_for():
    busy = Replica(lambda _: BUSY, width=8)
    chat = Pool([busy])
    plain = Pool([Replica(width=8)], limits=chat.limits)
    await plain.open()
    with pytest.raises(EngineError, match="too many requests"):
        await answers(chat, asking(n=4))
    assert limits(plain) == limits(chat) == [4]


@on_a_clock_of_its_own
async def test_an_abort_wakes_draws_that_wait_for_a_place_and_they_cost_nothing():
    engine = Replica(width=1, pace=10.0)
    pool = Pool([engine])
    abort, done = Abort(), {}

    async def read():
        async for chunk in pool.stream(asking(n=3), abort):
            if chunk.completion:
                done[chunk.index] = chunk.completion

    reading = asyncio.create_task(read())
    await asyncio.sleep(0.01)
    abort.end(2)
    await asyncio.sleep(0.01)
    assert done == {2: Completion(text="", finish=Finish.aborted, tokens=0)}
    reading.cancel()
    await asyncio.wait({reading})
    assert (engine.running, taken(pool)) == (0, [0])


async def test_closing_a_stream_closes_those_of_the_replicas():
    pool = Pool([Replica(width=2, pace=10.0) for _ in range(2)])
    async with aclosing(pool.stream(asking(n=4))) as chunks:
        for _ in range(2):
            await anext(chunks)
    assert [r.engine.closed for r in pool._routing.replicas] == [1, 1]
    assert taken(pool) == [0, 0]


async def test_no_replica_gets_ahead_of_its_reader():
    engine = Replica(pace=0.0, length=30)
    async with aclosing(Pool([engine]).stream(asking())) as chunks:
        async for chunk in chunks:
            before = engine.spent
            await asyncio.sleep(0.001)
            assert engine.spent == before or chunk.completion


@pytest.mark.parametrize("method", ["self-consistency(n=12, stop=ahead-by-4)", "budget-forcing(waits=2)"])
async def test_a_method_gives_the_same_result_over_a_pool_as_over_one_replica(method):
    def replica():
        return Scripted(talk, concurrency=5)

    alone, pooled = [
        await solve(Problem.of("?"), parse(method, "method"), e, budget=Budget(tokens=400), sampling=Sampling())
        for e in (replica(), Pool([replica() for _ in range(3)]))
    ]
    assert pooled.answer == alone.answer
    assert [(t.path, t.text) for t in pooled.traces if t.answer] == [(t.path, t.text) for t in alone.traces if t.answer]


async def test_a_broken_expectation_ends_the_request():
    class Broken(Replica):
        async def stream(self, request, abort=None):
            raise AssertionError("nobody expected that")
            yield

    pool = Pool([Broken(), Replica(pace=10.0)])
    with pytest.raises(AssertionError, match="nobody expected that"):
        await answers(pool, asking(n=8))
    assert taken(pool) == [0, 0]


async def test_no_place_is_lost_however_often_who_waits_is_cancelled():
    random.seed(5)
    pool = Pool([Replica(width=3, length=2, pace=0.0) for _ in range(3)])
    cancelled = 0
    for _ in range(50):
        tasks = [asyncio.create_task(answers(pool, asking(str(i % 7), n=i % 4 + 1))) for i in range(220)]
        waiting = random.sample(tasks, 200)
        while waiting:
            await asyncio.sleep(0)
            for _ in range(random.randrange(40)):
                if waiting and waiting.pop().cancel():
                    cancelled += 1
        await asyncio.wait(tasks)
        assert taken(pool) == [0, 0, 0]
        assert pool._routing._queue == []
    assert limits(pool) == [3, 3, 3]
    assert cancelled > 5000


@on_a_clock_of_its_own
async def test_a_thousand_requests_over_three_flaky_replicas_are_answered_once_each():
    dice = random.Random(3)

    def flaky(_):
        roll = dice.random()
        return REFUSED if roll < 0.02 else BUSY if roll < 0.04 else None

    pool = Pool([Replica(flaky, words=w, width=24, pace=0.0) for w in (0, 1, 2)])
    done = {}

    async def one(i):
        request = asking(str(i % 50), n=1 + i % 3, first=1000 * i)
        missing = [*range(request.n)]
        for _ in range(60):
            asked = Request(
                messages=request.messages, sampling=request.sampling, seeds=tuple(request.seeds[m] for m in missing)
            )
            try:
                came, _ = await answers(pool, asked)
            except EngineError:
                continue
            done.update({request.seeds[missing[k]]: c for k, c in came.items()})
            missing = [m for k, m in enumerate(missing) if k not in came]
            if not missing:
                return

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for i in range(1000):
            group.create_task(one(i))
    assert len(done) == sum(1 + i % 3 for i in range(1000))
    assert all(said(c, seed) for seed, c in done.items())
    assert taken(pool) == [0, 0, 0]


async def test_every_replica_is_closed_also_when_one_fails_to_close():
    class Stuck(Replica):
        async def aclose(self):
            self.closed = True
            raise EngineError("still busy")

    replicas = [Stuck(), Stuck(), Stuck()]
    with pytest.raises(EngineError, match="still busy"):
        await Pool(replicas).aclose()
    assert all(r.closed for r in replicas)


async def test_the_prompt_counts_as_much_as_the_replica_says_that_counts_most():
    class Wordy(Scripted):
        def count(self, request):
            return 7

    assert Pool([Scripted(), Wordy()]).count(asking()) == 7
