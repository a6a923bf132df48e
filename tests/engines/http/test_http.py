"""How n draws reach a server, what comes back of each, and what is said when something is wrong."""

import asyncio
import json
import logging
import ssl
import time
from contextlib import aclosing, asynccontextmanager

import pytest
import trustme
from aiohttp import web

from clocks import at_best
from servers.mock import Beyond, Bill, Mock, serving, until
from thinkscale.api import solve
from thinkscale.budget import Budget, Ledger
from thinkscale.engines.dialects import News, Piece
from thinkscale.engines.http import Http
from thinkscale.engines.http.choices import Choices
from thinkscale.engines.opening import engine_for, engines_for, split
from thinkscale.engines.pool import Pool
from thinkscale.engines.protocol import Abort, Capability, Request, complete
from thinkscale.engines.think_formats import THINK_TAGS
from thinkscale.errors import CapabilityError, EngineError, ModelError, SettingsError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.methods.tool_call_best_of_n import ToolCallBestOfN
from thinkscale.session import Place, Run, Session
from thinkscale.stopping.ahead_by_k import AheadByK
from thinkscale.store import Store
from thinkscale.types import Finish, Logprobs, LogprobSpace, Message, Origin, Problem, Sampling, Segment, Usage

PROBLEM = Problem.of("What is 40 + 2?")
LONG = tuple(f" w{i}" for i in range(200))


def asking(n=1, **more):
    sampling = Sampling(max_tokens=more.pop("max_tokens", 64), **more.pop("sampling", {}))
    return Request(messages=(Message("user", "hi"),), sampling=sampling, seeds=tuple(range(n)), **more)


@asynccontextmanager
async def opened(server, **more):
    async with serving(server) as running:
        engine = Http(base_url=running.url, **more)
        try:
            await engine.open()
            yield engine, running
        finally:
            await engine.aclose()


@asynccontextmanager
async def answering(*handlers, owner="test"):
    """A server whose chat endpoint runs the handlers in turn, the last one for ever; gives its address and bodies."""
    bodies = []

    async def chat(request):
        bodies.append((await request.json(), dict(request.headers)))
        return await handlers[min(len(bodies), len(handlers)) - 1](request)

    async def models(request):
        return web.json_response({"data": [{"id": "m", "owned_by": owner}]})

    app = web.Application()
    app.router.add_post("/v1/chat/completions", chat)
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/v1", bodies
    finally:
        await runner.cleanup()


def sse(*events):
    async def respond(request):
        text = "".join(f"data: {json.dumps(e)}\n\n" for e in events) + "data: [DONE]\n\n"
        return web.Response(text=text, content_type="text/event-stream")

    return respond


def refuses(status, message, **headers):
    async def respond(request):
        return web.json_response({"error": {"message": message}}, status=status, headers=headers)

    return respond


def delta(index=0, finish=None, **said):
    return {"choices": [{"index": index, "delta": said, "finish_reason": finish}]}


def bill(tokens, prompt=3):
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": tokens}}


HI = (delta(content="hi"), delta(finish="stop"), bill(1))


async def test_n_draws_are_one_request():
    async with opened(Mock()) as (engine, server):
        draws = await complete(engine, asking(16))
        assert server.requests == 1
        assert server.served[0].body["n"] == 16
    assert [d.text for d in draws] == [" The answer is 41." if i % 3 == 2 else " The answer is 42." for i in range(16)]
    assert sum(d.usage.output_tokens for d in draws) == 80
    assert sum(d.usage.input_tokens or 0 for d in draws) == 8


@pytest.mark.parametrize("beyond", Beyond)
@pytest.mark.parametrize("most", [1, 2])
async def test_a_server_that_refuses_or_ignores_n_serves_all_draws_and_is_remembered(beyond, most, caplog):
    caplog.set_level(logging.INFO, "thinkscale")
    async with opened(Mock(most=most, beyond=beyond)) as (engine, server):
        first = await complete(engine, asking(5))
        asked = server.requests
        again = await complete(engine, asking(5))
        assert server.requests == asked + 5
    assert all(d.finish is Finish.eos and d.usage.calls == 1 for d in [*first, *again])
    assert len(first) == len(again) == 5
    assert "a request of its own" in caplog.text


