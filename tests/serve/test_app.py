"""Clients that leave, come back or never finish asking, and a gateway that is told to end."""

import asyncio
import time
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest

from clocks import at_best
from servers.gateway import fronting, launched
from servers.mock import Mock, failure, serving, until
from thinkscale.serve import wire
from thinkscale.serve.asking import Limits
from thinkscale.serve.keys import Keyring
from thinkscale.serve.keys import Limits as KeyLimits
from thinkscale.serve.runs import Runs

ASKED = [{"role": "user", "content": "What is 40 + 2?"}]
VOTE = "mock+self-consistency(n=5, stop=fixed)"
SOON = 0.1
"""Seconds within which the upstream is to be free."""


def body(model=VOTE, **more):
    return {"model": model, "messages": ASKED, **more}


def slow():
    return Mock(says=lambda seed: (" on",) * 500, pace=0.01)


@asynccontextmanager
async def before(mock, **options):
    async with serving(mock), fronting(mock.url, **options) as front, aiohttp.ClientSession(front.url + "/") as http:
        yield front, http


def idle(front):
    runs = front.gateway.runs
    return runs.alive == 0 and runs.queue.waiting == 0


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["mock", VOTE])
async def test_a_client_that_leaves_frees_the_upstream_at_once(stream, model):
    assert await at_best(lambda: _left(stream, model), below=SOON) < SOON


async def _left(stream, model):
    """Seconds from when a client leaves to when the last of its draws has ended upstream."""
    mock = slow()
    async with before(mock) as (front, http):
        asking = asyncio.create_task(http.post("chat/completions", json=body(model, stream=stream)))
        assert await until(lambda: any(sum(s.written) > 5 for s in mock.served))
        if stream:
            reply = await asking
            await reply.content.readany()
            left = time.monotonic()
            reply.close()
        else:
            left = time.monotonic()
            asking.cancel()
        assert await until(lambda: mock.streams == 0)
        assert len(mock.disconnects) == mock.requests
        assert await until(lambda: idle(front))
        assert front.gateway.runs.queue.free == 64
        told = front.gateway.metrics.render()[0].decode()
        assert 'thinkscale_disconnects_total{api="chat"} 1.0' in told
        assert 'status="499"} 1.0' in told
        return max(mock.disconnects) - left


async def test_what_a_client_that_left_had_spent_is_charged_and_counted():
    mock, keyring = slow(), Keyring(":memory:", lambda: 0.0)
    key, token = keyring.add("me")
    async with before(mock, keyring=keyring) as (front, http):
        headers = {"Authorization": f"Bearer {token}"}
        asking = asyncio.create_task(http.post("chat/completions", json=body("mock"), headers=headers))
        assert await until(lambda: any(sum(s.written) > 30 for s in mock.served))
        asking.cancel()
        assert await until(lambda: idle(front) and mock.streams == 0)
        spent = keyring.spent(key).tokens
        assert 20 <= spent <= sum(mock.served[0].written)
        told = front.gateway.metrics.render()[0].decode()
        hidden = 'thinkscale_tokens_total{api="chat",kind="hidden",method="passthrough",profile=""}'
        assert f"{hidden} {spent:.1f}" in told


async def test_who_leaves_the_queue_frees_its_place_and_never_asks_upstream():
    mock = slow()
    async with before(mock, runs=Runs(places=1, waiting=4)) as (front, http):
        first = asyncio.create_task(http.post("chat/completions", json=body("mock")))
        assert await until(lambda: mock.requests == 1)
        second = asyncio.create_task(http.post("chat/completions", json=body("mock", seed=2)))
        assert await until(lambda: front.gateway.runs.queue.waiting == 1)
        second.cancel()
        assert await until(lambda: front.gateway.runs.queue.waiting == 0)
        first.cancel()
        assert await until(lambda: idle(front))
        assert front.gateway.runs.queue.free == 1
        assert mock.requests == 1


async def test_who_waits_past_its_deadline_is_told_when_to_try_again():
    mock = slow()
    async with before(mock, runs=Runs(places=1)) as (_, http):
        first = asyncio.create_task(http.post("chat/completions", json=body("mock")))
        assert await until(lambda: mock.requests == 1)
        headers = {"x-thinkscale-deadline": "0.05"}
        async with http.post("chat/completions", json=body("mock"), headers=headers) as reply:
            assert reply.status == 429
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.headers["x-should-retry"] == "true"
            assert "no place within" in (await reply.json())["error"]["message"]
        async with http.post("chat/completions", json=body("mock", stream=True), headers=headers) as reply:
            assert b"no place within" in await reply.read()
        first.cancel()
    assert mock.requests == 1


