"""The life of a response: begun in the background, retrieved, cancelled, deleted; by OpenAI's own client."""

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from itertools import count

import aiohttp
import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient
from openai.types.responses import Response

from clocks import at_best
from serve.shapes import valid
from servers.gateway import fronting, launched
from servers.mock import Mock, answer, serving, until
from thinkscale.serve.keys import OPEN, Keyring, Limits
from thinkscale.serve.responses import Shelf
from thinkscale.serve.runs import Runs

ASKED = "What is 40 + 2?"
VOTE = "mock+self-consistency(n=5, stop=fixed)"
SOON = 0.1
"""Seconds within which the upstream is to be free."""


def slow():
    return Mock(says=lambda seed: (" on",) * 500, pace=0.01)


def uneven():
    """Two of three attempts are soon done, the others not."""
    asked = count(1)
    return Mock(says=lambda seed: answer(0) if next(asked) % 3 else (" on",) * 500, pace=0.01)


@asynccontextmanager
async def client(url, api_key="none"):
    async with AsyncOpenAI(
        base_url=url, api_key=api_key, max_retries=0, http_client=DefaultAsyncHttpxClient(verify=False)
    ) as asking:
        yield asking


@asynccontextmanager
async def before(mock, **options):
    async with serving(mock), fronting(mock.url, **options) as front, client(front.url) as ask:
        yield front, ask


async def ended(ask, id, seconds=60.0):
    async with asyncio.timeout(seconds):
        while (told := await ask.responses.retrieve(id)).status in ("queued", "in_progress"):
            pass
    return told


async def drains(http):
    """Whether a gateway says that it is not ready any more."""
    for _ in range(1000):
        async with http.get("ready") as reply:
            if reply.status == 503:
                return True
        await asyncio.sleep(0.01)
    return False


def idle(front):
    runs = front.gateway.runs
    return (runs.alive, runs.queue.waiting, runs.queue.free) == (0, 0, 64)


async def raw(front, method, path, status, **options):
    """The JSON of a reply, in the shape of OpenAI's client or of the specification's errors."""
    async with aiohttp.ClientSession(front.url + "/") as http, http.request(method, path, **options) as reply:
        told = await reply.json()
        assert reply.status == status, told
        return valid(told, "ErrorResponse")["error"] if status >= 400 else told


@pytest.mark.parametrize("model", ["mock", VOTE])
async def test_a_background_response_is_begun_at_once_and_had_later(model):
    mock = Mock(says=lambda seed: answer(0), go=asyncio.Event())
    async with before(mock) as (front, ask):
        told = await ask.responses.create(model=model, input=ASKED, background=True)
        assert (told.status, told.background, told.output, told.usage) == ("in_progress", True, [], None)
        assert (await ask.responses.retrieve(told.id)).status == "in_progress"
        mock.go.set()
        whole = await ended(ask, told.id)
        assert (whole.id, whole.created_at, whole.background) == (told.id, told.created_at, True)
        assert (whole.status, whole.output_text) == ("completed", " The answer is 42.")
        assert whole.usage.output_tokens == (5 if model == "mock" else 25)
        said = await raw(front, "GET", f"responses/{told.id}", 200)
        Response.model_validate(said, strict=True)
        assert said["thinkscale"]["stopped"] == "done"


