"""OpenAI's own client drives the gateway end to end."""

import asyncio
import json
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass

import openai
import pytest
from openai import AsyncOpenAI, DefaultAsyncHttpxClient, OpenAI

from servers.gateway import fronting
from servers.mock import Mock, answer, failure, opened, serving, until
from thinkscale.serve.keys import Keyring, Limits
from thinkscale.serve.runs import Runs
from thinkscale.settings import Profile

ASKED = [{"role": "user", "content": "What is 40 + 2?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
VOTE = "mock+self-consistency(n=5, stop=fixed)"


class Caller(Mock):
    """Calls a tool, with arguments spelled in two ways, until it is told what the tool said."""

    async def respond(self, request, served):
        if any(m["role"] == "tool" for m in served.body["messages"]):
            return await super().respond(request, served)
        response = await opened(request)
        n = self.granted(served.body)
        served.n, served.written = n, [0] * n
        for i in range(n):
            spelled = '{"city": "Paris"}' if i % 2 else '{"city":"Paris"}'
            called = {"index": 0, "id": f"call_{i}", "type": "function"}
            called["function"] = {"name": "weather", "arguments": spelled}
            delta = {"role": "assistant", "content": None, "tool_calls": [called]}
            for choice in ({"delta": delta, "finish_reason": None}, {"delta": {}, "finish_reason": "tool_calls"}):
                await response.write(self._data(choices=[{"index": i, **choice}]))
        await response.write(self._data(choices=[], usage={"prompt_tokens": 8, "completion_tokens": 9 * n}))
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        return response


class Json(Mock):
    """Answers with JSON, spelled in two ways."""

    def texts(self, body, n):
        texts = ('{"answer": 42}', '{ "answer" : 42 }', '{"answer": 41}')
        return [((texts[i % 3],), "stop", 6) for i in range(n)]


@dataclass(slots=True, kw_only=True, eq=False)
class Broken(Mock):
    """Answers with an error."""

    status: int = 500

    async def respond(self, request, served):
        return failure(self.status, "out of order")


class Torn(Mock):
    """Breaks off every other choice, each of which it is asked for alone."""

    async def respond(self, request, served):
        if self.granted(served.body) is None or served.body["seed"] % 2:
            return await super().respond(request, served)
        response = await opened(request)
        served.n, served.written = 1, [0]
        for token in (" x", " y", " z", " w"):
            await response.write(self._data(choices=[{"index": 0, "delta": {"content": token}, "finish_reason": None}]))
        await response.write(b'data: {"error": {"message": "out of memory", "code": 500}}\n\n')
        await response.write_eof()
        return response


@asynccontextmanager
async def client(front, **options):
    # Reading the machine's certificates takes longer than a test.
    async with AsyncOpenAI(
        base_url=front.url,
        api_key=options.pop("api_key", "none"),
        http_client=DefaultAsyncHttpxClient(verify=False),
        **options,
    ) as client:
        yield client


@asynccontextmanager
async def before(mock, *, client_options=None, **options):
    async with serving(mock), fronting(mock.url, **options) as front, client(front, **(client_options or {})) as asking:
        yield front, asking


@pytest.fixture
async def ask(front):
    async with client(front) as asking:
        yield asking


async def test_a_model_as_it_is(ask, upstream):
    told = await ask.chat.completions.create(model="mock", messages=ASKED, seed=3, temperature=0.5, stop=["."])
    assert told.choices[0].message.content == " The answer is 42"
    assert (told.usage.prompt_tokens, told.usage.completion_tokens, told.usage.total_tokens) == (8, 5, 13)
    assert told.id.startswith("chatcmpl-")
    assert upstream.served[-1].body["temperature"] == 0.5


async def test_a_method_behind_the_name_of_a_model(ask):
    told = await ask.chat.completions.create(model=VOTE, messages=ASKED)
    said = told.thinkscale
    assert (said["method"], said["samples"], said["answer"]) == ("self-consistency(n=5, stop=fixed)", 5, "42")
    assert sum(vote["count"] for vote in said["votes"]) == 5
    assert told.usage.completion_tokens == 25
    assert told.usage.completion_tokens_details.reasoning_tokens == 20


async def test_a_method_in_the_body(ask):
    extra = {"thinkscale": {"method": "best-of-n(n=4, scorer=length)", "budget": {"tokens": 400}, "trace": True}}
    told = await ask.chat.completions.create(model="mock", messages=ASKED, extra_body=extra)
    assert told.thinkscale["method"] == "best-of-n(n=4, scorer=length)"
    assert len(told.thinkscale["traces"]) == 4


async def test_several_choices_and_the_same_again_under_a_seed(ask):
    first = await ask.chat.completions.create(model="mock", messages=ASKED, n=3, seed=7)
    again = await ask.chat.completions.create(model="mock", messages=ASKED, n=3, seed=7)
    assert [choice.index for choice in first.choices] == [0, 1, 2]
    assert [c.message.content for c in first.choices] == [c.message.content for c in again.choices]
    assert first.usage.completion_tokens == 15


@pytest.mark.parametrize("model", ["mock", VOTE])
async def test_a_stream_with_usage(ask, model):
    asked = await ask.chat.completions.create(
        model=model, messages=ASKED, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in asked]
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == " The answer is 42."
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens == (5 if model == "mock" else 25)
    thought = "".join(getattr(c.choices[0].delta, "reasoning", "") or "" for c in chunks if c.choices)
    assert ("Sample 5" in thought) == (model != "mock")


async def test_the_streaming_interface_of_the_client(ask):
    async with ask.chat.completions.stream(model=VOTE, messages=ASKED) as stream:
        kinds = {event.type async for event in stream}
        final = await stream.get_final_completion()
    assert "content.delta" in kinds
    assert final.choices[0].message.content == " The answer is 42."


@pytest.mark.parametrize("model", ["mock", VOTE])
async def test_tools_are_called_and_what_they_say_is_sent_on(model):
    async with before(Caller(says=lambda seed: answer(0))) as (_, ask):
        told = await ask.chat.completions.create(model=model, messages=ASKED, tools=[WEATHER])
        assert told.choices[0].finish_reason == "tool_calls"
        [call] = told.choices[0].message.tool_calls
        assert json.loads(call.function.arguments) == {"city": "Paris"}
        if model == VOTE:
            assert told.thinkscale["confidence"] == 1.0
        result = {"role": "tool", "tool_call_id": call.id, "content": "42 °C"}
        turns = [*ASKED, told.choices[0].message.model_dump(exclude_none=True), result]
        again = await ask.chat.completions.create(model=model, messages=turns, tools=[WEATHER])
        assert again.choices[0].message.content == " The answer is 42."


async def test_tool_calls_in_a_stream():
    async with before(Caller(says=lambda seed: answer(0))) as (_, ask):
        async with ask.chat.completions.stream(model=VOTE, messages=ASKED, tools=[WEATHER]) as stream:
            final = await stream.get_final_completion()
        assert final.choices[0].message.tool_calls[0].function.name == "weather"


async def test_a_schema_is_sent_on_and_its_json_voted_on():
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}}}
    shape = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    mock = Json()
    async with before(mock) as (_, ask):
        told = await ask.chat.completions.create(
            model="mock+self-consistency(n=6, stop=fixed)", messages=ASKED, response_format=shape
        )
        assert json.loads(told.choices[0].message.content) == {"answer": 42}
        assert [vote["count"] for vote in told.thinkscale["votes"]] == [4, 2]
        assert mock.served[-1].body["response_format"] == shape