async def test_a_server_that_shared_few_choices_and_refuses_more_serves_these_too():
    async with opened(Mock(most=3)) as (engine, _):
        for n in (2, 5, 4):
            assert [d.finish for d in await complete(engine, asking(n))] == [Finish.eos] * n


async def test_draws_that_may_be_aborted_alone_are_asked_for_alone():
    async with opened(Mock(says=lambda _: LONG, pace=0.005)) as (engine, server):
        abort, seen = Abort(), []
        async with aclosing(engine.stream(asking(3, apart=True, max_tokens=200), abort)) as chunks:
            async for chunk in chunks:
                if chunk.index == 1 and chunk.tokens and not abort.draws:
                    abort.end(1)
                if chunk.completion:
                    seen.append(chunk.index)
                    assert chunk.completion.finish is (Finish.aborted if chunk.index == 1 else Finish.eos)
        assert seen[0] == 1
        assert server.requests == 3
        assert len(server.disconnects) == 1


async def test_a_draw_cut_inside_a_group_is_charged_all_that_the_server_went_on_to_write():
    async with opened(Mock(says=lambda _: LONG[:40], pace=0.002)) as (engine, _):
        abort, told = Abort(), []
        async with aclosing(engine.stream(asking(2), abort)) as chunks:
            async for chunk in chunks:
                told.append(chunk)
                if len(told) == 6:
                    abort.end(0)
    done = {c.index: c.completion for c in told if c.completion}
    assert done[0].finish is Finish.aborted
    assert len(done[0].text.split()) < 40
    assert (done[0].usage.output_tokens, done[1].usage.output_tokens) == (40, 40)


async def test_stopping_early_closes_the_request_within_a_tenth_of_a_second():
    assert await at_best(_lateness, below=0.1) < 0.1


async def _lateness():
    """Seconds from an outcome to when the server is done with what was not needed for it."""
    async with opened(Mock(says=lambda seed: (" The answer is 42.", *LONG[: seed % 2 * 150]), pace=0.004)) as parts:
        engine, server = parts
        for _ in range(2):  # the first reply teaches how its tokens are counted
            out = await solve(PROBLEM, SelfConsistency(n=8, stop=AheadByK(k=1)), engine, budget=Budget())
        decided = time.monotonic()
        assert await until(lambda: server.streams == 0)
        late = time.monotonic() - decided
    assert out.answer == "42"
    assert out.stopped == "enough"
    return late


@pytest.mark.parametrize("bills", Bill)
async def test_tokens_are_those_of_the_bill(bills):
    async with opened(Mock(thinks=(" hm", " so"), bill=bills)) as (engine, _):
        draws = await complete(engine, asking(1))
    assert draws[0].usage.output_tokens == draws[0].tokens == 7
    assert draws[0].usage.reasoning_tokens == 2
    assert THINK_TAGS.split(draws[0].text) == ("hm so", "The answer is 42.")


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
async def test_thinking_is_read_from_both_fields(field):
    async with opened(Mock(thinks=(" hm",), reasoning=field)) as (engine, _):
        [draw] = await complete(engine, asking(1))
    assert draw.text == "<think>\n hm\n</think>\n\n The answer is 42."


def told(*pieces, usage=None, ending=None, draws=2, abort=None):
    choices = Choices((), range(draws), abort or Abort(), THINK_TAGS, ending)
    chunks = [c for p in pieces for c in choices.take([News([p])])]
    if usage is not None:
        choices.take([News(usage=Usage(output_tokens=usage))])
    return choices, chunks


def test_log_probabilities_come_on_the_way_to_those_who_watch():
    pieces = [Piece(0, text="a", logprobs=Logprobs(space=LogprobSpace.raw, chosen=(-float(i),))) for i in (1, 2)]
    for watched in (True, False):
        choices = Choices((), range(1), Abort(), THINK_TAGS, 0, watched=watched)
        chunks = [c for p in (*pieces, Piece(0, finish=Finish.eos)) for c in choices.take([News([p])])]
        told = [c.logprobs.chosen for c in chunks if c.logprobs is not None]
        assert told == ([(-1.0,), (-2.0,)] if watched else [])
        assert choices.end()[0].completion.logprobs.chosen == (-1.0, -2.0)


