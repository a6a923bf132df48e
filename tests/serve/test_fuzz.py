"""Whatever the specification allows, and much that it does not, is answered or refused, and breaks nothing."""

import asyncio
import gzip
import json
import os
from functools import cache

import orjson
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from serve.orders import FOUR, menu
from serve.shapes import SPEC, frames, valid
from thinkscale.serve.app import Gateway, application
from thinkscale.serve.asking import Limits
from thinkscale.serve.keys import Keyring
from thinkscale.serve.runs import Runs

EXAMPLES = settings(
    max_examples=120,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
SPECIFIED = settings(EXAMPLES, max_examples=int(os.environ.get("THINKSCALE_TEST_EXAMPLES", "40")))
"""Examples of the whole specification take long to find."""
MODELS = st.sampled_from(["small", "fast", "small+self-consistency(n=3)", "small+best-of-n(n=2, scorer=length)", None])
SHAPES = {
    "/chat/completions": ("CreateChatCompletionResponse", "CreateChatCompletionStreamResponse"),
    "/completions": ("CreateCompletionResponse", "CreateCompletionResponse"),
}
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = [
    *("messages", "prompt", "input", "instructions", "tools", "tool_choice", "response_format", "text", "reasoning"),
    *("n", "seed", "stop", "logprobs", "top_logprobs", "logit_bias", "temperature", "top_p", "max_tokens", "stream"),
    *("max_completion_tokens", "max_output_tokens", "stream_options", "thinkscale", "reasoning_effort", "include"),
    *("store", "background", "truncation", "best_of", "echo", "user", "metadata"),
]
HEADERS = [
    *("authorization", "x-thinkscale-budget", "x-thinkscale-deadline", "x-stainless-timeout", "idempotency-key"),
    *("x-stainless-retry-count", "traceparent", "accept"),
]


@cache
def app():
    gateway = Gateway(
        menu=menu(lambda _: FOUR),
        engines=(),
        runs=Runs(),
        keyring=Keyring(":memory:"),
        limits=Limits(seconds=5, n=8, messages=64),
    )
    return application(gateway)


def asked(method, path, raw=b"", headers=()):
    """The status, the headers and the body of a reply."""

    async def call():
        sent, never, told = False, asyncio.Event(), []

        async def receive():
            nonlocal sent
            if sent:
                await never.wait()
            sent = True
            return {"type": "http.request", "body": raw, "more_body": False}

        async def send(message):
            told.append(message)

        pairs = [(name.lower().encode(), value.encode("latin-1", "replace")) for name, value in headers]
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "path": f"/v1{path}",
            "raw_path": b"",
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": pairs,
            "server": ("127.0.0.1", 80),
            "client": ("127.0.0.1", 1),
        }
        async with asyncio.timeout(60):
            await app()(scope, receive, send)
        return told[0]["status"], b"".join(message.get("body", b"") for message in told[1:])

    return asyncio.run(call())


def checked(path, body):
    """Nothing but an answer in the right shape, or a refusal in the right shape."""
    try:
        raw = orjson.dumps(body)
    except TypeError:  # integers of more than 64 bits and lone surrogates, which a client may well send
        raw = json.dumps(body).encode()
    status, said = asked("POST", path, raw)
    assert status < 500, (status, said, raw)
    if status != 200:
        assert set(json.loads(said)["error"]) == {"message", "type", "param", "code"}
    elif body.get("stream") and path in SHAPES:
        told, done = frames([said])
        assert done
        for event in told:
            valid(event, SHAPES[path][1])
    elif path in SHAPES:
        valid(json.loads(said), SHAPES[path][0])
    return status


@cache
def specified(path):
    schema = schemathesis.openapi.from_dict(json.loads(gzip.decompress(SPEC.read_bytes())))
    return schema[path]["POST"].as_strategy()


@pytest.mark.parametrize("path", list(SHAPES))
def test_what_the_specification_allows_never_breaks_the_gateway(path):
    seen = []

    @SPECIFIED
    @given(case=specified(path), model=MODELS)
    def answers(case, model):
        body = dict(case.body)
        if model is not None:
            body["model"] = model
        seen.append(checked(path, body))

    answers()
    assert seen


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses"])
def test_any_json_in_any_field_never_breaks_the_gateway(path):
    plain = {
        "/chat/completions": {"messages": [{"role": "user", "content": "2 + 2?"}]},
        "/completions": {"prompt": "2 + 2?"},
        "/responses": {"input": "2 + 2?"},
    }[path]

    @EXAMPLES
    @given(model=MODELS, wrong=st.dictionaries(st.sampled_from(FIELDS), JUNK, max_size=3))
    def answers(model, wrong):
        checked(path, {"model": model, **plain, **wrong})

    answers()


@EXAMPLES
@given(raw=st.binary(max_size=200))
def test_any_bytes_never_break_the_gateway(raw):
    assert asked("POST", "/chat/completions", raw)[0] == 400


@EXAMPLES
@given(
    name=st.sampled_from(HEADERS),
    value=st.text(max_size=40),
    path=st.text(max_size=40),
)
def test_any_header_and_any_path_never_breaks_the_gateway(name, value, path):
    raw = b'{"model": "small", "messages": [{"role": "user", "content": "2 + 2?"}]}'
    assert asked("POST", "/chat/completions", raw, [(name, value)])[0] < 500
    assert asked("GET", f"/models/{path}", headers=[(name, value)])[0] in (200, 404)
    for method, action in (("GET", ""), ("DELETE", ""), ("POST", "/cancel")):
        assert asked(method, f"/responses/{path}{action}", headers=[(name, value)])[0] in (307, 404, 405)