async def test_a_request_that_is_sent_again_joins_the_run_in_flight_and_outlives_the_first():
    mock = Mock(go=asyncio.Event())
    async with before(mock) as (front, http):
        headers = {"Idempotency-Key": "once"}
        first = asyncio.create_task(http.post("chat/completions", json=body(), headers=headers))
        assert await until(lambda: mock.requests == 1)
        second = asyncio.create_task(http.post("chat/completions", json=body(stream=True), headers=headers))
        assert await until(lambda: any(r.waiting == 2 for r in front.gateway.runs._alive))
        first.cancel()
        mock.go.set()
        async with await second as reply:
            assert b"42" in await reply.read()
        assert mock.requests == 1
        assert sum(mock.served[0].written) == 25


async def test_a_request_with_the_key_of_another_one_is_refused_and_leaves_that_alone():
    mock = Mock(go=asyncio.Event())
    async with before(mock) as (front, http):
        headers = {"Idempotency-Key": "once"}
        first = asyncio.create_task(http.post("chat/completions", json=body(), headers=headers))
        assert await until(lambda: mock.requests == 1)
        for other in (body(seed=5), body("mock"), body(thinkscale={"budget": {"tokens": 9}}), body(n=2, model="mock")):
            async with http.post("chat/completions", json=other, headers=headers) as reply:
                assert reply.status == 422
                assert (await reply.json())["error"]["code"] == "idempotency_key_reused"
                assert reply.headers["x-should-retry"] == "false"
        mock.go.set()
        async with await first as reply:
            assert reply.status == 200
        assert mock.requests == 1
        assert "thinkscale_joins_total 0.0" in front.gateway.metrics.render()[0].decode()


async def test_who_joins_a_run_is_told_of_it_as_it_asked_to_be():
    mock = Mock(go=asyncio.Event())
    async with before(mock) as (front, http):
        headers = {"Idempotency-Key": "once"}
        first = asyncio.create_task(http.post("chat/completions", json=body(), headers=headers))
        assert await until(lambda: mock.requests == 1)
        asked = body(stream=True, stream_options={"include_usage": True})
        second = asyncio.create_task(http.post("chat/completions", json=asked, headers=headers))
        assert await until(lambda: any(r.waiting == 2 for r in front.gateway.runs._alive))
        mock.go.set()
        async with await second as reply:
            *_, bill, done = (await reply.read()).strip().split(b"\n\n")
        async with await first as reply:
            told = await reply.json()
        assert done == b"data: [DONE]"
        assert orjson.loads(bill.removeprefix(b"data: "))["usage"] == told["usage"]
        assert mock.requests == 1


async def test_a_request_that_is_merely_equal_is_a_run_of_its_own(front, upstream):
    async with aiohttp.ClientSession(front.url + "/") as http:
        for _ in range(2):
            async with http.post("chat/completions", json=body("mock")) as reply:
                assert reply.status == 200
    assert upstream.requests == 2


async def test_a_retry_of_a_finished_request_is_answered_without_spending(front, upstream):
    keyed = {"Idempotency-Key": "k"}
    async with aiohttp.ClientSession(front.url + "/") as http:
        told = []
        for headers in ({}, {"x-stainless-retry-count": "1"}, keyed, keyed):
            async with http.post("chat/completions", json=body("mock"), headers=headers) as reply:
                told.append(await reply.json())
    assert upstream.requests == 2
    assert len({one["id"] for one in told}) == 4


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"{", 400, "invalid_json"),
        (b"[]", 400, "invalid_json"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, 400, None),
        (b"\xff\xfe", 400, "invalid_json"),
        (b" " * 2000, 413, "too_large"),
    ],
)
async def test_what_is_no_request_is_refused_in_openais_shape(upstream, raw, status, code):
    async with before(Mock(), limits=Limits(body=1000 if status == 413 else 10**6)) as (_, http):
        for path in ("chat/completions", "completions", "responses"):
            async with http.post(path, data=raw) as reply:
                error = (await reply.json())["error"]
                assert reply.status == status
                assert code is None or error["code"] == code
                assert set(error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "chat/completions", "POST"),
        ("PUT", "responses/resp_1", "DELETE, GET, HEAD"),
        ("DELETE", "models", "GET, HEAD"),
        ("GET", "responses/resp_1/cancel", "POST"),
    ],
)
async def test_a_wrong_method_is_told_which_are_right(method, path, allowed):
    async with before(Mock()) as (_, http), http.request(method, path) as reply:
        assert (reply.status, reply.headers["Allow"]) == (405, allowed)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_long_prompt_is_not_sent_by_any_number_of_calls(stream):
    mock = Mock(says=lambda seed: "The answer is 4.")
    async with before(mock, limits=Limits(sent=10**6)) as (_, http):
        body = {"messages": [{"role": "user", "content": "x" * 10**5}], "stream": stream}
        for n, status in ((8, 200), (16, 400)):
            asked = {**body, "model": "mock", "thinkscale": {"method": f"self-consistency(n={n})"}}
            async with http.post("chat/completions", json=asked) as reply:
                told = await reply.text()
                assert reply.status == status
                assert ("too_much_to_send" in told) == (status == 400)


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.example", 403),
        ("null", 403),
        ("http://[", 403),
        ("http://localhost.evil.example:8080", 403),
        ("http://localhost:3000", 200),
        ("http://127.0.0.1:8080", 200),
        ("http://[::1]", 200),
    ],
)
async def test_a_gateway_without_keys_is_not_asked_by_pages_of_other_sites(origin, status):
    # The type of content is one that browsers send without asking first.
    headers = {"Origin": origin, "Content-Type": "text/plain"}
    asked = {"json": body("mock"), "headers": headers}
    async with before(Mock()) as (_, http), http.post("chat/completions", **asked) as reply:
        assert reply.status == status
        assert status == 200 or (await reply.json())["error"]["code"] == "origin_not_allowed"