def test_a_token_that_ends_a_text_without_a_piece_is_learned_from_the_bill():
    says = [Piece(i % 2, text="a") for i in range(6)] + [Piece(i, finish=Finish.eos) for i in range(2)]
    choices, chunks = told(*says, usage=8)
    assert not any(c.completion for c in chunks)
    assert [c.completion.tokens for c in choices.end()] == [4, 4]
    assert (choices.ending, choices.miscounted) == (1, False)
    choices, chunks = told(*says, usage=8, ending=1)
    assert [c.completion.tokens for c in chunks if c.completion] == [4]
    assert [c.completion.tokens for c in choices.end()] == [4]
    assert not choices.miscounted


def test_a_bill_that_cannot_be_explained_is_shared_out_and_said():
    choices, _ = told(
        *[Piece(0, text="a")] * 3, Piece(1, text="b"), *[Piece(i, finish=Finish.eos) for i in (0, 1)], usage=11
    )
    ended = [c.completion.tokens for c in choices.end()]
    assert sum(ended) == 11
    assert choices.miscounted


def test_counts_of_the_server_come_before_our_own():
    _, chunks = told(
        Piece(0, text="a", total=4),
        Piece(0, text="b", total=9),
        Piece(0, total=10, finish=Finish.eos),
        Piece(1, text="c"),
    )
    assert [c.tokens for c in chunks] == [4, 5, 1, 1]
    assert chunks[2].completion.tokens == 10


async def test_stop_strings_are_cut_here_where_the_server_does_not_tell_them():
    async with opened(Mock(says=lambda _: LONG, pace=0.002)) as (engine, server):
        draws = await complete(engine, asking(2, sampling={"stop": ("w5 w", "w7")}))
        assert await until(lambda: server.streams == 0)
        assert "stop" not in server.served[0].body
    assert {d.text for d in draws} == {" w0 w1 w2 w3 w4 "}
    assert {(d.finish, d.stop_string) for d in draws} == {(Finish.stop, "w5 w")}
    assert all(d.tokens < 60 for d in draws)


async def test_everything_of_a_callers_request_reaches_the_server_and_the_calls_come_back():
    calls = [
        delta(tool_calls=[{"index": 0, "id": "c1", "type": "function", "function": {"name": "add", "arguments": ""}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": '{"a": '}}]),
        delta(tool_calls=[{"index": 0, "function": {"arguments": "1}"}}]),
        delta(finish="tool_calls"),
        bill(9),
    ]
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    messages = (
        Message("system", "be brief"),
        Message("user", ({"type": "text", "text": "look"}, image)),
        Message("assistant", "", {"tool_calls": [{"id": "c0", "type": "function", "function": {"name": "see"}}]}),
        Message("tool", "a cat", {"tool_call_id": "c0"}),
        Message("user", "and now?", {"name": "ann"}),
    )
    tools = ({"type": "function", "function": {"name": "add", "parameters": {}}},)
    problem = Problem(messages=messages, tools=tools)
    sampling = Sampling(
        max_tokens=20,
        response_format={"type": "json_object"},
        extra={"parallel_tool_calls": False, "metadata": {"k": "v"}},
        effort="low",
    )
    async with answering(sse(*calls)) as (url, bodies):
        engine = Http(base_url=url)
        await engine.open()
        llm = Session(Place(engine=engine, ledger=Ledger(Budget()), run=Run(problem=problem), sampling=sampling))
        [trace] = await llm.sample(problem)
        await engine.aclose()
    body = bodies[0][0]
    assert body["messages"] == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "look"}, image]},
        {
            "role": "assistant",
            "content": "",
            "tool_calls": [{"id": "c0", "type": "function", "function": {"name": "see"}}],
        },
        {"role": "tool", "content": "a cat", "tool_call_id": "c0"},
        {"role": "user", "content": "and now?", "name": "ann"},
    ]
    assert body["tools"] == [*tools]
    assert (body["response_format"], body["metadata"]) == ({"type": "json_object"}, {"k": "v"})
    assert (body["parallel_tool_calls"], body["reasoning_effort"]) == (False, "low")
    assert isinstance(body["seed"], int)
    [call] = trace.segments[-1].tool_calls
    assert call == {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}


