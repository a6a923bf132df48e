"""Servers as they are: endings, numbers of choices, calls of tools and refusals that no specification has."""

import json

import pytest

from engines.http.test_guard import HI, asking, bill, delta, in_turn, raw, said, saying, sse
from thinkscale.api import solve
from thinkscale.budget import Budget
from thinkscale.engines.http.calls import Calls
from thinkscale.engines.http.dispensable import FIELDS, named, room, without
from thinkscale.engines.protocol import Request, complete
from thinkscale.engines.refusals import cleaned, refusal
from thinkscale.errors import CapabilityError, EngineError
from thinkscale.methods.self_consistency import SelfConsistency
from thinkscale.stopping.fixed import Fixed
from thinkscale.types import Finish, Message, Origin, Problem, Sampling, Segment

# Endings.


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        *[
            (word, Finish.eos)
            for word in ("stop", "STOP", "eos", "end_turn", "tool_use", "COMPLETE", "FINISH_REASON_STOP")
        ],
        *[
            (word, Finish.length)
            for word in ("length", "model_length", "max_length", "MAX_TOKENS", "max_output_tokens")
        ],
        *[
            (word, Finish.length)
            for word in ("insufficient_system_resource", "model_context_window_exceeded", "truncated")
        ],
        *[(word, Finish.length) for word in ("token_limit", "FinishReason.MAX_TOKENS", "time_limit", "timeout")],
        *[
            (word, Finish.error)
            for word in ("SAFETY", "RECITATION", "content_filter", "sensitive", "error", "network_error")
        ],
        *[(word, Finish.aborted) for word in ("abort", "cancelled", "interrupted")],
    ],
)
async def test_a_reason_means_what_its_words_say(reason, finish):
    [draw] = await said(saying(sse(delta(content="4"), delta(finish=reason), bill(1))))
    assert draw.finish is finish


@pytest.mark.parametrize(
    ("events", "finish"),
    [
        ((delta(content="It is 4."), delta(), bill(6)), Finish.eos),
        ((delta(content="It is 4."), delta(), bill(64)), Finish.length),
        ((delta(content="It is 4."), {**delta(), "usage": {"prompt_tokens": 3, "completion_tokens": 6}}), Finish.eos),
        ((delta(content="It is 4.", finish="stop"), delta(finish="stop"), bill(6)), Finish.eos),
        ((delta(content="It is", finish="stop"), delta(content=" 4.", finish="stop"), bill(6)), Finish.eos),
        ((delta(content="It is 4."), delta(finish="stop"), delta(finish="length"), bill(6)), Finish.length),
        ((delta(content="It is 4."), delta(finish="length"), delta(finish="stop"), bill(6)), Finish.length),
    ],
)
async def test_a_text_ends_whether_its_reason_comes_never_or_twice(events, finish):
    async with raw(saying(sse(*events))) as (engine, server):
        [draw] = await complete(engine, asking())
    assert (draw.text, draw.finish, server.requests) == ("It is 4.", finish, 1)


async def test_a_bill_behind_a_text_is_its_end_also_without_done():
    [draw] = await said(saying(sse(delta(content="It is 4."), bill(6), done=False)))
    assert (draw.text, draw.finish) == ("It is 4.", Finish.eos)


# Numbers of choices.


@pytest.mark.parametrize("index", [None, 0, 1, 7, "0", "zero", 0.0, -1, True, 10**30, [0]])
async def test_the_only_choice_is_read_whatever_number_it_has(index):
    events = [delta(index, content="It is"), delta(index, content=" 4."), delta(index, finish="stop"), bill(3)]
    [draw] = await said(saying(sse(*events)))
    assert draw.text == "It is 4."


async def test_a_choice_that_nobody_asked_for_is_not_woven_into_the_other():
    events = [delta(i, content=text) for text in ("It", " is 4.") for i in (0, 1)]
    [draw] = await said(saying(sse(*events, delta(0, finish="stop"), delta(1, finish="stop"), bill(4))))
    assert draw.text == "It is 4."


