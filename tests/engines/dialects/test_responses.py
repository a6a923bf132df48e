"""What goes out to `responses`, and the finer points of what comes back."""

import pytest

from thinkscale.engines.dialects import Habits
from thinkscale.engines.dialects.responses import Responses
from thinkscale.engines.protocol import Request
from thinkscale.errors import CapabilityError
from thinkscale.types import Finish, Message, Origin, Sampling, Segment

ASK = (Message("user", "What is 2+2?"),)


def body(request, **habits):
    return Responses().body(request, "m", 1, Habits(**habits))


def test_a_plain_request_stores_nothing():
    assert body(Request(messages=ASK)) == {
        "model": "m",
        "input": [{"role": "user", "content": "What is 2+2?"}],
        "stream": True,
        "store": False,
    }


def test_every_wish_has_its_field():
    schema = {"name": "n", "schema": {"type": "object"}, "strict": True}
    tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
    sampling = Sampling(
        temperature=0.5,
        top_p=0.9,
        max_tokens=4,
        logprobs=2,
        effort="high",
        response_format={"type": "json_schema", "json_schema": schema},
        top_k=5,
        extra={"reasoning": {"summary": "auto"}, "user": "u"},
    )
    request = Request(messages=ASK, sampling=sampling, tools=(tool, {"type": "web_search"}))
    sent = body(request, sampling={"top_k": "top_k"}, always={"stream_options": {"include_usage": True}})
    assert sent == {
        "model": "m",
        "input": [{"role": "user", "content": "What is 2+2?"}],
        "stream": True,
        "store": False,
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 16,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "reasoning": {"effort": "high", "summary": "auto"},
        "text": {"format": {"type": "json_schema", **schema}},
        "top_k": 5,
        "tools": [
            {"type": "function", "strict": False, "name": "add", "parameters": {"type": "object"}},
            {"type": "web_search"},
        ],
        "user": "u",
    }


def test_a_conversation_becomes_items():
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a":2}'}}
    parts = (
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
        {"type": "file", "file": {"filename": "a.pdf", "file_data": "AA=="}},
    )
    messages = (
        Message("developer", "Be brief."),
        Message("user", parts),
        Message("assistant", "Adding.", {"tool_calls": [call]}),
        Message("tool", ({"type": "text", "text": "4"},), {"tool_call_id": "c1"}),
        Message("assistant", ({"type": "text", "text": "It is 4."},)),
    )
    assert body(Request(messages=messages))["input"] == [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See"},
                {"type": "input_image", "image_url": "data:image/png;base64,AA==", "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": "AA=="},
            ],
        },
        {"role": "assistant", "content": "Adding."},
        {"type": "function_call", "call_id": "c1", "name": "add", "arguments": '{"a":2}'},
        {"type": "function_call_output", "call_id": "c1", "output": "4"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "It is 4."}]},
    ]


@pytest.mark.parametrize(
    "request_",
    [
        Request(messages=ASK, prefix=(Segment(text="It", origin=Origin.sampled),)),
        Request(messages=ASK, continuation="4"),
        Request(messages=ASK, sampling=Sampling(grammar="root ::= x")),
    ],
    ids=["prefix", "likelihood", "grammar"],
)
def test_what_cannot_be_asked_for_is_refused(request_):
    with pytest.raises(CapabilityError):
        body(request_)


def test_an_error_event_is_the_servers_complaint():
    event = {"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "sequence_number": 3}
    assert Responses().news(event).error == event
    whole = Responses().whole({"error": {"message": "no"}}, Request(messages=ASK))
    assert whole.error == {"message": "no"}


@pytest.mark.parametrize("reason", ["max_output_tokens", "content_filter", None])
def test_an_incomplete_response_says_why(reason):
    response = {"status": "incomplete", "output": [], "incomplete_details": {"reason": reason} if reason else None}
    [piece] = Responses().news({"type": "response.incomplete", "response": response}).pieces
    wanted = {"max_output_tokens": Finish.length, "content_filter": Finish.error, None: Finish.length}
    assert piece.finish is wanted[reason]


@pytest.mark.parametrize("event", [{}, {"type": "response.queued"}, {"type": "response.completed"}, {"type": None}])
def test_events_that_only_frame_say_nothing(event):
    news = Responses().news(event)
    assert not news.pieces
    assert news.usage is None
    assert news.error is None
