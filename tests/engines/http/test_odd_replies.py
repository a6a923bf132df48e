"""What is made of replies that are unusual, incomplete or none, and of addresses and keys as people write them."""

import asyncio
import gc
import json
from contextlib import aclosing, asynccontextmanager

import pytest
from aiohttp import web
from rich.console import Console

from servers.mock import Mock, serving, until
from thinkscale.cli.doctor import _table
from thinkscale.engines.http import Http
from thinkscale.engines.http.probe import Finding, Verdict
from thinkscale.engines.protocol import Abort, Request, complete
from thinkscale.engines.transport import Transport
from thinkscale.errors import ContextError, EngineError, ModelError, SettingsError
from thinkscale.types import Finish, Message, Origin, Sampling, Segment

LONG = tuple(f" w{i}" for i in range(200))
DONE = "data: [DONE]\n\n"


def asking(n=1, prefix="", **sampling):
    begun = (Segment(text=prefix, origin=Origin.sampled),) if prefix else ()
    sampling = Sampling(**{"max_tokens": 64, **sampling})
    return Request(messages=(Message("user", "hi"),), prefix=begun, sampling=sampling, seeds=tuple(range(n)))


def delta(index=0, finish=None, **said):
    return {"choices": [{"index": index, "delta": said, "finish_reason": finish}]}


def bill(tokens):
    return {"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": tokens}}


HI = (delta(content="hi"), delta(finish="stop"), bill(1))


def sse(*events):
    return replied("".join(f"data: {json.dumps(e)}\n\n" for e in events) + DONE, kind="text/event-stream")


def replied(text, status=200, kind="application/json", **headers):
    async def respond(request):
        return web.Response(text=text, status=status, content_type=kind, headers=headers)

    return respond