@pytest.mark.parametrize("index", [0, None, "0"])
async def test_choices_under_one_number_are_not_woven_into_one_that_votes(index):
    woven = [delta(index, content=text) for text in ("First", "The", " 2 + 2 = 4", " sum is", " is 4.", " 5.")]
    ends = [delta(index, finish="stop"), delta(index, finish="stop"), bill(9)]
    async with raw(in_turn(saying(sse(*woven, *ends)), saying(sse(*HI)))) as (engine, server):
        out = await solve(Problem.of("What is 2 + 2?"), SelfConsistency(n=2, stop=Fixed()), engine, budget=Budget())
    assert {t.text for t in out.traces} == {"The answer is 4."}
    assert [v.count for v in out.votes] == [2]
    assert out.usage.output_tokens >= 6 + 2 * 6
    assert [b.get("n", 1) for b in server.bodies] == [2, 1, 1]


@pytest.mark.parametrize("index", [0, None])
async def test_choices_of_one_event_under_one_number_are_numbered_by_their_order(index):
    choices = [{"index": index, "message": {"content": text}, "finish_reason": "stop"} for text in ("one", "two")]
    answer = saying(json.dumps({"choices": choices, "usage": bill(2)["usage"]}), "application/json")
    assert [d.text for d in await said(answer, n=2)] == ["one", "two"]


# Framing.


@pytest.mark.parametrize("kind", ["text/plain", "application/json", "application/octet-stream", "text/html", "x"])
@pytest.mark.parametrize("begin", ["", ": hello\n\n", "event: message\n", "\ufeff", "\n\n"])
async def test_events_are_events_whatever_they_are_called(kind, begin):
    async with raw(saying(begin + sse(*HI), kind)) as (engine, server):
        [draw] = await complete(engine, asking())
    assert (draw.text, server.requests) == ("The answer is 4.", 1)


@pytest.mark.parametrize("kind", ["text/plain", "text/event-stream", "application/json"])
async def test_a_reply_in_one_piece_is_one_whatever_it_is_called(kind):
    whole = {"choices": [{"index": 0, "message": {"content": "It is 4."}, "finish_reason": "stop"}], **bill(3)}
    whole["choices"] = [{"index": 0, "message": {"content": "It is 4."}, "finish_reason": "stop"}]
    [draw] = await said(saying(json.dumps(whole), kind))
    assert (draw.text, draw.tokens) == ("It is 4.", 3)


@pytest.mark.parametrize(
    "cut",
    [
        (rb'"It is \ud83d"', rb'"\ude00."'),
        ('"It is 😀'.encode()[:-2] + b'"', b'"' + "😀".encode()[2:] + b'."'),
    ],
)
@pytest.mark.parametrize("field", [b"content", b"reasoning_content"])
async def test_a_character_in_two_events_is_one(cut, field):
    events = [
        b'data: {"choices": [{"index": 0, "delta": {"%b": %b}, "finish_reason": null}]}\n\n' % (field, c) for c in cut
    ]
    end = sse(delta(content="!"), delta(finish="stop"), bill(3)).encode()
    [draw] = await said(saying(b"".join(events) + end))
    assert "It is 😀." in draw.text
    json.dumps(draw.text).encode()


async def test_half_a_character_at_the_end_is_none():
    event = rb'data: {"choices": [{"index": 0, "delta": {"content": "4 \ud83d"}, "finish_reason": "stop"}]}' + b"\n\n"
    [draw] = await said(saying(event + sse(bill(2)).encode()))
    assert draw.text == "4 \ufffd"


# Log-probabilities.