async def test_tool_calls_survive_the_store(tmp_path):
    said = [
        delta(tool_calls=[{"index": 0, "id": "c", "function": {"name": "f", "arguments": "{}"}}]),
        delta(finish="stop"),
    ]
    store = Store(tmp_path / "runs.db")
    async with answering(sse(*said, bill(3))) as (url, bodies):
        engine = Http(base_url=url)
        for _ in range(2):
            out = await solve(PROBLEM, SelfConsistency(n=1), engine, budget=Budget(), store=store)
        await engine.aclose()
    assert len(bodies) == 1
    assert store.pool(out.run)[0].segments[0].tool_calls[0]["function"]["name"] == "f"
    store.close()


async def test_a_vote_counts_the_calls_that_a_server_streams():
    given = ('{"a": 1, "b": 2}', '{"a": 3}', '{"b": 2.0, "a": 1}')
    said = [
        delta(i, tool_calls=[{"index": 0, "id": f"c{i}", "function": {"name": "add", "arguments": text}}])
        for i, text in enumerate(given)
    ]
    ends = [delta(i, finish="tool_calls") for i in range(3)]
    async with answering(sse(*said, *ends, bill(27))) as (url, _):
        engine = Http(base_url=url)
        out = await solve(PROBLEM, ToolCallBestOfN(n=3), engine, budget=Budget())
        await engine.aclose()
    assert out.answer == '[{"arguments":{"a":1,"b":2},"name":"add"}]'
    assert ([v.count for v in out.votes], out.usage.output_tokens) == ([2, 1], 27)


async def test_a_field_that_the_server_refuses_is_left_out_from_then_on():
    refusal = refuses(400, "Unknown parameter: `stream_options`")
    async with answering(refusal, sse(*HI)) as (url, bodies):
        engine = Http(base_url=url)
        assert [d.text for d in await complete(engine, asking(1))] == ["hi"]
        await complete(engine, asking(1))
        await engine.aclose()
    assert ["stream_options" in body for body, _ in bodies] == [True, False, False]


async def test_the_other_name_of_the_cap_is_taken_where_it_is_asked_for():
    refusal = refuses(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
    async with answering(refusal, sse(*HI)) as (url, bodies):
        engine = Http(base_url=url)
        await complete(engine, asking(1))
        await engine.aclose()
    assert bodies[1][0]["max_completion_tokens"] == 64
    assert "max_tokens" not in bodies[1][0]


async def test_a_reply_in_one_piece_is_taken_as_it_is():
    async def plain(request):
        choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "length"}
        return web.json_response({"choices": [choice], "usage": {"prompt_tokens": 2, "completion_tokens": 5}})

    async with answering(plain) as (url, _):
        engine = Http(base_url=url)
        [draw] = await complete(engine, asking(1))
        await engine.aclose()
    assert (draw.text, draw.finish, draw.tokens, draw.usage.input_tokens) == ("hi", Finish.length, 5, 2)


async def test_retry_after_is_waited_for():
    async with answering(refuses(429, "slow down", **{"retry-after-ms": "150"}), sse(*HI)) as (url, bodies):
        engine, begun = Http(base_url=url), time.monotonic()
        out = await solve(PROBLEM, SelfConsistency(n=1), engine, budget=Budget())
        await engine.aclose()
    assert time.monotonic() - begun >= 0.15
    assert (len(bodies), out.usage.calls, out.traces[0].text) == (2, 1, "hi")


async def test_a_spent_quota_is_not_asked_again():
    async with answering(refuses(429, "You exceeded your current quota: insufficient_quota")) as (url, bodies):
        engine = Http(base_url=url)
        out = await solve(PROBLEM, SelfConsistency(n=1), engine, budget=Budget())
        await engine.aclose()
    assert len(bodies) == 1
    assert "quota" in out.warnings[0]


KEY = "sk-verysecretkey123456"


