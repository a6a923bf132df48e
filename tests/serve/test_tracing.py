"""Tracing: one span per run and per engine call, nothing of what was said unless asked for, nothing at all when off."""

import asyncio
import json
import os
import subprocess
import sys
from contextlib import aclosing

import pytest

from clocks import on_a_clock_of_its_own
from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.protocol import Request, complete
from thinkscale.engines.scripted import Line, Scripted
from thinkscale.engines.tabular import START, Tabular
from thinkscale.errors import EngineError, SettingsError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.serve.records import Api, Asked, Order
from thinkscale.serve.tracing import tracing
from thinkscale.serve.untraced import Tracing
from thinkscale.session import Run
from thinkscale.stopping.fixed import Fixed
from thinkscale.testing import check_engine
from thinkscale.types import Message, Problem, Sampling

SECRET = "What is 2 + 2?"
PROMPT = (Message("user", SECRET),)


@pytest.fixture
def collected():
    pytest.importorskip("opentelemetry.sdk")
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield provider, exporter.get_finished_spans
    provider.shutdown()


def spans_of(provider, **options):
    from thinkscale.serve.spans import Spans

    return Spans(provider, **options)


def ordered(method, engine):
    return Order(
        asked=Asked(api=Api.chat, model="m", problem=Problem.of(SECRET), sampling=Sampling()),
        method=method,
        engine=engine,
        sampling=Sampling(max_tokens=16),
        budget=Budget(tokens=500),
        seed=2**62,
        profile="deep",
    )


async def run(order, on):
    run = Run(seed=order.seed)
    with on.run(order) as span:
        outcome = await solve(
            order.asked.problem, order.method, order.engine, budget=order.budget, run=run, sampling=order.sampling
        )
        span.ended(outcome)
    return outcome


async def test_calls_hang_under_their_run_and_add_up_to_its_bill(collected):
    provider, finished = collected
    on = spans_of(provider)
    outcome = await run(ordered(SelfConsistency(n=5, stop=Fixed()), on.traced(Tabular())), on)
    [of_run] = [s for s in finished() if s.name == "invoke_workflow self-consistency"]
    calls = [s for s in finished() if s is not of_run]
    assert calls
    assert {s.name for s in calls} == {"chat tabular"}
    assert {s.parent.span_id for s in calls} == {of_run.context.span_id}
    drawn = sum(s.attributes["gen_ai.usage.output_tokens"] for s in calls)
    assert drawn == of_run.attributes["thinkscale.usage.output_tokens"] == outcome.usage.output_tokens
    assert not any(name.startswith("gen_ai.usage") for name in of_run.attributes)
    assert of_run.attributes["thinkscale.method"] == "self-consistency(n=5, stop=fixed)"
    assert (of_run.attributes["thinkscale.stopped"], of_run.attributes["thinkscale.samples"]) == ("done", 5)
    assert (of_run.attributes["thinkscale.profile"], of_run.attributes["thinkscale.budget"]) == ("deep", "tokens=500")


async def test_two_runs_at_once_keep_their_calls_apart(collected):
    provider, finished = collected
    on = spans_of(provider)
    engine = on.traced(Scripted(lambda _: Line(says="The answer is 4.", pace=0.0)))
    async with asyncio.TaskGroup() as tasks:
        for n in (2, 3):
            tasks.create_task(run(ordered(SelfConsistency(n=n, stop=Fixed()), engine), on))
    runs = {s.context.span_id: s for s in finished() if s.name.startswith("invoke")}
    drawn = dict.fromkeys(runs, 0)
    for span in finished():
        if span.context.span_id not in runs:
            drawn[span.parent.span_id] += len(span.attributes["gen_ai.response.finish_reasons"])
    assert sorted(drawn.values()) == [2, 3]


async def test_a_call_says_how_it_was_made_in_the_words_of_the_convention(collected):
    provider, finished = collected
    engine = spans_of(provider).traced(Tabular(), role="judge")
    sampling = Sampling(max_tokens=2, temperature=0.5, top_p=0.9, top_k=3, stop=("x",))
    await complete(engine, Request(messages=PROMPT, sampling=sampling, seeds=(1, 2)))
    await complete(engine, Request(messages=PROMPT, sampling=Sampling(max_tokens=9), seeds=(7,)))
    first, second = (dict(s.attributes) for s in finished())
    assert isinstance(first.pop("gen_ai.response.time_to_first_chunk"), float)
    assert first == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "thinkscale",
        "gen_ai.request.model": "tabular",
        "gen_ai.request.stream": True,
        "gen_ai.request.choice.count": 2,
        "gen_ai.request.max_tokens": 2,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.9,
        "gen_ai.request.top_k": 3,
        "gen_ai.request.stop_sequences": ("x",),
        "gen_ai.response.finish_reasons": ("length", "length"),
        "gen_ai.usage.input_tokens": first["gen_ai.usage.input_tokens"],
        "gen_ai.usage.output_tokens": 4,
        "thinkscale.continued": False,
        "thinkscale.role": "judge",
        "thinkscale.usage.calls": 2,
    }
    assert (second["gen_ai.request.seed"], second["gen_ai.response.finish_reasons"]) == (7, ("stop",))