async def test_log_probabilities_keep_bytes_and_stand_for_what_they_mean():
    tokens = [
        {"token": "\ufffd", "bytes": [240, 159], "logprob": -9999.0, "top_logprobs": []},
        {"token": "\\x98\\x80", "bytes": [152, 128], "logprob": 1e-9, "top_logprobs": []},
        {"token": "é", "bytes": [195, 169], "logprob": -0.5, "top_logprobs": []},
    ]
    events = (delta(content="😀é", more={"logprobs": {"content": tokens}}), delta(finish="stop"), bill(3))
    [draw] = await said(saying(sse(*events)), logprobs=1)
    assert draw.logprobs.texts == ("\\xf0\\x9f", "\\x98\\x80", "é")
    assert draw.logprobs.chosen == (-100.0, 0.0, -0.5)


async def test_log_probabilities_may_be_written_as_python_writes_them():
    token = '{"token": "a", "logprob": %s}'
    event = f'data: {{"choices": [{{"delta": {{"content": "a"}}, "logprobs": {{"content": [{token}]}}}}]}}\n\n'
    [draw] = await said(saying(event % "-Infinity" + sse(delta(finish="stop"), bill(1))), logprobs=0)
    assert draw.logprobs.chosen == (-100.0,)
    with pytest.raises(EngineError, match="cannot be read"):
        await said(saying(event % "NaN" + sse(delta(finish="stop"), bill(1))), logprobs=0)


# Calls of tools.


def fragment(said="", index=None, id=None, name=None):
    told = {"index": index, "id": id, "function": {"name": name, "arguments": said}}
    return {k: v for k, v in told.items() if v is not None}


OSLO, ROME = '{"city": "Oslo"}', '{"city": "Rome"}'


@pytest.mark.parametrize(
    ("fragments", "calls"),
    [
        ([fragment(OSLO, 0, "a", "w"), fragment(ROME, 0, "b", "w")], [OSLO, ROME]),
        ([fragment(OSLO, 0, "a", "w"), fragment(OSLO, 0, "b", "w")], [OSLO, OSLO]),
        ([fragment(OSLO, None, "a", "w"), fragment(ROME, None, "b", "w")], [OSLO, ROME]),
        ([fragment("", 0, "a", "w"), fragment(OSLO, 0), fragment("", 0, "b", "w"), fragment(ROME, 0)], [OSLO, ROME]),
        ([fragment(OSLO, 0, None, "w"), fragment(ROME, 0, None, "w")], [OSLO, ROME]),
        ([fragment(OSLO, 0, "", "w"), fragment(ROME, 0, "", "w")], [OSLO, ROME]),
        ([fragment(OSLO, 0, "same", "w"), fragment(ROME, 0, "same", "w")], [OSLO, ROME]),
        ([fragment(OSLO[:8], 0, "a", "w"), fragment(OSLO[8:], 0, "x"), fragment(ROME, 1, "b", "w")], [OSLO, ROME]),
        ([fragment(OSLO[:8], 0, "a", "w"), fragment(OSLO[8:], 0, "x", "w")], [OSLO]),
        ([fragment(OSLO[:8], 0, "a", "w"), fragment(OSLO[8:], 0, "a", "w")], [OSLO]),
        ([fragment(OSLO, 0, "a", "w"), fragment(OSLO, 0, "a", "w")], [OSLO]),
        ([fragment(ROME, 1, "b", "w"), fragment(OSLO, 0, "a", "w")], [OSLO, ROME]),
        ([fragment("", 0, "a", "w"), fragment("", 1, "b", "w"), fragment(OSLO, 0), fragment(ROME, 1)], [OSLO, ROME]),
        (
            [fragment("", 0, "a", "w"), fragment("", 0, "b", "w"), fragment(OSLO, 0, "a"), fragment(ROME, 0, "b")],
            [OSLO, ROME],
        ),
        ([fragment({"city": "Oslo"}, 0, "a", "w")], [OSLO]),
        ([fragment({"city": "Oslo"}, 0, "a", "w"), fragment({"city": "Rome"}, 0, "b", "w")], [OSLO, ROME]),
        ([fragment({"city": "Oslo"}, 0, "a", "w"), fragment({"city": "Oslo"}, 0, "a", "w")], [OSLO]),
        ([fragment("", 0, "a", "now"), fragment("", 0, "b", "w"), fragment(ROME, 0)], ["", ROME]),
    ],
)
def test_fragments_become_the_calls_that_were_meant(fragments, calls):
    grown = Calls()
    for part in fragments:
        grown.add(part)
    assert [call["function"]["arguments"] for call in grown.all()] == calls
    assert all(call["function"]["name"] in ("w", "now") for call in grown.all())
    ids = [call.get("id") for call in grown.all()]
    assert len({*ids}) == len(ids) or not {*ids} - {None, "", "same"}