async def test_what_is_done_to_a_response_is_counted_and_logged_and_so_is_its_end(front, caplog):
    caplog.set_level(logging.INFO, "thinkscale.access")
    async with client(front.url) as ask:
        told = await ask.responses.create(model=VOTE, input=ASKED, background=True)
        await front.gateway.shelf.get(told.id, OPEN.id).running.outcome()
        whole = await ask.responses.retrieve(told.id)
        await ask.responses.cancel(told.id)
        await ask.responses.delete(told.id)
        with pytest.raises(openai.NotFoundError):
            await ask.responses.retrieve(told.id)
    said = front.gateway.metrics.render()[0].decode()
    for what, status in (("retrieve", 200), ("cancel", 200), ("delete", 200), ("retrieve", 404)):
        labels = f'api="responses.{what}",method="",profile="",status="{status}"'
        assert f"thinkscale_requests_total{{{labels}}} 1.0" in said
    fields = [record.fields for record in caplog.records]
    assert [(f.get("api"), f.get("status"), f["tokens"]) for f in fields] == [
        ("responses", 200, 0),
        (None, None, whole.usage.output_tokens),
        ("responses.retrieve", 200, 0),
        ("responses.cancel", 200, 0),
        ("responses.delete", 200, 0),
        ("responses.retrieve", 404, 0),
    ]
    over = fields[1]
    assert (over["request"], over["stopped"], over["method"]) == (told.id, "done", VOTE.removeprefix("mock+"))


async def test_what_is_not_in_the_background_can_be_had_again_until_it_is_deleted(front):
    async with client(front.url) as ask:
        told = await ask.responses.create(model=VOTE, input=ASKED)
        assert await ask.responses.retrieve(told.id) == told
        async with ask.responses.stream(model="mock", input=ASKED) as stream:
            begun = await anext(aiter(stream))
            assert (await ask.responses.retrieve(begun.response.id)).status in ("in_progress", "completed")
            final = await stream.get_final_response()
        again = await ask.responses.retrieve(final.id)
        assert (again.output_text, again.usage) == (final.output_text, final.usage)
        for id in (told.id, final.id):
            await ask.responses.delete(id)
            with pytest.raises(openai.NotFoundError):
                await ask.responses.retrieve(id)
        assert len(front.gateway.shelf) == 0


async def test_what_is_not_to_be_stored_is_not_kept(front):
    async with client(front.url) as ask:
        told = await ask.responses.create(model="mock", input=ASKED, store=False)
        with pytest.raises(openai.NotFoundError):
            await ask.responses.retrieve(told.id)
        with pytest.raises(openai.BadRequestError) as refused:
            await ask.responses.create(model="mock", input=ASKED, store=False, background=True)
        assert refused.value.param == "store"


@pytest.mark.parametrize("by", ["", ", by=single(temperature=0.8)"])
async def test_cancelling_gives_the_best_answer_so_far_and_frees_the_upstream_at_once(by):
    assert await at_best(lambda: _cut_short(by), below=SOON) < SOON


async def _cut_short(by):
    """Seconds from a cancellation to when the last of the draws has ended upstream."""
    mock, keyring = uneven(), Keyring(":memory:", lambda: 0.0)
    key, token = keyring.add("me", Limits(tokens_per_day=10**6))
    async with before(mock, keyring=keyring) as (front, _), client(front.url, token) as ask:
        model = f"mock+self-consistency(n=6, stop=fixed{by})"
        told = await ask.responses.create(model=model, input=ASKED, background=True)
        assert await until(lambda: any(max(s.written, default=0) > 20 for s in mock.served))
        [running] = front.gateway.runs._alive
        cancelled = time.monotonic()
        half = await ask.responses.cancel(told.id)
        assert await until(lambda: mock.streams == 0)
        late = max(mock.disconnects) - cancelled
        assert late >= 0
        assert await until(lambda: idle(front))
        assert (half.status, half.output_text, half.incomplete_details) == ("cancelled", " The answer is 42.", None)
        assert (half.thinkscale["stopped"], half.thinkscale["samples"]) == ("cancelled", 6)
        assert half.usage.output_tokens == keyring.spent(key).tokens == running.spent.output_tokens > 20
        assert await ask.responses.cancel(told.id) == await ask.responses.retrieve(told.id) == half
        said = front.gateway.metrics.render()[0].decode()
        assert 'thinkscale_runs_total{method="self-consistency",stopped="cancelled"} 1.0' in said
        return late