async def test_the_key_is_sent_and_never_seen(tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    refusal = refuses(401, f"Incorrect API key provided: {KEY}")
    store = Store(tmp_path / "runs.db")
    async with answering(sse(*HI), refusal) as (url, _):
        engine = Http(base_url=url.replace("://", "://me:pw@"), key=KEY)
        await solve(PROBLEM, SelfConsistency(n=1), engine, budget=Budget(), store=store)
        out = await solve(PROBLEM, SelfConsistency(n=2), engine, budget=Budget(), store=store)
        shown = [repr(engine), str(engine.capabilities), *out.warnings, caplog.text]
        await engine.aclose()
    store.close()
    assert "set OPENAI_API_KEY" in out.warnings[0]
    kept = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    for text in (*shown, kept.decode("utf-8", "replace")):
        assert KEY not in text
        assert "me:pw" not in text


async def html(request):
    return web.Response(text="<html>hello</html>", content_type="text/html")


@pytest.mark.parametrize(
    ("responds", "kind", "says"),
    [
        (refuses(404, "The model `x` does not exist."), ModelError, "does not serve this model"),
        (refuses(404, "Not Found"), EngineError, "usually ends in `/v1`"),
        (
            refuses(400, "This model's maximum context length is 10 tokens"),
            EngineError,
            "do not fit the model's context",
        ),
        (refuses(400, "no chat template is set for this model"), EngineError, "api=completions"),
        (html, EngineError, "a web page instead of JSON"),
        (refuses(418, "short and stout"), EngineError, "status 418"),
    ],
)
async def test_an_error_is_one_sentence_with_its_cause_and_the_next_step(responds, kind, says):
    async with answering(responds) as (url, _):
        engine = Http(base_url=url)
        with pytest.raises(kind, match=says):
            await complete(engine, asking(1))
        await engine.aclose()


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("http://127.0.0.1:9/v1", r"no server answers at .* \(connection refused\): start it"),
        ("http://no-such-host.invalid/v1", "cannot be found: check the address"),
    ],
)
async def test_a_server_that_is_not_there_is_named(address, says):
    engine = Http(base_url=address)
    with pytest.raises(EngineError, match=says):
        await engine.open()
    await engine.aclose()


@pytest.mark.parametrize("address", ["ftp://x", "nonsense", "http://", ""])
def test_an_address_that_is_none_is_refused(address, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "also nonsense")
    with pytest.raises(SettingsError, match="is no address of a server: write it like"):
        Http(base_url=address)


async def test_a_certificate_is_trusted_only_with_its_bundle(tmp_path, monkeypatch):
    authority, trust = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(trust)
    authority.cert_pem.write_to_path(tmp_path / "bundle.pem")
    runner = web.AppRunner(Mock().app())
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=trust).start()
    engine = Http(base_url=f"https://127.0.0.1:{runner.addresses[0][1]}/v1")
    with pytest.raises(EngineError, match=r"is not trusted .* set SSL_CERT_FILE"):
        await engine.open()
    await engine.aclose()
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "bundle.pem"))
    await engine.open()
    assert engine.capabilities.name == "mock"
    await engine.aclose()
    await runner.cleanup()


@pytest.mark.parametrize(
    ("meta", "vocab"), [({"n_vocab": 32000, "n_ctx": 4096}, 32000), ({"n_vocab": -1}, 0), ("?", 0), (None, 0)]
)
async def test_the_size_of_the_vocabulary_is_what_the_server_lists(meta, vocab):
    async def models(request):
        return web.json_response({"data": [{"id": "a", "meta": meta}]})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engine = Http(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}/v1")
    await engine.open()
    assert engine.capabilities.vocab == vocab
    await engine.aclose()
    await runner.cleanup()


async def test_a_server_with_several_models_wants_one_named():
    async def models(request):
        return web.json_response({"data": [{"id": "a"}, {"id": "b"}]})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    engine = Http(base_url=f"http://127.0.0.1:{runner.addresses[0][1]}")
    with pytest.raises(ModelError, match="serves 2 models: name one of `a`, `b`"):
        await engine.open()
    await engine.aclose()
    await runner.cleanup()


async def test_what_the_engine_cannot_do_is_refused_before_it_is_asked():
    async with opened(Mock()) as (engine, server):
        with pytest.raises(CapabilityError, match="a reward model"):
            await complete(engine, asking(1, steps=("a",)))
        with pytest.raises(CapabilityError, match="does not score given texts"):
            await complete(engine, asking(1, continuation="a"))
        assert server.requests == 0