@asynccontextmanager
async def asked(*handlers, owner="test", key=None, query=""):
    """An engine on a server whose chat endpoint runs the handlers in turn, the last one for ever; and its requests."""
    requests = []

    async def chat(request):
        requests.append((request, await request.json()))
        return await handlers[min(len(requests), len(handlers)) - 1](request)

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", replied(json.dumps({"data": [{"id": "m", "owned_by": owner}]})))
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engine = Http(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1{query}", key=key)
    try:
        yield engine, requests
    finally:
        await engine.aclose()
        await runner.cleanup()


async def said(*handlers, n=1, **more):
    async with asked(*handlers, **more) as (engine, _):
        return await complete(engine, asking(n))


async def test_an_answer_beside_its_thinking_is_not_lost():
    message = {"role": "assistant", "content": "42", "reasoning_content": "hm"}
    whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": bill(5)["usage"]}
    [draw] = await said(replied(json.dumps(whole)))
    assert (draw.text, draw.tokens) == ("<think>\nhm\n</think>\n\n42", 5)
    [draw] = await said(sse(delta(reasoning="h"), delta(reasoning="m", content="42"), delta(finish="stop"), bill(3)))
    assert draw.text == "<think>\nhm\n</think>\n\n42"


async def test_thinking_ends_where_a_call_of_a_tool_begins_and_the_call_keeps_its_id():
    first = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}
    later = {"index": 0, "id": "", "type": "", "function": {"name": "", "arguments": "{}"}}
    calls = [delta(tool_calls=[first]), delta(tool_calls=[later]), delta(finish="tool_calls"), bill(5)]
    [draw] = await said(sse(delta(reasoning="hm"), *calls))
    assert draw.text == "<think>\nhm\n</think>\n\n"
    assert draw.tool_calls == ({"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},)


async def test_a_thinking_that_is_continued_is_not_opened_twice():
    reply = sse(delta(reasoning="so"), delta(content="42"), delta(finish="stop"), bill(3))
    async with asked(reply, owner="vllm") as (engine, _):
        [inside] = await complete(engine, asking(prefix="<think>\nhm, "))
        [after] = await complete(engine, asking(prefix="<think>\nhm\n</think>\n\nWait. "))
    assert inside.text == "so\n</think>\n\n42"
    assert after.text == "<think>\nso\n</think>\n\n42"


async def test_an_empty_reason_to_finish_is_none():
    [draw] = await said(
        sse(delta(content="a", finish=""), delta(content="b", finish=""), delta(finish="stop"), bill(3))
    )
    assert draw.text == "ab"


@pytest.mark.parametrize("reply", ["null", "[]", '"ok"', "{}", '{"choices": []}', ""])
async def test_a_reply_that_is_none_is_an_error_and_no_missing_draw(reply):
    with pytest.raises(EngineError, match=r"is no reply|in the middle|not JSON"):
        await said(replied(reply))


async def test_events_that_are_no_objects_say_nothing():
    noise = 'data: 1\n\ndata: null\n\ndata: "ping"\n\n'
    hi = "".join(f"data: {json.dumps(e)}\n\n" for e in HI)
    [draw] = await said(replied(noise + hi + DONE, kind="text/event-stream"))
    assert draw.text == "hi"


@pytest.mark.parametrize("n", [1, 2])
@pytest.mark.parametrize("events", [(), (delta(content="hi"),)])
async def test_a_text_that_never_ends_is_a_failure_that_may_pass(events, n):
    with pytest.raises(EngineError, match="ended its reply in the middle") as caught:
        await said(sse(*events), n=n)
    assert caught.value.retryable


async def test_a_field_that_is_refused_inside_a_reply_is_left_out_from_then_on():
    refusal = {"error": {"code": 400, "message": "stream_options is unknown"}}
    async with asked(sse(refusal), sse(*HI)) as (engine, requests):
        [draw] = await complete(engine, asking())
    assert draw.text == "hi"
    assert ["stream_options" in body for _, body in requests] == [True, False]


async def test_a_refusal_after_the_first_words_does_not_have_them_said_again():
    refusal = {"error": {"code": 400, "message": "no"}}
    async with asked(sse(delta(content="a"), delta(1, content="b"), refusal), sse(*HI)) as (engine, requests):
        with pytest.raises(EngineError, match="status 400"):
            await complete(engine, asking(2))
    assert len(requests) == 1


async def test_a_draw_that_is_cut_here_stops_at_the_server_while_the_others_go_on():
    def says(seed):
        return (" stop", *LONG) if seed == 0 else LONG[:40]

    async with serving(Mock(says=says, pace=0.002)) as server:
        engine = Http(base_url=server.url)
        draws = await complete(engine, asking(2, stop=("stop",), max_tokens=None))
        await engine.aclose()
        assert await until(lambda: server.streams == 0)
        written = {served.body["seed"]: sum(served.written) for served in server.served}
    assert [d.finish for d in draws] == [Finish.stop, Finish.eos]
    assert written[0] < 20
    assert draws[1].tokens == written[1] == 40


async def test_a_draw_that_is_cut_knows_the_prompt_that_was_read_for_it():
    async def running(request):
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for i in range(1000):
            event = delta(content="a") | {"usage": {"prompt_tokens": 9, "completion_tokens": i + 1}}
            await response.write(f"data: {json.dumps(event)}\n\n".encode())
            await asyncio.sleep(0.002)
        return response

    abort = Abort()
    async with (
        asked(running, owner="vllm") as (engine, _),
        aclosing(engine.stream(asking(), abort)) as chunks,
    ):
        await anext(chunks)
        abort.end()
        [draw] = [chunk.completion async for chunk in chunks if chunk.completion]
    assert draw.finish is Finish.aborted
    assert draw.usage.input_tokens == 9
    assert draw.usage.output_tokens == draw.tokens > 0


async def test_the_prompt_is_known_of_every_reply_whose_first_event_says_nothing_of_it():
    def counted(*, prompt):
        usage = [{"usage": {"prompt_tokens": prompt, "completion_tokens": n}} for n in (1, 2)]
        return sse(
            delta(role="assistant", content=""), *(delta(content="a") | u for u in usage), delta(finish="length")
        )

    async with asked(*(counted(prompt=n) for n in (7, 8, 9)), owner="sglang") as (engine, _):
        drawn = [(await complete(engine, asking()))[0] for _ in range(3)]
    assert [(d.text, d.tokens, d.usage.input_tokens) for d in drawn] == [("aa", 2, 7), ("aa", 2, 8), ("aa", 2, 9)]


async def test_a_request_that_nobody_waits_for_any_more_fails_unheard():
    heard = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["message"]))
    async with (
        asked(sse(delta(content="a"), {"error": {"message": "died"}})) as (engine, _),
        aclosing(engine.stream(asking())) as chunks,
    ):
        await anext(chunks)
        await asyncio.sleep(0.05)
    gc.collect()
    assert heard == []


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_nothing_is_sent_to_where_a_server_points(status):
    async with asked(sse(*HI)) as (_, requests):
        other = _.transport.url
        away = replied("", status, Location=f"{other}/chat/completions?token=secret")
        with pytest.raises(EngineError, match=f"points to `{other}/chat/completions` .* make that the base URL"):
            await said(away, key="sk-secretsecret")
    assert requests == []