async def test_calls_in_a_reply_of_one_piece_are_read_alike():
    call = {"id": "a", "type": "function", "function": {"name": "w", "arguments": {"city": "Málaga", "cold": True}}}
    choice = {"index": 0, "message": {"content": None, "tool_calls": [call]}, "finish_reason": "tool_calls"}
    [draw] = await said(
        saying(json.dumps({"choices": [choice], **bill(5), **{"choices": [choice]}}), "application/json")
    )
    [got] = draw.tool_calls
    assert json.loads(got["function"]["arguments"]) == {"city": "Málaga", "cold": True}
    assert got["id"] == "a"


# Thinking.


async def test_a_stop_string_fires_in_the_answer_and_not_in_the_thinking():
    thinks = [
        delta(reasoning_content="Question: what"),
        delta(reasoning_content=" is it? "),
        delta(reasoning_content="Ques"),
    ]
    says = [
        delta(content="tion 4."),
        delta(content=" Ques"),
        delta(content="tion: next"),
        delta(finish="stop"),
        bill(9),
    ]
    [draw] = await said(saying(sse(*thinks, *says)), stop=("Question:",))
    assert draw.text == "<think>\nQuestion: what is it? Ques\n</think>\n\ntion 4. "
    assert (draw.finish, draw.stop_string) == (Finish.stop, "Question:")


async def test_an_answer_that_comes_as_thinking_alone_is_the_answer():
    events = (delta(content=""), delta(reasoning="2 + 2 "), delta(reasoning="is 4."), delta(finish="stop"), bill(7))
    [draw] = await said(saying(sse(*events)))
    assert draw.text == "<think>\n2 + 2 is 4.\n</think>\n\n2 + 2 is 4."
    assert draw.tokens == 7
    cut = (*events[:3], delta(finish="length"), bill(7))
    [draw] = await said(saying(sse(*cut)))
    assert draw.text == "<think>\n2 + 2 is 4."


@pytest.mark.parametrize(
    ("prefix", "events", "text"),
    [
        ("<think>\nhm\n</think>\n\nIt", (delta(reasoning=" is"), delta(reasoning=" 4.")), " is 4."),
        ("<think>\nhm\n</think>\n\nIt", (delta(reasoning="so"), delta(content=" is")), "<think>\nso\n</think>\n\n is"),
        ("<think>\nhm", (delta(reasoning=" so"),), " so"),
        ("It", (delta(reasoning=" is"),), "<think>\n is"),
    ],
)
async def test_what_continues_a_thinking_that_is_over_is_the_answer(prefix, events, text):
    begun = (Segment(text=prefix, origin=Origin.sampled),)
    request = Request(messages=(Message("user", "hi"),), prefix=begun, sampling=Sampling(max_tokens=64), seeds=(1,))
    models = saying(json.dumps({"data": [{"id": "m", "owned_by": "vllm"}]}), "application/json")
    reply = saying(sse(*events, delta(finish="stop"), bill(3)))
    async with raw(reply, lambda writer: models(writer, 0)) as (engine, _):
        [draw] = await complete(engine, request)
    assert draw.text == text


# Refusals.


