"""Whatever a server sends, or does not send, costs bounded memory and time, and no more tokens than it can make."""

import asyncio
import gzip
import json
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines import guard
from thinkscale.engines.http import Http
from thinkscale.engines.http_reward import HttpReward
from thinkscale.engines.protocol import Request, complete
from thinkscale.engines.refusals import cleaned, refusal, status_of
from thinkscale.errors import EngineError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Finish, Message, Problem, Sampling

LISTED = json.dumps({"data": [{"id": "m", "owned_by": "someone"}]})
MIB = 2**20


def asking(n=1, **sampling):
    sampling = Sampling(**{"max_tokens": 64, **sampling})
    return Request(messages=(Message("user", "hi"),), sampling=sampling, seeds=tuple(range(n)))


def delta(index=0, finish=None, more=None, **said):
    return {"choices": [{"index": index, "delta": said, "finish_reason": finish, **(more or {})}]}


def bill(tokens, prompt=3, **more):
    return {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": tokens, **more}}


def sse(*events, done=True):
    return "".join(f"data: {json.dumps(e)}\n\n" for e in events) + ("data: [DONE]\n\n" if done else "")


HI = (delta(content="The answer is 4."), delta(finish="stop"), bill(6))


class Raw:
    """A server that writes bytes: the list of models, and for each request what `answer(writer, number)` does."""

    def __init__(self, answer, models=None):
        self.answer, self.models, self.requests = answer, models, 0
        self.bodies = []

    async def serve(self, reader, writer):
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next((int(h[15:]) for h in head.lower().split(b"\r\n") if h.startswith(b"content-length:")), 0)
                self.body = await reader.readexactly(length)
                if head.startswith(b"GET"):
                    await (self.models or self.listed)(writer)
                else:
                    self.requests += 1
                    self.bodies.append(json.loads(self.body))
                    await self.answer(writer, self.requests)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    @staticmethod
    async def listed(writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LISTED) + LISTED.encode())


@asynccontextmanager
async def raw(answer, models=None, engine=Http, **options):
    server = Raw(answer, models)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    asked = engine(base_url=f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", **options)
    try:
        yield asked, server
    finally:
        await asked.aclose()
        listening.close()


def saying(text, kind="text/event-stream", status="200 OK", **headers):
    """Answers with a text."""
    data = text if isinstance(text, bytes) else text.encode()
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())

    async def answer(writer, number):
        writer.write(f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n{more}\r\n".encode())
        writer.write(data)

    return answer


def in_turn(*answers):
    async def answer(writer, number):
        await answers[min(number, len(answers)) - 1](writer, number)

    return answer


async def said(answer, n=1, **sampling):
    async with raw(answer) as (engine, _):
        return await complete(engine, asking(n, **sampling))


# Time.


@pytest.mark.parametrize(
    "begun", [b"", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: "]
)
async def test_a_server_that_falls_silent_at_any_point_is_given_up(begun):
    async def answer(writer, number):
        writer.write(begun)
        await asyncio.sleep(30)

    async with raw(answer, idle=0.3) as (engine, _):
        start = time.monotonic()
        with pytest.raises(EngineError, match="kept silent") as failure:
            await complete(engine, asking())
    assert failure.value.retryable
    assert time.monotonic() - start < 12


async def test_a_chunk_that_is_malformed_ends_a_reply_and_does_not_hang_it():
    async def answer(writer, number):
        event = sse(delta(content="hi"), done=False).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        writer.write(b"%x\r\n%b\r\nzzz\r\n" % (len(event), event))
        await writer.drain()
        await asyncio.sleep(30)

    for idle in (0.3, 60.0):
        async with raw(answer, idle=idle) as (engine, _):
            start = time.monotonic()
            with pytest.raises(EngineError) as failure:
                await complete(engine, asking())
        assert failure.value.retryable
        assert time.monotonic() - start < 10


async def test_a_request_is_sent_again_once_where_kept_connections_are_given_up():
    async def answer(writer, number):
        if number > 8:
            writer.close()
            return
        await asyncio.sleep(0.05)
        await saying(sse(*HI))(writer, number)

    async with raw(answer) as (engine, server):
        async with asyncio.TaskGroup() as tasks:
            for _ in range(8):
                tasks.create_task(complete(engine, asking()))
        with pytest.raises(EngineError, match="hung up") as failure:
            await complete(engine, asking())
    assert server.requests == 8 + 2
    assert failure.value.retryable


@pytest.mark.parametrize(
    ("asked", "waited", "again"), [("7", 7.0, True), ("90", 60.0, True), ("864000", 60.0, False), ("1e400", None, True)]
)
def test_a_wait_that_a_server_asks_for_is_bounded_and_told(asked, waited, again):
    error = refusal("server", 429, {"error": "slow down"}, {"retry-after": asked}, cleaned)
    assert (error.retry_after, error.retryable) == (waited, again)
    if waited == 60.0:
        assert f"{int(asked):,} s" in str(error)


# Size.


HOSTILE = Path(__file__).parents[2] / "servers" / "hostile.py"
ASKING = """
import asyncio, resource, sys
from thinkscale.engines.http import Http
from thinkscale.engines.protocol import Request, complete
from thinkscale.errors import EngineError
from thinkscale.types import Message, Sampling

async def main():
    request = Request(messages=(Message("user", "hi"),), sampling=Sampling(max_tokens=512), seeds=(1,))
    engine = Http(base_url=sys.argv[1], model=sys.argv[2] or None)
    begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        [draw] = await complete(engine, request)
        print(f"{draw.finish}: {draw.tokens} tokens")
    except EngineError as error:
        print(f"{'retry' if error.retryable else 'refused'}: {error}")
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - begun) // 1024)
    await engine.aclose()

asyncio.run(main())
"""


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("json", "more than 32 MiB"),
        ("untold", "more than 32 MiB"),
        ("bomb", "more than 32 MiB"),
        ("event", "more than 8 MiB"),
        ("comments", "more than 20 MiB"),
        ("empty", "more than 20 MiB"),
        ("words", "length: 513 tokens"),
        ("blocks", "length: "),
        ("models", "more than 8 MiB"),
        ("complaint", "status 400"),
    ],
)
def test_replies_without_an_end_are_refused_within_64_mib(kind, says):
    with subprocess.Popen([sys.executable, str(HOSTILE), kind], stdout=subprocess.PIPE, text=True) as server:
        try:
            address = server.stdout.readline().strip()
            model = "" if kind == "models" else "m"
            run = [sys.executable, "-c", ASKING, address, model]
            out = subprocess.run(run, capture_output=True, text=True, timeout=60, check=False)
        finally:
            server.kill()
    assert not out.stderr, out.stderr
    told, grown = out.stdout.splitlines()
    assert says in told
    assert int(grown) < 64, f"{grown} MiB for `{told}`"