@pytest.mark.parametrize("content", [False, True])
async def test_what_was_said_is_left_out_unless_it_is_asked_for(collected, content):
    provider, finished = collected
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    parts = (Message("user", ({"type": "text", "text": SECRET}, image)),)
    engine = spans_of(provider, content=content).traced(Scripted(lambda _: "four"))
    await complete(engine, Request(messages=parts))
    [span] = finished()
    text = span.to_json()
    assert (SECRET in text, "four" in text, "base64" in text) == (content, content, False)
    if content:
        [asked] = json.loads(span.attributes["gen_ai.input.messages"])
        [answered] = json.loads(span.attributes["gen_ai.output.messages"])
        assert asked["parts"] == [{"type": "text", "content": SECRET}, {"type": "image_url"}]
        assert answered == {
            "role": "assistant", "parts": [{"type": "text", "content": "four"}], "finish_reason": "stop",
        }  # fmt: skip


async def test_a_failed_call_is_an_error_by_its_class_without_its_words(collected):
    provider, finished = collected
    fails = EngineError(f"cannot answer `{SECRET}`", status=500)
    engine = spans_of(provider).traced(Scripted([Line(says="", fails=fails)]))
    with pytest.raises(EngineError):
        await complete(engine, Request(messages=PROMPT))
    [span] = finished()
    assert (span.status.is_ok, span.attributes["error.type"]) == (False, "EngineError")
    assert SECRET not in span.to_json()


async def test_leaving_a_stream_closes_the_engine_s_and_is_no_error(collected):
    provider, finished = collected
    closed = []

    class Watched(Scripted):
        async def stream(self, request, abort=None):
            try:
                async for chunk in super().stream(request, abort):
                    yield chunk
            finally:
                closed.append(True)

    engine = spans_of(provider).traced(Watched(lambda _: Line(says="a b c d", pace=0.0)))
    async with aclosing(engine.stream(Request(messages=PROMPT))) as chunks:
        async for _ in chunks:
            break
    [span] = finished()
    assert closed == [True]
    assert span.status.status_code.name == "UNSET"
    assert (span.attributes["thinkscale.cancelled"], span.attributes["thinkscale.draws.unfinished"]) == (
        True,
        1,
    )


@on_a_clock_of_its_own
async def test_a_run_that_is_cancelled_ends_its_span(collected):
    provider, finished = collected
    on = spans_of(provider)
    engine = on.traced(Scripted(lambda _: Line(says="a " * 500, pace=0.01)))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.03):
            await run(ordered(SelfConsistency(n=2), engine), on)
    names = {s.name: s for s in finished()}
    assert set(names) == {"invoke_workflow self-consistency", "chat scripted"}
    assert names["invoke_workflow self-consistency"].attributes["thinkscale.cancelled"]
    assert names["chat scripted"].attributes["gen_ai.response.finish_reasons"] == ("aborted", "aborted")
    assert names["chat scripted"].attributes["gen_ai.usage.output_tokens"] > 0


async def test_a_run_belongs_to_the_trace_that_the_client_named(collected):
    provider, finished = collected
    on, order = spans_of(provider), ordered(SelfConsistency(n=1, stop=Fixed()), Tabular())
    with on.received({"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}):
        await asyncio.create_task(run(order, on))
    await run(order, on)
    within, alone = finished()
    assert (within.context.trace_id, within.parent.span_id) == (int("a" * 32, 16), int("b" * 16, 16))
    assert alone.parent is None


async def test_a_traced_engine_keeps_the_protocol(collected):
    provider, _ = collected
    endless = {START: {"a": 1.0}, "a": {"a": 0.6, "b": 0.4}, "b": {"a": 1.0}}
    await check_engine(spans_of(provider, content=True).traced(Tabular(endless)))


async def test_without_an_exporter_in_the_environment_nothing_is_wrapped():
    engine = Tabular()
    for environment in (
        {},
        {"OTEL_TRACES_EXPORTER": "none"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_TRACES_EXPORTER": "x"},
    ):
        off = tracing(environment)
        assert type(off) is Tracing
        assert off.traced(engine) is engine
    with off.received({}):
        assert (await run(ordered(SelfConsistency(n=2), engine), off)).answer
    off.close()


def test_without_opentelemetry_nothing_is_traced_and_the_log_says_so(monkeypatch, caplog):
    monkeypatch.setattr("thinkscale.serve.tracing.find_spec", lambda _: None)
    assert type(tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:4318"})) is Tracing
    assert "thinkscale[otel]" in caplog.text


def test_an_exporter_that_nobody_has_is_named():
    pytest.importorskip("opentelemetry.sdk")
    with pytest.raises(SettingsError, match="`nobody`"):
        tracing({"OTEL_TRACES_EXPORTER": "nobody"})


def process(script, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.startswith("OTEL_")}
    return subprocess.run(
        [sys.executable, "-c", script], env=clean | environment, text=True, capture_output=True, timeout=120, check=True
    )


def test_opentelemetry_is_not_imported_where_it_is_not_wanted():
    script = (
        "import sys; from thinkscale.serve.tracing import tracing; tracing(); print('opentelemetry' in sys.modules)"
    )
    assert process(script).stdout == "False\n"


def test_the_environment_alone_turns_it_on():
    pytest.importorskip("opentelemetry.sdk")
    script = (
        "import asyncio\n"
        "from thinkscale.serve.tracing import tracing\n"
        "from thinkscale.engines.tabular import START, Tabular\n"
        "from thinkscale.engines.protocol import Request, complete\n"
        "from thinkscale.types import Message\n"
        "on = tracing()\n"
        "asyncio.run(complete(on.traced(Tabular()), Request(messages=(Message('user', 'hi'),))))\n"
        "on.close()\n"
    )
    said = process(script, OTEL_TRACES_EXPORTER="console").stdout
    assert '"name": "chat tabular"' in said
    assert '"service.name": "thinkscale"' in said
    assert '"service.name": "mine"' in process(script, OTEL_TRACES_EXPORTER="console", OTEL_SERVICE_NAME="mine").stdout