@pytest.mark.parametrize("model", ["mock", VOTE])
async def test_responses(ask, model):
    told = await ask.responses.create(model=model, input="What is 40 + 2?", instructions="Be brief.")
    assert told.output_text == " The answer is 42."
    assert told.status == "completed"
    assert told.usage.output_tokens == (5 if model == "mock" else 25)


@pytest.mark.parametrize("model", ["mock", VOTE])
async def test_responses_in_a_stream(ask, model):
    async with ask.responses.stream(model=model, input="What is 40 + 2?") as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    assert "response.output_text.delta" in kinds
    assert final.output_text == " The answer is 42."


async def test_completions_whole_and_in_a_stream(ask):
    told = await ask.completions.create(model="mock", prompt="40 + 2 =", max_tokens=16)
    assert told.choices[0].text == " The answer is 42."
    asked = await ask.completions.create(model=VOTE, prompt="40 + 2 =", max_tokens=16, stream=True)
    assert "".join([c.choices[0].text async for c in asked if c.choices]) == " The answer is 42."


async def test_models_and_profiles_are_listed():
    profiles = {"deep": Profile(method="self-consistency(n=3)")}
    async with before(Mock(), profiles=profiles) as (_, ask):
        assert [model.id async for model in await ask.models.list()] == ["mock", "deep"]
        assert (await ask.models.retrieve("deep")).id == "deep"
        told = await ask.chat.completions.create(model="deep", messages=ASKED)
        assert told.thinkscale["profile"] == "deep"
        with pytest.raises(openai.NotFoundError):
            await ask.models.retrieve("shallow")