@pytest.mark.parametrize("model", ["mock", VOTE])
async def test_cancelling_before_any_attempt_is_over_gives_nothing_but_the_bill(model):
    assert await at_best(lambda: _cut_early(model), below=SOON) < SOON


async def _cut_early(model):
    """Seconds from a cancellation to when the last of the draws has ended upstream."""
    mock = slow()
    async with before(mock) as (front, ask):
        told = await ask.responses.create(model=model, input=ASKED, background=True)
        assert await until(lambda: any(sum(s.written) > 5 for s in mock.served))
        cancelled = time.monotonic()
        empty = await ask.responses.cancel(told.id)
        assert await until(lambda: mock.streams == 0)
        late = max(mock.disconnects) - cancelled
        assert late >= 0
        assert (empty.status, empty.output, empty.error) == ("cancelled", [], None)
        assert empty.usage.output_tokens > 5
        assert mock.requests == len(mock.disconnects)
        assert await until(lambda: idle(front))
        return late


async def test_cancelling_does_not_wait_for_an_upstream_that_has_not_begun_to_answer():
    assert await at_best(_cut_before, below=SOON) < SOON


async def _cut_before():
    """Seconds from a cancellation to when the upstream, which has not answered, sees its client leave."""
    mock = Mock(go=asyncio.Event())
    async with before(mock) as (front, ask):
        told = await ask.responses.create(model=VOTE, input=ASKED, background=True)
        assert await until(lambda: mock.streams == 1)
        cancelled = time.monotonic()
        empty = await ask.responses.cancel(told.id)
        assert await until(lambda: mock.streams == 0)
        late = max(mock.disconnects) - cancelled
        assert late >= 0
        assert (empty.status, empty.output, empty.usage.output_tokens) == ("cancelled", [], 0)
        assert await until(lambda: idle(front))
        return late


async def test_who_waits_for_a_place_is_queued_and_can_be_cancelled_there():
    mock = slow()
    async with before(mock, runs=Runs(places=1, waiting=1)) as (front, ask):
        first = await ask.responses.create(model="mock", input=ASKED, background=True)
        second = await ask.responses.create(model="mock", input=ASKED, background=True)
        assert [(await ask.responses.retrieve(one.id)).status for one in (first, second)] == ["in_progress", "queued"]
        with pytest.raises(openai.RateLimitError):
            await ask.responses.create(model="mock", input=ASKED, background=True)
        empty = await ask.responses.cancel(second.id)
        assert (empty.status, empty.output, empty.usage) == ("cancelled", [], None)
        await ask.responses.delete(first.id)
        assert front.gateway.runs.alive == 0
        assert await until(lambda: mock.streams == 0 and front.gateway.runs.queue.free == 1)
        assert mock.requests == 1


async def test_a_response_that_is_complete_is_not_changed_by_cancelling():
    async with before(Mock(says=lambda seed: answer(0))) as (_, ask):
        told = await ask.responses.create(model="mock", input=ASKED, background=True)
        whole = await ended(ask, told.id)
        assert await ask.responses.cancel(told.id) == whole
        assert whole.status == "completed"


async def test_only_what_is_in_the_background_can_be_cancelled(front):
    async with client(front.url) as ask:
        told = await ask.responses.create(model="mock", input=ASKED)
        with pytest.raises(openai.BadRequestError, match="close its connection"):
            await ask.responses.cancel(told.id)


async def test_a_response_is_nobodys_but_its_keys():
    keyring = Keyring(":memory:")
    (_, mine), (_, yours) = keyring.add("me"), keyring.add("you")
    async with (
        before(slow(), keyring=keyring) as (front, nobody),
        client(front.url, mine) as ask,
        client(front.url, yours) as other,
    ):
        told = await ask.responses.create(model="mock", input=ASKED, background=True)
        for verb in ("retrieve", "cancel", "delete"):
            with pytest.raises(openai.NotFoundError):
                await getattr(other.responses, verb)(told.id)
            with pytest.raises(openai.AuthenticationError):
                await getattr(nobody.responses, verb)(told.id)
        assert (await ask.responses.retrieve(told.id)).status == "in_progress"
        assert (await ask.responses.cancel(told.id)).status == "cancelled"