@pytest.mark.parametrize(
    ("owner", "prefill"),
    [("vllm", "continue_final_message"), ("sglang", "continue_final_message"), ("library", "trailing")],
)
async def test_a_turn_is_continued_as_the_kind_of_server_wants_it(owner, prefill):
    begun = Segment(text="The answer", origin=Origin.sampled)
    async with answering(sse(*HI), owner=owner) as (url, bodies):
        engine = Http(base_url=url)
        await engine.open()
        assert Capability.prefill in engine.capabilities.can
        await complete(engine, asking(1, prefix=(begun,)))
        await engine.aclose()
    assert bodies[0][0]["messages"][-1] == {"role": "assistant", "content": "The answer"}
    assert bodies[0][0].get("continue_final_message", False) is (prefill != "trailing")


def test_an_engine_outlives_its_event_loop():
    engine = None

    async def once(url):
        nonlocal engine
        engine = engine or Http(base_url=url)
        return await complete(engine, asking(2))

    async def both():
        async with serving(Mock()) as server:
            return await asyncio.to_thread(lambda: [asyncio.run(once(server.url)) for _ in range(2)])

    first, second = asyncio.run(both())
    assert [d.text for d in first] == [d.text for d in second]


def test_models_with_roles_and_replicas_are_told_apart():
    assert split('a,b("x,y", z=[1,2]),c') == ["a", 'b("x,y", z=[1,2])', "c"]
    main, roles = engines_for(
        "small=http://127.0.0.1:1/v1#s,large=http://127.0.0.1:2/v1,http://127.0.0.1:3/v1,judge=tabular"
    )
    assert repr(main) == "Http(base_url='http://127.0.0.1:1/v1', model='s', api='chat')"
    assert sorted(roles) == ["judge", "large", "small"]
    assert isinstance(roles["large"], Pool)
    assert roles["small"] is main
    with pytest.raises(SettingsError, match="given two models"):
        engines_for("a=tabular,a=scripted")


@pytest.mark.parametrize(
    ("model", "bounds"),
    [
        ("http://127.0.0.1:1/v1", [7]),
        ("http://127.0.0.1:1/v1,http://127.0.0.1:2/v1", [7, 7]),
        ('http(base_url="http://127.0.0.1:1/v1"),http(base_url="http://127.0.0.1:2/v1", concurrency=2)', [7, 2]),
        ('pool(replicas=[http(base_url="http://127.0.0.1:1/v1"), http(base_url="http://127.0.0.1:2/v1")])', [7, 7]),
        ('judge=http-reward(base_url="http://127.0.0.1:1/v1")', [7]),
        ("tabular", [64]),
    ],
)
def test_a_bound_on_draws_is_that_of_every_server(model, bounds):
    engine, _ = engines_for(model, concurrency=7)
    assert engine.capabilities.concurrency == sum(bounds)
    assert not isinstance(engine, Pool) or [limit.ceiling for limit in engine.limits] == bounds


def test_the_environment_names_the_server(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:4/v1")
    assert "127.0.0.1:4" in repr(engine_for("some-model-of-mine"))
    assert "127.0.0.1:5" in repr(engine_for("another-model", "http://127.0.0.1:5/v1"))
    assert "127.0.0.1:6" in repr(engine_for('http(base_url="http://127.0.0.1:6/v1", api=completions)'))
    with pytest.raises(SettingsError, match="takes no `base_ur`: did you mean `base_url`"):
        engine_for("http(base_ur=x)")
    with pytest.raises(SettingsError, match="is no dialect"):
        engine_for("http(api=chatt)")


async def test_draws_of_the_first_reply_of_an_unknown_server_arrive_as_they_end():
    def says(seed):
        return (" The answer is 42.", *LONG[: seed % 2 * 150])

    async with opened(Mock(says=says, pace=0.003)) as (engine, server):
        abort, ended = Abort(), []
        async with aclosing(engine.stream(asking(8, max_tokens=200), abort)) as chunks:
            async for chunk in chunks:
                if chunk.completion is not None:
                    ended.append(chunk.completion)
                    abort.end()
        assert await until(lambda: len(server.disconnects) == 1)
        assert server.requests == 1
    assert (ended[0].text, ended[0].finish) == (" The answer is 42.", Finish.eos)
    assert sum(c.usage.output_tokens for c in ended) < 400