@pytest.mark.parametrize(
    ("wrong", "kind", "param"),
    [
        ({"model": "nope"}, openai.NotFoundError, "model"),
        ({"model": "mock+selfconsistency"}, openai.BadRequestError, "model"),
        ({"n": 10_000}, openai.BadRequestError, "n"),
        ({"temperature": "hot"}, openai.BadRequestError, "temperature"),
        ({"messages": []}, openai.BadRequestError, "messages"),
        ({"extra_body": {"thinkscale": {"budgets": 1}}}, openai.BadRequestError, "thinkscale.budgets"),
        ({"extra_body": {"thinkscale": {"budget": {"tokens": 0}}}}, openai.BadRequestError, "thinkscale.budget"),
        ({"logprobs": True, "model": "mock+budget-forcing"}, openai.BadRequestError, None),
    ],
)
async def test_what_cannot_be_served_raises_the_clients_own_error(ask, upstream, wrong, kind, param):
    with pytest.raises(kind) as refused:
        await ask.chat.completions.create(**{"model": "mock", "messages": ASKED} | wrong)
    assert param is None or refused.value.param == param
    assert upstream.requests == 0


async def test_an_upstream_that_fails_is_a_server_error():
    async with before(Broken(), client_options={"max_retries": 0}) as (_, ask):
        with pytest.raises(openai.InternalServerError) as refused:
            await ask.chat.completions.create(model="mock", messages=ASKED)
        assert refused.value.status_code == 502


async def test_an_upstream_that_refuses_ends_a_stream_with_an_error():
    async with before(Broken(status=400)) as (_, ask):
        with pytest.raises(openai.APIError):
            async for _ in await ask.chat.completions.create(model="mock", messages=ASKED, stream=True):
                pass


async def test_keys_are_asked_for_and_their_limits_held():
    keyring = Keyring(":memory:", lambda: 0.0)
    _, token = keyring.add("me", Limits(requests_per_minute=2))
    async with before(Mock(), keyring=keyring, client_options={"max_retries": 0}) as (front, ask):
        with pytest.raises(openai.AuthenticationError):
            await ask.chat.completions.create(model="mock", messages=ASKED)
        async with client(front, api_key=token, max_retries=0) as mine:
            for _ in range(2):
                await mine.chat.completions.create(model="mock", messages=ASKED)
            with pytest.raises(openai.RateLimitError) as refused:
                await mine.chat.completions.create(model="mock", messages=ASKED)
        assert 1 <= int(refused.value.response.headers["retry-after"]) <= 60


async def test_a_client_that_is_told_to_wait_tries_again_and_is_answered():
    mock = Mock(go=asyncio.Event())
    async with before(mock, runs=Runs(places=1, waiting=0)) as (front, ask):
        first = asyncio.create_task(ask.chat.completions.create(model="mock", messages=ASKED))
        assert await until(lambda: front.gateway.runs.queue.free == 0)
        began = time.monotonic()
        second = [{"role": "user", "content": "And 2 + 2?"}]
        other = asyncio.create_task(ask.chat.completions.create(model="mock", messages=second))
        assert await until(lambda: 'status="429"' in front.gateway.metrics.render()[0].decode())
        mock.go.set()
        assert (await other).choices[0].message.content
        assert time.monotonic() - began >= 0.9
        await first