@pytest.mark.parametrize(
    ("reply", "kind", "says"),
    [
        (replied('{"error": "the upstream took too long"}', 500), EngineError, "status 500"),
        (replied('{"error": "Invalid URL (GET /v2/models)"}', 404), EngineError, "no such endpoint"),
        (replied('{"error": "model `m` not found"}', 404), ModelError, "does not serve this model"),
        (replied('{"error": "the prompt is too long"}', 400), ContextError, "do not fit"),
    ],
)
async def test_an_error_is_not_mistaken_for_another(reply, kind, says):
    with pytest.raises(EngineError, match=says) as caught:
        await said(reply)
    assert type(caught.value) is kind


async def test_an_error_reply_is_read_to_its_end():
    async def slow(request):
        response = web.StreamResponse(status=400)
        await response.prepare(request)
        await response.write(b'{"error": {"message": "Well: the ')
        await asyncio.sleep(0.02)
        await response.write(b'maximum context length is 10"}}')
        return response

    with pytest.raises(ContextError, match="`Well: the maximum"):
        await said(slow)


async def test_a_key_at_the_end_of_what_is_quoted_is_not_shown_in_part():
    with pytest.raises(EngineError, match="is not JSON") as caught:
        await said(replied("x" * 230 + "zzSECRETzzSECRETzz"), key="zzSECRETzzSECRETzz")
    assert "SECRET" not in str(caught.value)


async def test_the_query_of_an_address_is_sent_and_not_shown():
    async with asked(sse(*HI), query="?api-version=7") as (engine, requests):
        await complete(engine, asking())
    assert requests[0][0].query_string == "api-version=7"
    assert "api-version" not in repr(engine)


async def test_a_key_may_come_with_the_line_end_of_its_file():
    async with asked(sse(*HI), key="sk-secretsecret\n") as (engine, requests):
        await complete(engine, asking())
    assert requests[0][0].headers["Authorization"] == "Bearer sk-secretsecret"
    with pytest.raises(SettingsError, match="set OPENAI_API_KEY to one line") as caught:
        Http(base_url="http://127.0.0.1:9", key="sk-secret\nsecret")
    assert "secret" not in str(caught.value)


def test_an_address_is_kept_as_it_was_written():
    assert str(Transport("http://h/a%2Fb/v1/").url) == "http://h/a%2Fb/v1"
    with pytest.raises(SettingsError, match="`htp://h/v1` is no address") as caught:
        Transport("htp://me:secret@h/v1?key=secret")
    assert "secret" not in str(caught.value)


async def test_hosts_proxies_and_bundles_that_are_wrong_are_named(monkeypatch):
    async def refused(address):
        engine = Http(base_url=address)
        try:
            await engine.open()
        finally:
            await engine.aclose()

    with pytest.raises(EngineError, match="cannot be found: check the address"):
        await refused(f"http://{'a' * 70}.invalid")
    monkeypatch.setenv("SSL_CERT_FILE", "no-such-bundle.pem")
    with pytest.raises(SettingsError, match=r"`no-such-bundle.pem` cannot be read .* correct SSL_CERT_FILE"):
        await refused("https://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://no-such-proxy.invalid:1")
    with pytest.raises(EngineError, match="the proxy named by the environment cannot be found"):
        await refused("http://127.0.0.1:9")


async def test_a_connection_that_the_server_gave_up_costs_no_draw():
    """The server promises to keep a connection and hangs up on the second request that comes through it."""
    requests = []
    models = json.dumps({"data": [{"id": "m"}]})
    spoken = "".join(f"data: {json.dumps(e)}\n\n" for e in HI) + DONE

    async def serve(reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        kind, text = ("application/json", models) if b"/models" in head else ("text/event-stream", spoken)
        about = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(text)}\r\n\r\n"
        writer.write((about + text).encode())
        while (more := await reader.read(65536)) and b"HTTP/1.1" not in more:
            pass
        requests.append(bool(more))
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        engine = Http(base_url=f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1")
        for _ in range(3):
            [draw] = await complete(engine, asking())
            assert draw.text == "hi"
        await engine.aclose()
        assert await until(lambda: len(requests) == 4)
    assert sum(requests) == 3


async def test_texts_that_json_cannot_hold_are_an_error_of_the_request():
    async with asked(sse(*HI)) as (engine, _):
        with pytest.raises(EngineError, match="cannot be written as JSON"):
            await complete(engine, Request(messages=(Message("user", "a\udc80"),)))


async def test_sessions_of_ended_loops_are_let_go():
    async with asked(sse(*HI)) as (engine, _):

        def thrice():
            for _ in range(3):
                asyncio.run(complete(engine, asking()))

        await asyncio.to_thread(thrice)
        assert len(engine.transport._open) <= 1


def test_brackets_in_a_servers_words_are_no_markup():
    console = Console(record=True, width=200)
    console.print(_table("m at http://[::1]:80", [Finding("n", Verdict.refused, "said `[/INST] no`")]))
    assert "said `[/INST] no`" in console.export_text()