def refusing(field, words, status="400 Bad Request"):
    """Refuses a request that has a field, else answers."""

    def answer(server):
        async def respond(writer, number):
            body = server[0].bodies[number - 1]
            if field(body) if callable(field) else field in body:
                await saying(json.dumps({"error": {"message": words, "code": 400}}), "application/json", status)(
                    writer, number
                )
            else:
                await saying(sse(*HI))(writer, number)

        return respond

    return answer


async def asked(refuses, request, models=None):
    """The draws of a request at a server that refuses something, and the bodies that it got."""
    server = []
    listed = models and (lambda writer: saying(models, "application/json")(writer, 0))
    async with raw(refuses(server), listed) as (engine, running):
        server.append(running)
        return await complete(engine, request), running.bodies


TOLD = [
    ("seed", 'Unknown name "seed": Cannot find field.'),
    ("temperature", "Unsupported value: 'temperature' does not support 0.8 with this model. Only the default (1) is."),
    ("temperature", "invalid temperature: only 1 is allowed for this model"),
    ("top_p", "`temperature` and `top_p` cannot both be specified for this model. Please use only one."),
    ("stream_options", "Extra inputs are not permitted: stream_options"),
    ("parallel_tool_calls", "Unsupported parameter: 'parallel_tool_calls' is not supported with this model."),
    ("reasoning_effort", "Unrecognized request argument supplied: reasoning_effort"),
    ("response_format", "This response_format type is unavailable now"),
]


@pytest.mark.parametrize(("field", "words"), TOLD)
@pytest.mark.parametrize("apart", [False, True])
async def test_a_field_that_is_refused_is_left_out_remembered_and_warned_of_once(field, words, apart, caplog):
    sampling = Sampling(
        max_tokens=64,
        temperature=0.8,
        top_p=0.9,
        effort="low",
        response_format={"type": "json_object"},
        extra={"parallel_tool_calls": False},
    )
    request = Request(messages=(Message("user", "hi"),), sampling=sampling, seeds=(1, 2, 3), apart=apart)
    server = []
    async with raw(refusing(field, words)(server)) as (engine, running):
        server.append(running)
        for _ in range(2):
            draws = await complete(engine, request)
            assert {d.text for d in draws} == {"The answer is 4."}
            before = len(running.bodies)
    assert all(field in body for body in running.bodies[:1])
    assert not any(field in body for body in running.bodies[before - 3 :])
    assert caplog.text.count("not sent any more") == 1


async def test_several_fields_are_refused_one_after_the_other():
    def odd(body):
        return "seed" in body or "stream_options" in body

    refuses = refusing(odd, json.dumps([{"loc": ["body", "seed"]}, {"loc": ["body", "stream_options"]}, "extra"]))
    draws, bodies = await asked(refuses, asking())
    assert draws[0].text == "The answer is 4."
    assert len(bodies) == 2


@pytest.mark.parametrize(
    ("role", "words", "roles"),
    [
        (
            "developer",
            "messages[0].role: unknown variant `developer`, expected one of `system`, `user`",
            ["system", "user"],
        ),
        ("system", "System role not supported", ["user"]),
    ],
)
async def test_a_role_that_is_refused_moves_to_the_next_one(role, words, roles):
    request = Request(
        messages=(Message(role, "Be brief."), Message("user", "hi")), sampling=Sampling(max_tokens=64), seeds=(1,)
    )
    draws, bodies = await asked(refusing(lambda body: body["messages"][0]["role"] == role, words), request)
    assert draws[0].text == "The answer is 4."
    assert [m["role"] for m in bodies[-1]["messages"]] == roles
    assert "Be brief." in json.dumps(bodies[-1])


@pytest.mark.parametrize(
    ("field", "more"),
    [
        ("logprobs", {"logprobs": 2}),
        ("response_format", {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}),
        ("logit_bias", {"logit_bias": {5: -1.0}}),
    ],
)
async def test_a_refusal_of_what_a_request_depends_on_is_an_error(field, more):
    words = f"Unsupported parameter: '{field}' is not supported."
    with pytest.raises(CapabilityError, match=f"refuses `{field}`"):
        await asked(refusing(field, words), asking(**more))