@pytest.mark.parametrize("model", ["mock", VOTE])
async def test_thinking_that_the_upstream_tells_apart_stays_apart_whatever_the_model_is_called(model):
    async with before(Mock(thinks=(" hm", " so"), says=lambda seed: answer(0), pace=0.001)) as (_, ask):
        plain = await ask.chat.completions.create(model=model, messages=ASKED)
        stream = await ask.chat.completions.create(model=model, messages=ASKED, stream=True)
        deltas = [chunk.choices[0].delta async for chunk in stream]
        response = await ask.responses.create(model=model, input="What is 40 + 2?")
    assert plain.choices[0].message.content == "The answer is 42."
    assert plain.choices[0].message.reasoning_content == "hm so"
    assert "".join(delta.content or "" for delta in deltas) == "The answer is 42."
    assert "hm so" in "".join(getattr(delta, "reasoning_content", "") for delta in deltas)
    assert response.output_text == "The answer is 42."


async def test_choices_keep_their_index_when_others_fail():
    mock = Torn(most=1, says=lambda seed: (f" {seed}", " a", " b"))
    async with before(mock) as (_, ask):
        asked = {"model": "mock", "messages": ASKED, "n": 6, "seed": 3, "max_tokens": 6}
        plain = await ask.chat.completions.create(**asked)
        texts, ends = {}, {}
        async for chunk in await ask.chat.completions.create(**asked, stream=True):
            for choice in chunk.choices:
                texts[choice.index] = texts.get(choice.index, "") + (choice.delta.content or "")
                ends[choice.index] = choice.finish_reason or ends.get(choice.index)
    told = {choice.index: choice.message.content for choice in plain.choices}
    assert 0 < len(told) < 6
    assert {at: text for at, text in texts.items() if ends[at] == "stop"} == told
    assert (len(texts), {*ends.values()}) == (6, {"stop", "length"})


async def test_a_retry_after_a_timeout_joins_the_run_in_flight():
    mock = Mock(go=asyncio.Event())
    async with before(mock, client_options={"max_retries": 2}) as (front, ask):
        # Two clients wait, so that the one whose patience ends does not take the run with it.
        headers = {"Idempotency-Key": "once"}
        patient = asyncio.create_task(
            ask.chat.completions.create(model=VOTE, messages=ASKED, extra_headers=headers, timeout=60)
        )
        assert await until(lambda: mock.requests == 1)
        again = headers | {"x-stainless-retry-count": "1"}
        joining = asyncio.create_task(
            ask.chat.completions.create(model=VOTE, messages=ASKED, extra_headers=again, timeout=60)
        )
        assert await until(lambda: any(r.waiting == 2 for r in front.gateway.runs._alive))
        mock.go.set()
        joined, told = await joining, await patient
        assert joined.thinkscale == told.thinkscale
        assert mock.requests == 1
        assert await until(lambda: front.gateway.runs.alive == 0)


async def test_what_is_bought_by_the_time_a_client_leaves_is_what_it_gets():
    mock = Mock(says=lambda seed: (" The", " answer", " is", " 42", ".", *[" more"] * 400), pace=0.01)
    # A reply that a busy machine made late is asked for again.
    async with before(mock, client_options={"max_retries": 9}) as (_, ask):
        told = await ask.chat.completions.create(model="mock", messages=ASKED, timeout=1.0)
        assert told.choices[0].finish_reason == "length"
        assert told.choices[0].message.content.startswith(" The answer is 42.")


async def test_a_client_that_gives_up_frees_the_upstream():
    mock, patience = Mock(go=asyncio.Event()), 0.1
    async with before(mock, client_options={"max_retries": 0}) as (front, ask):
        while not mock.requests:  # a busy machine may take longer to get there
            patience *= 2
            with pytest.raises(openai.APITimeoutError):
                await ask.chat.completions.create(
                    model="mock",
                    messages=ASKED,
                    timeout=patience,
                    extra_headers={"x-stainless-read-timeout": "60", "x-stainless-timeout": "60"},
                )
        assert await until(lambda: bool(mock.disconnects))
        assert await until(lambda: front.gateway.runs.alive == 0)


async def test_the_blocking_client_as_well(front):
    def call():
        with OpenAI(base_url=front.url, api_key="none") as ask:
            return ask.chat.completions.create(model=VOTE, messages=ASKED)

    told = await asyncio.to_thread(call)
    assert told.choices[0].message.content == " The answer is 42."