async def test_what_is_not_there_or_not_offered_is_refused_in_openais_shape(front):
    for method, path in (("GET", "x"), ("DELETE", "x"), ("POST", "x/cancel"), ("GET", "x" * 2000), ("GET", "%00%ff")):
        assert (await raw(front, method, f"responses/{path}", 404))["code"] == "response_not_found"
    body = {"model": "mock", "input": ASKED}
    told = await raw(front, "POST", "responses", 200, json=body)
    assert (await raw(front, "GET", f"responses/{told['id']}?stream=true", 400))["param"] == "stream"
    assert await raw(front, "GET", f"responses/{told['id']}?stream=false&include[]=x", 200) == told
    gone = await raw(front, "DELETE", f"responses/{told['id']}", 200)
    assert gone == {"id": told["id"], "object": "response", "deleted": True}


async def test_a_background_stream_goes_on_when_its_client_leaves():
    mock = Mock(says=lambda seed: answer(0), go=asyncio.Event())
    async with before(mock) as (front, ask):
        stream = await ask.responses.create(model=VOTE, input=ASKED, background=True, stream=True)
        begun = await anext(aiter(stream))
        await stream.close()
        assert begun.response.background
        assert await until(lambda: 'status="499"} 1.0' in front.gateway.metrics.render()[0].decode())
        mock.go.set()
        whole = await ended(ask, begun.response.id)
        assert (whole.status, whole.output_text) == ("completed", " The answer is 42.")
        assert sum(mock.served[0].written) == 25


@pytest.mark.parametrize("model", ["mock", "mock+self-consistency(n=6, stop=fixed)"])
async def test_a_background_stream_that_is_cancelled_ends_with_what_there_is(model):
    mock = slow() if model == "mock" else uneven()
    async with before(mock) as (_, ask):
        stream = await ask.responses.create(model=model, input=ASKED, background=True, stream=True)
        events = [await anext(aiter(stream))]
        assert await until(lambda: any(max(s.written, default=0) > 20 for s in mock.served))
        half = await ask.responses.cancel(events[0].response.id)
        events += [event async for event in stream]
        assert (events[-1].type, events[-1].response.status) == ("response.incomplete", "cancelled")
        assert events[-1].response.output_text == half.output_text == ("" if model == "mock" else " The answer is 42.")
        assert events[-1].response.usage == half.usage


async def test_a_client_that_leaves_a_stream_leaves_a_cancelled_response_behind():
    async with before(slow()) as (front, ask):
        stream = await ask.responses.create(model="mock", input=ASKED, stream=True)
        begun = await anext(aiter(stream))
        await stream.close()
        assert await until(lambda: idle(front))
        assert (await ask.responses.retrieve(begun.response.id)).status == "cancelled"


async def test_deleting_a_background_response_ends_its_run():
    mock = slow()
    async with before(mock) as (front, ask):
        told = await ask.responses.create(model="mock", input=ASKED, background=True)
        assert await until(lambda: mock.streams == 1)
        await ask.responses.delete(told.id)
        assert await until(lambda: idle(front) and mock.streams == 0)


async def test_a_retry_gets_a_response_of_its_own_on_the_same_run():
    mock = Mock(says=lambda seed: answer(0), go=asyncio.Event())
    async with before(mock) as (front, ask):
        again = {"extra_headers": {"Idempotency-Key": "once"}}
        one = await ask.responses.create(model=VOTE, input=ASKED, background=True, **again)
        two = await ask.responses.create(model=VOTE, input=ASKED, background=True, **again)
        assert (one.id != two.id, front.gateway.runs.alive) == (True, 1)
        await ask.responses.delete(one.id)
        mock.go.set()
        assert (await ended(ask, two.id)).status == "completed"
        assert mock.requests == 1