# Shape.

ODD = [
    {"choices": [{"index": 0, "delta": {"content": ["x", {"type": "thinking", "thinking": 5}]}}]},
    delta(content="x", more={"logprobs": {"content": 5}}),
    delta(content="x", more={"logprobs": {"content": [{"token": "x", "logprob": "none"}]}}),
    delta(content="x", more={"logprobs": {"content": [{"token": "x", "logprob": [1]}]}}),
    delta(content="x", more={"logprobs": {"tokens": 1, "token_logprobs": [{}]}}),
    delta(tool_calls=[{"index": 0, "function": "weather"}]),
    delta(tool_calls=[{"index": 0, "function": {"name": "f"}}, {"index": 0, "function": [1]}]),
]


@pytest.mark.parametrize("event", ODD)
@pytest.mark.parametrize("whole", [False, True])
async def test_an_event_of_another_shape_is_a_failure_that_may_pass_and_no_crash(event, whole):
    if whole:
        [choice] = event["choices"]
        text = json.dumps({"choices": [{**choice, "message": choice["delta"], "finish_reason": "stop"}]})
        answer = saying(text, "application/json")
    else:
        answer = saying(sse(event, delta(finish="stop"), bill(1)))
    with pytest.raises(EngineError, match="cannot be read") as failure:
        await said(answer)
    assert failure.value.retryable


@pytest.mark.parametrize("event", ODD)
async def test_the_attempts_beside_an_odd_event_count(event):
    answer = in_turn(saying(sse(event)), saying(sse(*HI)))
    async with raw(answer) as (engine, _):
        method = SelfConsistency(n=3, stop=Fixed())
        out = await solve(Problem.of("What is 2 + 2?"), method, engine, budget=Budget())
    assert out.answer == "4"
    assert [t.finish for t in out.traces] == [Finish.eos] * 3


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"choices": ' + "[" * 2000 + "]" * 2000 + "}", '{"a": 1' + "0" * 9000 + "}", "nul", "\x00"]
)
async def test_json_that_is_none_or_nested_too_deep_is_a_failure(text):
    for answer in (saying(text, "application/json"), saying(f"data: {text}\n\n"), saying(text, status="400 Bad")):
        with pytest.raises(EngineError):
            await said(answer)


