"""Spans on the wire: what a collector gets from `thinkscale serve` in a process of its own."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest

from servers.gateway import launched
from servers.mock import Mock, answer, serving, until

pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
VOTE = "mock+self-consistency(n=5, stop=fixed)"
QUESTION = "What is the secret of 40 + 2?"
TRACE, CALLER = "a1" * 16, "b2" * 8
NEVER = "3600000"
"""Milliseconds between exports, so that only the end of the gateway exports anything."""


@asynccontextmanager
async def collected(home, **environment):
    """A collector, an upstream, and a gateway that sends its spans to the collector."""
    from servers.collector import collecting

    async with collecting() as collector, serving(Mock(says=lambda seed: answer(0))) as mock:
        environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = collector.url
        async with launched(mock.url, home, "--store", "none", **environment) as gateway:
            yield collector, mock, gateway


async def ask(gateway, **headers):
    body = {"model": VOTE, "messages": [{"role": "user", "content": QUESTION}], "temperature": 1, "top_k": 5}
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{gateway.url}/chat/completions", json=body, headers=headers) as reply,
    ):
        assert reply.status == 200, await reply.text()
        return await reply.json()


async def ended(gateway):
    gateway.terminate()
    async with asyncio.timeout(60):
        return await gateway.process.wait()


async def test_a_vote_is_one_trace_that_the_end_of_the_gateway_hands_over_without_its_words(tmp_path):
    async with collected(tmp_path, OTEL_BSP_SCHEDULE_DELAY=NEVER) as (collector, mock, gateway):
        async with asyncio.TaskGroup() as tasks:
            asked = tasks.create_task(ask(gateway, traceparent=f"00-{TRACE}-{CALLER}-01"))
            tasks.create_task(ask(gateway))
        assert not collector.bodies
        assert await ended(gateway) == 0
        told, runs = asked.result(), [s for s in collector.spans if s.name == "invoke_workflow self-consistency"]
        calls = [s for s in collector.spans if s not in runs]
        run, alone = sorted(runs, key=lambda s: not s.parent)
        assert {(s.kind, s.service, s.failed) for s in runs} == {("INTERNAL", "thinkscale", False)}
        assert (run.trace, run.parent, alone.parent) == (TRACE, CALLER, "")
        assert len(calls) == mock.requests == 2
        assert {(s.name, s.kind, s.failed) for s in calls} == {("chat mock", "CLIENT", False)}
        assert {(s.trace, s.parent) for s in calls} == {(s.trace, s.id) for s in runs}
        [call] = [s for s in calls if s.parent == run.id]
        assert 0 <= call.seconds <= run.seconds
        spent = told["thinkscale"]["spend"]["output_tokens"]
        assert (run.attributes["thinkscale.usage.output_tokens"], spent) == (spent, 25)
        assert call.attributes["gen_ai.usage.output_tokens"] == spent
        assert call.attributes["gen_ai.response.finish_reasons"] == ["stop"] * 5
        assert {type(call.attributes[f"gen_ai.request.{what}"]) for what in ("temperature", "top_k")} == {float}
        for words in (QUESTION, "secret", told["choices"][0]["message"]["content"].strip()):
            assert not any(words.encode() in body for body in collector.bodies)


async def test_content_is_sent_when_it_is_asked_for_and_spans_come_while_the_gateway_runs(tmp_path):
    wanted = {"OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT": "true", "OTEL_BSP_SCHEDULE_DELAY": "20"}
    async with collected(tmp_path, **wanted) as (collector, mock, gateway):
        await ask(gateway)
        assert await until(lambda: len(collector.spans) > mock.requests)
        [run] = [s for s in collector.spans if not s.parent]
        calls = [s for s in collector.spans if s is not run]
        assert {s.trace for s in calls} == {run.trace} != {TRACE}
        for call in calls:
            assert QUESTION in json.loads(call.attributes["gen_ai.input.messages"])[0]["parts"][0]["content"]
            said = json.loads(call.attributes["gen_ai.output.messages"])
            assert [choice["parts"] for choice in said] == [[{"type": "text", "content": " The answer is 42."}]] * 5