async def test_a_run_that_fails_later_is_a_failed_response():
    mock = Mock(delay=0.1, most=0)
    async with before(mock) as (_, ask):
        told = await ask.responses.create(model="mock", input=ASKED, background=True)
        whole = await ended(ask, told.id)
        assert (whole.status, whole.error.code, whole.output) == ("failed", "server_error", [])


async def test_what_cannot_be_run_is_refused_at_once(front):
    async with client(front.url) as ask:
        with pytest.raises(openai.NotFoundError):
            await ask.responses.create(model="nope", input=ASKED, background=True)
        with pytest.raises(openai.BadRequestError):
            await ask.responses.create(model="mock+single(tempo=1)", input=ASKED, background=True)
        assert len(front.gateway.shelf) == 0


async def test_the_patience_of_a_client_is_no_limit_in_the_background():
    mock = Mock(says=lambda seed: answer(0), pace=0.08)
    async with before(mock) as (_, ask):
        patience = {"x-stainless-read-timeout": "0.2"}
        told = await ask.responses.create(model="mock", input=ASKED, background=True, extra_headers=patience)
        assert (await ended(ask, told.id)).output_text == " The answer is 42."


async def test_so_many_are_kept_and_so_long_and_none_that_runs_is_lost():
    async with before(Mock(go=asyncio.Event()), shelf=Shelf(most=2, seconds=600)) as (front, ask):
        running = await ask.responses.create(model="mock", input=ASKED, background=True)
        others = [await ask.responses.create(model="mock", input=ASKED, background=True) for _ in range(3)]
        for told in others:
            await ask.responses.cancel(told.id)
        assert len(front.gateway.shelf) == 4
        last = await ask.responses.create(model="mock", input=ASKED, background=True)
        assert len(front.gateway.shelf) == 2
        for told, kept in ((running, True), (others[0], False), (others[2], False), (last, True)):
            if kept:
                assert (await ask.responses.cancel(told.id)).status == "cancelled"
            else:
                with pytest.raises(openai.NotFoundError):
                    await ask.responses.retrieve(told.id)


async def test_what_is_old_is_forgotten():
    async with before(Mock(), shelf=Shelf(seconds=0.05)) as (front, ask):
        first = await ask.responses.create(model="mock", input=ASKED)
        await asyncio.sleep(0.06)
        with pytest.raises(openai.NotFoundError):
            await ask.responses.retrieve(first.id)
        again = await ask.responses.create(model="mock", input=ASKED, extra_headers={"x-stainless-retry-count": "1"})
        assert (again.status, len(front.gateway.shelf)) == ("completed", 0)
        await ask.responses.create(model="mock", input=ASKED)
        assert len(front.gateway.shelf) == 1


async def test_background_responses_are_waited_for_at_the_end(tmp_path):
    mock = Mock(says=lambda seed: answer(0), go=asyncio.Event())
    async with serving(mock), launched(mock.url, tmp_path, "--store", "none") as gateway:
        async with client(gateway.url) as ask:
            told = await ask.responses.create(model=VOTE, input=ASKED, background=True)
            assert await until(lambda: mock.requests == 1)
            gateway.terminate()
            async with aiohttp.ClientSession(gateway.url.removesuffix("v1")) as http:
                assert await drains(http)
            assert (await ask.responses.retrieve(told.id)).status == "in_progress"
            with pytest.raises(openai.InternalServerError, match="shutting down"):
                await ask.responses.create(model=VOTE, input=ASKED, background=True)
            mock.go.set()
        async with asyncio.timeout(60):
            assert await gateway.process.wait() == 0
    assert sum(mock.served[0].written) == 25
    assert "Traceback" not in gateway.log.read_text()