# Bills.


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"completion_tokens": -100}, 1),
        ({"completion_tokens": 10**15}, 64),
        ({"completion_tokens": 0}, 1),
        ({"completion_tokens": "five"}, 1),
        ({"completion_tokens": 6.0}, 6),
        ({"completion_tokens": True}, 1),
        ({"prompt_tokens": -7, "completion_tokens": 6}, 6),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 45}, 35),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 10**15}, 64),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 5,
                "total_tokens": 45,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            35,
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 35,
                "total_tokens": 45,
                "completion_tokens_details": {"reasoning_tokens": 30},
            },
            35,
        ),
    ],
)
async def test_a_bill_says_no_less_than_was_seen_and_no_more_than_can_have_been_made(usage, tokens):
    [draw] = await said(saying(sse(delta(content="The answer is 4."), delta(finish="stop"), {"usage": usage})))
    assert draw.tokens == draw.usage.output_tokens == tokens
    assert draw.usage.input_tokens is None or 0 <= draw.usage.input_tokens <= 10
    assert draw.usage.reasoning_tokens is None or draw.usage.reasoning_tokens <= tokens


async def test_every_piece_that_was_seen_is_a_token_however_few_are_billed():
    pieces = [delta(content=f" w{i}") for i in range(20)]
    [draw] = await said(saying(sse(*pieces, delta(finish="stop"), bill(2))))
    assert draw.usage.output_tokens == 20


async def test_counts_on_the_way_are_bounded_like_bills():
    def counted(event, total):
        return {**event, "usage": {"prompt_tokens": 10**12, "completion_tokens": total}}

    says = [counted(delta(content="a"), 10**15), counted(delta(content="b"), -3), counted(delta(finish="stop"), 1)]
    [draw] = await said(saying(sse(*says)))
    assert (draw.usage.output_tokens, draw.finish) == (2, Finish.eos)
    assert draw.usage.input_tokens <= guard.PROMPT + 64


# The cap.


@pytest.mark.parametrize("counts", [False, True])
async def test_a_draw_ends_within_one_event_of_its_cap_and_its_stream_with_it(counts):
    sent = 0

    async def answer(writer, number):
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        while not writer.is_closing():
            sent += 1
            event = delta(content=" w")
            if counts:
                event["usage"] = {"prompt_tokens": 3, "completion_tokens": sent}
            writer.write(sse(event, done=False).encode())
            await writer.drain()
            await asyncio.sleep(0.001)

    async with raw(answer) as (engine, _):
        [draw] = await complete(engine, asking(max_tokens=20))
        assert (draw.finish, draw.tokens, draw.usage.output_tokens) == (Finish.length, 21, 21)
        before = sent
        await asyncio.sleep(0.2)
        assert sent - before < 20


async def test_choices_that_pass_their_caps_end_together_and_what_came_is_booked():
    events = [delta(i, content=" w") for _ in range(500) for i in range(4)]
    async with raw(saying(sse(*events))) as (engine, _):
        draws = await complete(engine, asking(4, max_tokens=20))
    assert {d.finish for d in draws} == {Finish.length}
    assert all(20 <= d.tokens <= 26 for d in draws)


async def test_choices_that_come_one_after_the_other_and_never_end_are_asked_for_alone():
    answers = (saying(sse(*[delta(0, content=" w")] * 500)), saying(sse(*HI)))
    async with raw(in_turn(*answers)) as (engine, server):
        draws = await complete(engine, asking(3, max_tokens=20))
    assert [d.finish for d in draws] == [Finish.length, Finish.eos, Finish.eos]
    assert [b.get("n", 1) for b in server.bodies] == [3, 1, 1]


async def test_a_budget_holds_at_a_server_that_knows_no_caps():
    events = [delta(content=" w") for _ in range(5000)]
    async with raw(saying(sse(*events))) as (engine, server):
        method = SelfConsistency(n=4, stop=Fixed())
        sampling = Sampling(max_tokens=100)
        out = await solve(Problem.of("Go."), method, engine, budget=Budget(tokens=200), sampling=sampling)
    assert out.usage.output_tokens <= 200 + server.requests


async def test_text_in_long_pieces_ends_by_its_length():
    events = [delta(content="a long piece of text " * 40)] * 500
    [draw] = await said(saying(sse(*events)), max_tokens=64)
    assert draw.finish is Finish.length
    assert len(draw.text) < 64 * 16 + 256 + 900
    assert draw.tokens == len(draw.text) // 4