async def test_no_spec_spends_more_than_a_key_has_left():
    # Reserved together, these would cost a single token.
    capped = ", ".join(f"single(max_tokens={cap})" for cap in (290, 290, 290, -869))
    mock, keyring = Mock(says=lambda seed: (" on",) * 400), Keyring(":memory:")
    key, token = keyring.add("me", KeyLimits(tokens_per_day=300))
    headers = {"Authorization": f"Bearer {token}"}
    async with before(mock, keyring=keyring) as (_, http):
        async with asyncio.TaskGroup() as asking:
            for _ in range(8):
                asked = body(f"mock+decoding-ensemble(configs=[{capped}])", max_tokens=100)
                asking.create_task(http.post("chat/completions", json=asked, headers=headers))
        assert keyring.spent(key).tokens <= 300


async def test_a_page_with_a_key_may_ask():
    keyring = Keyring(":memory:")
    headers = {"Origin": "http://page.example", "Authorization": f"Bearer {keyring.add('me')[1]}"}
    asked = {"json": body("mock"), "headers": headers}
    async with before(Mock(), keyring=keyring) as (_, http), http.post("chat/completions", **asked) as reply:
        assert reply.status == 200


async def test_nothing_is_read_of_whoever_has_no_key():
    keyring = Keyring(":memory:")
    keyring.add("me")
    async with before(Mock(), keyring=keyring, limits=Limits(body=1000)) as (_, http):

        async def endless():
            yield b"x" * 2000
            await asyncio.sleep(5)

        async with http.post("chat/completions", data=endless(), headers={"Authorization": "Bearer sk-ts-no"}) as reply:
            assert reply.status == 401


async def test_a_body_that_never_arrives_is_given_up(monkeypatch):
    monkeypatch.setattr(wire, "RECEIVING", 0.05)
    async with before(Mock()) as (front, http):

        async def drip():
            yield b'{"model"'
            await asyncio.sleep(5)

        async with http.post("chat/completions", data=drip()) as reply:
            assert reply.status == 408
        assert idle(front)


async def test_silence_in_a_stream_is_filled_with_comments(monkeypatch):
    monkeypatch.setattr("thinkscale.serve.app.SILENCE", 0.05)
    mock, told = Mock(go=asyncio.Event()), b""
    async with before(mock) as (_, http):
        async with http.post("chat/completions", json=body(stream=True)) as reply:
            async for part in reply.content.iter_any():
                told += part
                if told.count(b": still thinking\n\n") >= 3:
                    mock.go.set()
        assert told.endswith(b"data: [DONE]\n\n")