@pytest.mark.parametrize("words", ["temperature must be between 0 and 2", "max_tokens must be positive", "seed"])
async def test_a_value_that_is_refused_is_told_and_not_left_out(words):
    with pytest.raises(EngineError, match=words):
        await asked(refusing("temperature", words), asking(temperature=5.0))


def test_every_field_of_the_table_is_found_by_its_name_alone():
    for field in FIELDS:
        error = refusal("at", 400, {"error": f"unknown field `{field}`"}, {}, cleaned)
        body = dict.fromkeys(FIELDS, 1)
        assert named(error, body, cleaned) == [field]
        without(body, [field])
        assert field not in body


LIMIT = (
    "This model's maximum context length is 256 tokens. However, you requested 552 tokens (40 in the messages, 512 in "
    "the completion). Please reduce the length of the messages or completion."
)
LIMITS = [
    (LIMIT, None, 216),
    ("'max_tokens' is too large: 512. This model's maximum context length is 256 tokens and your request has 40 input"
     " tokens (512 > 256 - 40).", None, 216),
    ("the request exceeds the available context size. try increasing the context size", None, None),
    ("the request exceeds the available context size (256 tokens)", 256, 256 - 18),
    ("maximum context length is 256 tokens, the prompt contains at least 300 input tokens", 256, None),
]  # fmt: skip


@pytest.mark.parametrize(("words", "context", "left"), LIMITS)
def test_the_room_behind_a_prompt_is_what_the_refusal_or_the_context_says(words, context, left):
    error = refusal("at", 400, {"error": {"message": words, "code": 400}}, {}, cleaned)
    assert room(error, asking(max_tokens=512), context) == left


async def test_a_cap_above_the_context_is_lowered():
    models = json.dumps({"data": [{"id": "m", "owned_by": "vllm", "max_model_len": 256}]})
    refuses = refusing(lambda body: body["max_tokens"] + 40 > 256, LIMIT)
    draws, bodies = await asked(refuses, asking(max_tokens=512), models)
    assert draws[0].text == "The answer is 4."
    assert [b["max_tokens"] for b in bodies] == [255, 216]


PICTURE = (
    {"type": "text", "text": "What is it?"},
    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        ("image input is not supported - hint: if this is unexpected, you may need to provide the mmproj", "500 Error"),
        ("m is not a multimodal model", "400 Bad Request"),
        ("At most 0 image(s) may be provided in one request.", "400 Bad Request"),
        ("Invalid content type. image_url is only supported by certain models.", "400 Bad Request"),
        ("messages[0]: unknown variant `image_url`, expected `text`", "422 Unprocessable"),
        ("messages[0].content must be a string", "400 Bad Request"),
        ("No endpoints found that support image input", "404 Not Found"),
    ],
)
async def test_an_image_for_a_model_without_eyes_is_the_requests_fault(words, status):
    request = Request(messages=(Message("user", PICTURE),), sampling=Sampling(max_tokens=64), seeds=(1, 2))
    server = []
    async with raw(refusing("messages", words, status)(server)) as (engine, running):
        server.append(running)
        with pytest.raises(CapabilityError, match="reads text only") as failure:
            await complete(engine, request)
    assert running.requests == 1
    assert not failure.value.retryable
    assert str(failure.value).count(": ") == str(failure.value).count(words) * words.count(": ") + 1


async def test_a_refusal_of_something_else_is_not_blamed_on_an_image():
    request = Request(messages=(Message("user", PICTURE),), sampling=Sampling(max_tokens=64), seeds=(1,))
    with pytest.raises(EngineError) as failure:
        await asked(refusing("messages", "the tool is unknown"), request)
    assert not isinstance(failure.value, CapabilityError)