# Words.


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("Incorrect API key provided", "Incorrect API key provided"),
        ("Incorrect API key provided: sk-abcdef123456.", "Incorrect API key provided: …."),
        ("Bearer authentication required", "Bearer authentication required"),
        ("Bearer abc123def456 is wrong", "Bearer … is wrong"),
        (
            "hf_hub_download is not a model, key-value stores neither",
            "hf_hub_download is not a model, key-value stores neither",
        ),
        ("hf_AbCdEfGh12 has no access", "… has no access"),
        ("no such key: s3cr3t-of-mine-77", "no such key:…"),
    ],
)
def test_keys_are_taken_out_of_what_is_shown_and_words_are_not(said, shown):
    assert cleaned(said) == shown


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ({"code": 429}, 429),
        ({"code": "404"}, 404),
        ({"code": "insufficient_quota"}, 429),
        ({"code": None, "type": "invalid_api_key"}, 401),
        ({"status": "RESOURCE_EXHAUSTED", "code": 7}, 429),
        ({"status": "INVALID_ARGUMENT"}, 400),
        ({"type": "BadRequestError"}, 400),
        ({"type": "overloaded_error"}, 503),
        ({"code": "context_length_exceeded"}, 400),
        ({"code": "DEADLINE_EXCEEDED"}, 504),
        ({"message": "it broke"}, 500),
        ({"code": True}, 500),
    ],
)
def test_an_error_inside_a_reply_has_a_status_by_its_number_or_its_words(error, status):
    assert status_of(error) == status


QUOTA = {"message": "You exceeded your current quota.", "type": "insufficient_quota", "code": "insufficient_quota"}


@pytest.mark.parametrize(
    "text",
    [
        sse({"error": QUOTA}),
        f"error: {json.dumps(QUOTA)}\n\ndata: [DONE]\n\n",
        f"event: error\ndata: {json.dumps(QUOTA)}\n\n",
        json.dumps({"error": QUOTA}),
        f": hello\n\n{json.dumps({'error': QUOTA})}\n\n",
        sse(delta(role="assistant", content=""), {"error": QUOTA}),
    ],
)
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
async def test_an_error_in_a_reply_that_began_well_is_told_in_any_framing(text, kind):
    async with raw(saying(text, kind)) as (engine, _):
        with pytest.raises(EngineError, match="You exceeded your current quota") as failure:
            await complete(engine, asking())
    assert not failure.value.retryable


# Rewards.


@pytest.mark.parametrize("number", ["NaN", '"none"', "[[]]", "{}", "-Infinity"])
async def test_a_reward_that_is_no_number_is_a_failure(number):
    good = saying('{"data": [{"index": 0, "probs": [0.5]}], "usage": {"prompt_tokens": 5}}', "application/json")
    odd = saying('{"data": [{"index": 0, "probs": [' + number + "]}]}", "application/json")
    request = Request(messages=(Message("user", "1 + 1?"),), steps=("2",))
    async with raw(in_turn(good, odd), engine=HttpReward, api="classify") as (engine, _):
        with pytest.raises(EngineError):
            await complete(engine, request)


@pytest.mark.parametrize("billed", [-5, 10**15, "five"])
async def test_prompt_tokens_of_a_reward_are_bounded(billed):
    told = {"data": [{"index": 0, "probs": [0.5]}], "usage": {"prompt_tokens": billed}}
    request = Request(messages=(Message("user", "1 + 1?"),), steps=("2",))
    async with raw(saying(json.dumps(told), "application/json"), engine=HttpReward, api="classify") as (engine, _):
        [draw] = await complete(engine, request)
    assert 0 <= draw.usage.input_tokens <= guard.PROMPT + 64


def test_characters_in_halves_are_put_together_wherever_they_are_cut():
    text = "a😀é漢\U0001f9d1\u200d🔬z"
    for cut in range(len(text.encode()) + 1):
        halves = guard.Halves()
        parts = (text.encode()[:cut], text.encode()[cut:])
        pieces = [part.decode("utf-8", "surrogateescape") for part in parts]
        assert halves.mend(pieces[0]) + halves.mend(pieces[1], last=True) == text
    spelled = [json.loads(f'"{part}"') for part in (r"a\ud83d", r"\ude00b", r"\ud83d")]
    halves = guard.Halves()
    assert "".join(map(halves.mend, spelled)) + halves.mend("", last=True) == "a😀b\ufffd"


async def test_a_reply_compressed_or_with_an_encoding_that_is_wrong_is_read_or_fails():
    packed = gzip.compress(sse(*HI).encode())
    [draw] = await said(saying(packed, Content_Encoding="gzip"))
    assert draw.text == "The answer is 4."
    with pytest.raises(EngineError):
        await said(saying(b"no gzip", Content_Encoding="gzip"))