async def test_a_stream_that_fails_unforeseen_is_logged_and_not_taken_for_one_that_ended(monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("no such luck")

    monkeypatch.setattr("thinkscale.serve.chat_stream.ChatStream.end", fails)
    async with before(Mock()) as (front, http), http.post("chat/completions", json=body(stream=True)) as reply:
        with pytest.raises(aiohttp.ClientPayloadError):
            await reply.read()
        assert await until(lambda: idle(front))
    assert any("no such luck" in str(record.exc_info) for record in caplog.records)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_method_that_the_model_cannot_serve_is_refused_before_a_stream_begins(front, upstream, stream):
    async with aiohttp.ClientSession(front.url + "/") as http:
        asked = body("mock+budget-forcing(waits=1)", stream=stream)
        async with http.post("chat/completions", json=asked) as reply:
            error = (await reply.json())["error"]
            assert (reply.status, error["code"]) == (400, "unsupported_method")
            assert "`prefill`" in error["message"]
    assert upstream.requests == 0


class Refusing(Mock):
    """Refuses a number of requests."""

    async def respond(self, request, served):
        if self.requests <= self.refusals:
            return failure(self.status, self.words, {"retry-after-ms": "1"})
        return await super().respond(request, served)


def refusing(status, words, refusals=99):
    mock = Refusing()
    mock.status, mock.words, mock.refusals = status, words, refusals
    return mock


@pytest.mark.parametrize(
    ("status", "words", "seen", "code"),
    [
        (400, "maximum context length is 8 tokens", 400, "context_length_exceeded"),
        (400, "`frequency_penalty` is out of range", 400, "upstream_refused"),
        (422, "no such field", 400, "upstream_refused"),
        (401, "who are you", 502, "upstream_error"),
        (429, "slow down", 429, "upstream_error"),
    ],
)
async def test_what_the_upstream_finds_wrong_is_told_as_what_it_is(status, words, seen, code):
    async with before(refusing(status, words)) as (front, http):
        for model in ("mock", VOTE):
            async with http.post("chat/completions", json=body(model)) as reply:
                error = (await reply.json())["error"]
                assert (reply.status, error["code"]) == (seen, code)
                assert words in error["message"]
                assert reply.headers["x-should-retry"] == ("true" if seen == 429 else "false")
                assert ("retry-after" in reply.headers) is (seen == 429)
        async with http.post("chat/completions", json=body(stream=True)) as reply:
            assert code.encode() in await reply.read()
        counted = f'upstream_errors_total{{status="{status}"}} 3.0' in front.gateway.metrics.render()[0].decode()
        assert counted is (code != "context_length_exceeded")  # which is the client's doing


async def test_a_run_whose_draws_all_failed_is_not_what_a_retry_gets():
    async with before(refusing(400, "not today", refusals=1)) as (_, http):
        told = []
        for _ in range(2):
            async with http.post("chat/completions", json=body("mock"), headers={"Idempotency-Key": "k"}) as reply:
                told.append(reply.status)
        assert told == [400, 200]


async def test_security_headers_and_an_id_are_on_every_reply(front):
    async with aiohttp.ClientSession(front.url + "/") as http:
        for stream in (False, True):
            async with http.post("chat/completions", json=body(stream=stream)) as reply:
                assert reply.headers["x-content-type-options"] == "nosniff"
                assert reply.headers["cache-control"] == "no-store"
                assert reply.headers["x-request-id"].startswith("chatcmpl-")


async def test_told_to_end_it_finishes_what_runs_and_refuses_what_is_new(tmp_path):
    mock = Mock(go=asyncio.Event())
    async with serving(mock), launched(mock.url, tmp_path, "--store", "none") as gateway:
        root = gateway.url.removesuffix("v1")
        async with aiohttp.ClientSession(root) as http:
            running = asyncio.create_task(http.post("v1/chat/completions", json=body()))
            headers = {"Idempotency-Key": "k"}
            joined = asyncio.create_task(http.post("v1/chat/completions", json=body(stream=True), headers=headers))
            assert await until(lambda: mock.requests == 2)
            gateway.terminate()
            assert await _status(http, "ready", 503)
            async with http.post("v1/chat/completions", json=body()) as refused:
                assert refused.status == 503
                assert (await refused.json())["error"]["code"] == "shutting_down"
                assert refused.headers["retry-after"] == "5"
            again = await http.post("v1/chat/completions", json=body(stream=True), headers=headers)
            mock.go.set()
            async with await running as first, await joined as second, again:
                assert (await first.json())["thinkscale"]["samples"] == 5
                assert b"data: [DONE]" in await second.read()
                assert b"data: [DONE]" in await again.read()
        async with asyncio.timeout(30):
            assert await gateway.process.wait() == 0
    assert mock.requests == 2
    assert "Traceback" not in gateway.log.read_text()


async def _status(http, path, wanted):
    for _ in range(1000):
        async with http.get(path) as reply:
            if reply.status == wanted:
                return True
        await asyncio.sleep(0.01)
    return False
